package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/listing"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// VerifyRequest is a check of what lies on a host against the manifest of a
// transfer.
type VerifyRequest struct {
	Target   Endpoint // the directory that holds the manifest's top-level names
	Manifest string   // a file that --manifest has written
	Owner    string   // as the copy was made: name, numeric or USER:GROUP
	Ignore   []string // of control.Aspects
}

// VerifyReport is what the check has found.
type VerifyReport struct {
	ExitCode int
	Target   Endpoint
	Transfer string    // that the manifest is of
	Source   string    // HOST:PATH that it was read from
	Time     time.Time // when that transfer began
	Seconds  float64
	Result   *control.Verified // nil if the check could not be made
	Err      *sdk.Error        // why not
}

// partSize is how much of the compressed manifest is put in one file: what
// is held in memory at once on both hosts.
const partSize = 4 << 20

// Verify checks a directory on a host: an agent there reads all of it again
// and compares. Nothing is changed. The exit code is 0 where all is as the
// manifest has it, 3 where content differs or is missing, 1 where only
// attributes differ or something was added, 255 where it could not be
// checked, 130 and 143 after an interrupt. The error is the report's Err.
func Verify(ctx context.Context, req VerifyRequest, deps Deps, events Events) (*VerifyReport, error) {
	v := &verification{req: req, events: events, began: time.Now()}
	v.id = journal.NewID(v.began)
	v.report = &VerifyReport{Target: req.Target}
	err := v.run(ctx, deps)
	if err = interrupted(ctx, err); err != nil {
		if v.report.Err = sdkError(err); v.report.Err.Kind == sdk.KindCancelled {
			v.report.Err = &sdk.Error{Kind: sdk.KindCancelled, Message: "the check was stopped: " + err.Error()}
		}
		if v.report.ExitCode = exitOf(err); v.report.ExitCode != ExitSIGINT && v.report.ExitCode != ExitSIGTERM {
			v.report.ExitCode = ExitRefused
		}
	}
	v.report.Seconds = time.Since(v.began).Seconds()
	if v.report.Err != nil {
		return v.report, v.report.Err
	}
	return v.report, nil
}

// verification is one Verify under way.
type verification struct {
	id      string
	req     VerifyRequest
	events  Events
	began   time.Time
	report  *VerifyReport
	total   int64 // bytes to read
	tracker *progress.Tracker
	fleet   *remote.Fleet
}

func (v *verification) emit(e Event) {
	if v.events != nil {
		e.Time, e.Transfer = time.Now(), v.id
		v.events(e)
	}
}

func (v *verification) phase(name string) {
	v.emit(Event{Type: EventPhase, Phase: name, Message: name})
}

func (v *verification) run(ctx context.Context, deps Deps) error {
	deps, err := deps.complete()
	if err != nil {
		return err
	}
	clock, err := timings(Request{ControlLostFor: defaultHold})
	if err != nil {
		return err
	}
	file, err := os.Open(v.req.Manifest)
	if err != nil {
		return &sdk.Error{Kind: sdk.KindNotFound, Message: fmt.Sprintf("cannot read the manifest %s: %v", sdk.Raw(v.req.Manifest).Display(), err), Hint: "name a file that --manifest has written"}
	}
	defer file.Close()
	if err := v.look(ctx, file); err != nil {
		return err
	}
	v.fleet, err = newFleet(ctx, deps, Request{Source: v.req.Target}, func(host, arch, dir string) {
		v.emit(Event{Type: EventAgent, Host: host, Message: fmt.Sprintf("agent for %s placed in %s", arch, sdk.Raw(dir).Display())})
	})
	if err != nil {
		return err
	}
	if a := v.fleet.Probe(ctx, control.Probe{}, nil)[v.req.Target.Host]; a.Err != nil {
		return a.Err
	}
	return v.onHost(ctx, file, clock.lease)
}

// look reads the manifest once, so that one that was damaged is refused before
// any host is touched.
func (v *verification) look(ctx context.Context, file io.Reader) error {
	h, err := listing.Read(file, func(e manifest.Entry, _ manifest.Digest) error {
		if e.Type == sdk.FileRegular && e.HardLink == 0 {
			v.total += e.Size
		}
		return ctx.Err()
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("the manifest %s cannot be used: %v", sdk.Raw(v.req.Manifest).Display(), err), Hint: "name a file as --manifest has written it"}
	}
	v.report.Transfer, v.report.Source, v.report.Time = h.Transfer, h.Source, h.Time
	v.emit(Event{Type: EventPreflight, Total: v.total, Message: fmt.Sprintf("%d entries and %d bytes of transfer %s", h.Entries, v.total, h.Transfer)})
	return nil
}

// onHost sends the manifest, makes an agent and has it check. What was sent is
// removed by the agent that reads it, else here.
func (v *verification) onHost(ctx context.Context, file io.ReadSeeker, lease time.Duration) (err error) {
	host := v.req.Target.Host
	v.phase("send the manifest")
	parts := &parts{ctx: ctx, fleet: v.fleet, host: host}
	read := false
	defer func() {
		if !read {
			v.fleet.Withdraw(ctx, host, parts.paths())
		}
	}()
	if err := parts.send(file); err != nil {
		return err
	}
	v.phase("verify")
	agent, end, err := v.prepare(ctx, lease)
	defer end()
	if err != nil {
		return err
	}
	req := v.request(control.VerbVerify)
	req.Verify = &control.Verify{Dir: v.req.Target.Path, Parts: parts.list, Owner: v.req.Owner, Ignore: v.req.Ignore}
	c := repeated{fleet: v.fleet, host: host, agent: agent, silence: lease, running: func(a *control.Answer) {
		read = true // it was given to the agent
		v.progress(a.Verified)
	}}
	answer, err := c.ask(ctx, req)
	if err != nil {
		return err
	}
	if answer.Verified == nil {
		return &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "the agent told nothing of what it has found"}
	}
	read = true
	v.report.Result, v.report.ExitCode = answer.Verified, verifiedExit(answer.Verified)
	return nil
}

// verifiedExit is the exit code for what was found.
func verifiedExit(r *control.Verified) int {
	switch {
	case r.Missing+r.Differing > 0:
		return ExitDigest
	case r.Attributes+r.Additional > 0:
		return ExitFailed
	}
	return ExitOK
}

func (v *verification) progress(r *control.Verified) {
	if r == nil {
		return
	}
	if v.tracker == nil {
		v.tracker = progress.New(progress.Expected{Bytes: v.total, ReadBack: true})
	}
	reading := progress.Reading{Host: v.req.Target.Host, Path: v.req.Target.Path, At: time.Now(),
		Status: control.MemberStatus{Name: memberName(0), Phase: control.PhaseVerifying, Bytes: v.total, Checked: r.Checked, Total: v.total}}
	members := v.tracker.Add([]progress.Reading{{}, reading}) // there is no source
	v.emit(Event{Type: EventProgress, Host: v.req.Target.Host, Total: v.total, Members: members[1:]})
}

func (v *verification) request(verb control.Verb) control.Request {
	return control.Request{Verb: verb, Transfer: v.id, Generation: 1, Call: control.NewID()}
}

// verifyNice is the nice value of an agent that only reads and compares.
const verifyNice = 10

// prepare makes an agent that takes part in no transfer. end ends it, whatever
// became of prepare; an agent that nobody can reach any more ends by its lease.
func (v *verification) prepare(ctx context.Context, lease time.Duration) (agent string, end func(), err error) {
	host := v.req.Target.Host
	end = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		e := ending{fleet: v.fleet, request: v.request, absorb: func(map[string]remote.Answer) {}}
		if left := e.end(ctx, []string{host}); left[host] != nil {
			v.emit(Event{Type: EventWarning, Host: host, Message: "the agent could not be ended; it ends by itself: " + left[host].Error()})
		}
	}
	req := v.request(control.VerbPrepare)
	req.Prepare = &control.Prepare{Alone: true, Lease: lease, Hold: lease, Nice: verifyNice}
	answer := v.fleet.Retry(ctx, callTries, req, host)[host]
	if ctx.Err() != nil {
		return "", end, context.Cause(ctx)
	}
	if answer.Err != nil {
		return "", end, answer.Err
	}
	ready, refused := readyAgent(host, answer.Reply)
	if refused != nil {
		return "", end, refused
	}
	return ready.Agent, end, nil
}

// parts puts a stream on a host, in files of partSize.
type parts struct {
	ctx   context.Context
	fleet *remote.Fleet
	host  string
	buf   []byte
	list  []control.VerifyPart
}

// send compresses the file on its way.
func (p *parts) send(file io.ReadSeeker) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := zstd.NewWriter(p, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(4<<20))
	if err != nil {
		return err
	}
	_, err = io.Copy(z, file)
	if err = errors.Join(err, z.Close()); err != nil {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		return err
	}
	return p.put(len(p.buf))
}

// Write implements io.Writer.
func (p *parts) Write(b []byte) (int, error) {
	p.buf = append(p.buf, b...)
	for len(p.buf) >= partSize {
		if err := p.put(partSize); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// put puts the first n bytes of what is gathered.
func (p *parts) put(n int) error {
	if n == 0 {
		return nil
	}
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	path, failed := p.fleet.Put(p.ctx, p.host, p.buf[:n])
	if failed != nil {
		return failed
	}
	sum := sha256.Sum256(p.buf[:n])
	p.list = append(p.list, control.VerifyPart{Path: path, Digest: hex.EncodeToString(sum[:])})
	p.buf = append(p.buf[:0], p.buf[n:]...)
	return nil
}

func (p *parts) paths() []sdk.Raw {
	var list []sdk.Raw
	for _, part := range p.list {
		list = append(list, part.Path)
	}
	return list
}

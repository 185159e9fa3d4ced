package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/process"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// target is a member that writes, and passes on to the next.
type target struct {
	job    *Job
	chain  *chain
	member control.Member
	index  int
	meter  *meter

	incoming chan *link.Conn // proven connections, handed over by the acceptor
	arrivals *arrivals       // the data
	feeder   atomic.Int32    // the member that it comes from, by its place in the chain
	renewed  chan *link.Conn // notes made anew by the source
	repairs  chan *link.Conn // links of repair passes, by the source
	kept     *inherited      // what earlier attempts have left
	began    chan struct{}   // closed by the source's begin note
	once     sync.Once
	life     *life
	local    context.Context         // of its own work: what it passes on goes on without
	giveUp   context.CancelCauseFunc // ends that
	round    uint32                  // the number of its last need-list
	pass     uint32                  // the last repair pass that it took

	mu      sync.Mutex
	staging *staging.Staging
	notes   *link.Conn
	said    []note // what the source was told; told again on new notes
}

func newTarget(j *Job, c *chain, index int) *target {
	m := c.plan.Members[index]
	t := &target{job: j, chain: c, member: m, index: index, meter: newMeter(m.Name, j.cfg.Changed),
		incoming: make(chan *link.Conn, 8), renewed: make(chan *link.Conn, 1), repairs: make(chan *link.Conn, 1), kept: &inherited{}, began: make(chan struct{})}
	t.arrivals = newArrivals(m, c.plan.Members[index-1], t.patience(), t.meter)
	t.feeder.Store(int32(index - 1))
	return t
}

// patience is how long a target waits for a peer to come back: a little
// longer than the peer tries.
func (t *target) patience() time.Duration { return t.chain.plan.Settings.RetryFor + link.Silence }

// spec names the staging directory, for its undo.
func (t *target) spec() staging.Spec {
	return staging.Spec{Transfer: t.job.cfg.Transfer, Member: t.member.Name, Dest: *t.member.Destination}
}

func (t *target) undoID() string { return "settle-" + t.member.Name }

// stage makes the staging directory, its undo first.
func (t *target) stage() error {
	spec := t.spec()
	if err := t.job.cfg.Undo.Defer(undo.Record{
		Undo:   sdk.Undo{ID: t.undoID(), What: "remove what is staged in " + spec.Dest.Dir.Display(), When: sdk.WhenEnd},
		Settle: &spec,
	}); err != nil {
		return err
	}
	begin := staging.Create
	if t.job.cfg.Resume {
		begin = staging.Resume
	}
	st, err := begin(spec)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.staging = st
	t.mu.Unlock()
	return t.inherit(st)
}

// inherit opens what earlier attempts have left; of no use to a stream, which
// is taken in order from its beginning on, nor without digests.
func (t *target) inherit(st *staging.Staging) error {
	if t.chain.stream() || !t.chain.digests() {
		return st.DropKept()
	}
	if t.job.cfg.Resume {
		t.kept = openInherited(st, t.sinkOptions(), func(err error) {
			t.job.cfg.Log.Warn("what an earlier attempt has left is of no use", "error", err)
		})
		if t.kept.useless() {
			t.kept.close()
			return st.DropKept()
		}
	}
	return nil
}

// sinkOptions say how entries become files here.
func (t *target) sinkOptions() tree.SinkOptions {
	return tree.SinkOptions{Owner: t.chain.plan.Settings.Owner, Root: os.Geteuid() == 0}
}

// run is the target's whole life up to its being verified: link, receive,
// say what is missing, verify.
func (t *target) run(ctx context.Context) error {
	err := t.live(ctx)
	if err != nil {
		t.job.group.Go(func() { t.answerNotes(t.job.ctx) })
	}
	return err
}

// live is run without what comes after a failure.
func (t *target) live(ctx context.Context) error {
	t.meter.enter(control.PhaseLinking)
	t.life = newLife(ctx)
	defer t.life.end()
	ctx = t.life.ctx
	t.local, t.giveUp = context.WithCancelCause(ctx)
	defer t.giveUp(errEnded)
	if err := t.stage(); err != nil {
		t.introduce(ctx)
		return t.fail(err)
	}
	in, out, err := t.linkUp(ctx)
	if err != nil {
		return t.fail(because(ctx, err))
	}
	defer in.Close()
	if out != nil {
		defer out.close()
	}
	t.job.group.Go(func() { t.route(t.job.ctx) })
	t.meter.enter(control.PhaseReady)
	t.say(note{Type: noteReady, Kept: t.kept.states()})
	select {
	case <-t.began:
	case <-ctx.Done():
		return t.fail(context.Cause(ctx))
	}
	t.meter.enter(control.PhaseMoving)
	if err := t.receive(ctx, in, out); err != nil {
		return t.fail(err)
	}
	t.meter.enter(control.PhaseVerified)
	t.say(note{Type: noteVerified})
	// Until it is stopped: the source may still ask what it has not heard,
	// and want the controller to be woken.
	<-ctx.Done()
	return nil
}

// sourceFailed is what a target says when its source gave up.
func (t *target) sourceFailed(e *sdk.Error) error {
	if e == nil {
		e = &sdk.Error{Kind: sdk.KindInternal, Message: "without a reason"}
	}
	if e.Host == t.member.Host && e.Kind != sdk.KindChanged { // our own failure, come back
		return e
	}
	return &sdk.Error{Kind: e.Kind, Host: t.member.Host, Message: "the source has failed: " + e.Message, Hint: e.Hint, Stderr: e.Stderr}
}

// say tells the source, now and again on every new connection.
func (t *target) say(n note) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.Type == noteNeed { // only the last one matters
		t.said = slices.DeleteFunc(t.said, func(old note) bool { return old.Type == noteNeed })
	}
	t.said = append(t.said, n)
	if t.notes != nil {
		_ = t.notes.WriteMessage(n) // a lost link is seen by its reader
	}
}

// fail records the target's failure and tells the source.
func (t *target) fail(err error) error {
	if errors.Is(err, errStopped) {
		err = &sdk.Error{Kind: sdk.KindCancelled, Message: "stopped"}
	}
	e := *sdk.AsError(err)
	if e.Host == "" {
		e.Host = t.member.Host
	}
	if !t.meter.fail(&e) {
		return &e
	}
	t.say(note{Type: noteFailed, Error: &e})
	return &e
}

// commit publishes what is verified.
func (t *target) commit(ctx context.Context) error {
	t.mu.Lock()
	st := t.staging
	t.mu.Unlock()
	if at := t.meter.at(); at == control.PhaseCommitted {
		return nil
	} else if at != control.PhaseVerified || st == nil {
		return &sdk.Error{Kind: sdk.KindInternal, Host: t.member.Host, Message: fmt.Sprintf("%s cannot be committed: it is %s", t.member.Name, at)}
	}
	paths, err := st.Publish(ctx, func(ctx context.Context, cmd sdk.Command) sdk.Result { return process.Run(ctx, cmd, process.Limits{}) })
	if err != nil && len(paths) == 0 {
		return t.fail(err)
	}
	t.meter.set(func(m *meter) { m.paths = paths })
	t.meter.enter(control.PhaseCommitted)
	if err != nil { // published, but the staging directory is still there: its undo finishes that
		t.meter.warn(control.Warning{What: "the staging directory could not be removed at once: " + err.Error(), Count: 1, Example: t.member.Destination.Dir})
		return nil
	}
	return t.job.cfg.Undo.MarkDone(t.undoID())
}

// release gives up the lock of the staging directory, so that its undo may
// settle it.
func (t *target) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept.close()
	if t.staging != nil {
		t.staging.Close()
	}
}

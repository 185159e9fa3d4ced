package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/process"
	"github.com/transferpy/transferpy/core/agent/staging"
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
	renewed  chan *link.Conn // notes made anew by the source
	began    chan struct{}   // closed by the source's begin note
	once     sync.Once

	mu      sync.Mutex
	staging *staging.Staging
	notes   *link.Conn
	said    []note // what the source was told; told again on new notes
}

func newTarget(j *Job, c *chain, index int) *target {
	m := c.plan.Members[index]
	t := &target{job: j, chain: c, member: m, index: index, meter: &meter{name: m.Name, phase: control.PhasePrepared, changed: j.cfg.Changed},
		incoming: make(chan *link.Conn, 8), renewed: make(chan *link.Conn, 1), began: make(chan struct{})}
	t.arrivals = newArrivals(m, c.plan.Members[index-1], t.patience(), t.meter)
	return t
}

// patience is how long a target waits for a peer to come back: a little
// longer than the peer tries.
func (t *target) patience() time.Duration { return t.chain.plan.Settings.RetryFor + link.Silence }

// route hands connections that are made anew to those who wait for them, for
// as long as the job lives.
func (t *target) route(ctx context.Context) {
	for {
		select {
		case conn := <-t.incoming:
			switch conn.Hello.Purpose {
			case link.PurposeData:
				t.arrivals.replace(conn)
			case link.PurposeNotes:
				select {
				case t.renewed <- conn:
				default:
					conn.Close() // the one before was not taken yet
				}
			default:
				conn.Close()
			}
		case <-ctx.Done():
			return
		}
	}
}

// deliver takes a connection that was proven to be meant for this member.
func (t *target) deliver(conn *link.Conn) {
	select {
	case t.incoming <- conn:
	default:
		conn.Close() // a peer that dials again and again
	}
}

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
	st, err := staging.Create(spec)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.staging = st
	t.mu.Unlock()
	return nil
}

// run is the target's whole life up to its being verified: link, receive,
// say what is missing, verify.
func (t *target) run(ctx context.Context) error {
	t.meter.enter(control.PhaseLinking)
	notes, notesCtx := errgroup.WithContext(ctx)
	defer notes.Wait()
	ctx, cancel := context.WithCancelCause(notesCtx)
	defer cancel(errEnded)
	if err := t.stage(); err != nil {
		return t.fail(err, t.introduce(ctx, notes))
	}
	in, out, err := t.linkUp(ctx, notes, cancel)
	if err != nil {
		return t.fail(because(ctx, err), nil)
	}
	defer in.Close()
	if out != nil {
		defer out.close()
	}
	t.job.group.Go(func() { t.route(t.job.ctx) })
	t.meter.enter(control.PhaseReady)
	t.say(note{Type: noteReady})
	select {
	case <-t.began:
	case <-ctx.Done():
		return t.fail(context.Cause(ctx), nil)
	}
	t.meter.enter(control.PhaseMoving)
	if err := t.receive(ctx, in, out); err != nil {
		return t.fail(err, nil)
	}
	t.meter.enter(control.PhaseVerified)
	t.say(note{Type: noteVerified})
	// Until it is stopped: the source may still ask what it has not heard,
	// and want the controller to be woken.
	return notes.Wait()
}

// introduce waits for the source's notes only, so that a failure before the
// links were made can be told.
func (t *target) introduce(ctx context.Context, notes *errgroup.Group) *link.Conn {
	timer := time.NewTimer(t.chain.plan.Settings.LinkTimeout)
	defer timer.Stop()
	for {
		select {
		case conn := <-t.incoming:
			if conn.Hello.Purpose == link.PurposeNotes {
				return conn
			}
			conn.Close()
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// linkUp waits for all incoming links and makes the outgoing ones; out is nil
// for the last of the chain.
func (t *target) linkUp(ctx context.Context, notes *errgroup.Group, cancel context.CancelCauseFunc) (*link.Conn, *outgoing, error) {
	within, stop := context.WithTimeout(ctx, t.chain.plan.Settings.LinkTimeout)
	defer stop()
	var out *link.Conn
	dial, dialCtx := errgroup.WithContext(within)
	dial.Go(func() (err error) {
		out, err = t.job.dialNext(dialCtx, t.chain, t.index)
		return err
	})
	in, err := t.gather(dialCtx, within, notes, ctx, cancel)
	if derr := dial.Wait(); err == nil || derr != nil && errors.Is(err, context.Canceled) {
		err = derr
	}
	if err != nil {
		for _, c := range []*link.Conn{in, out} {
			if c != nil {
				c.Close()
			}
		}
		return nil, nil, err
	}
	if out == nil {
		return in, nil, nil
	}
	t.meter.set(func(m *meter) { m.peer = out.Address })
	return in, t.job.newOutgoing(out, t.chain, t.index), nil
}

// gather collects the incoming links; it returns the one that data comes by.
func (t *target) gather(ctx, within context.Context, notes *errgroup.Group, life context.Context, cancel context.CancelCauseFunc) (*link.Conn, error) {
	want := t.chain.incoming(t.index)
	var data *link.Conn
	for len(want) > 0 {
		select {
		case conn := <-t.incoming:
			key := slot(conn.Hello.From, conn.Hello.Purpose)
			if !want[key] {
				conn.Close()
				continue
			}
			delete(want, key)
			switch conn.Hello.Purpose {
			case link.PurposeNotes:
				t.mu.Lock()
				t.notes = conn
				t.mu.Unlock()
				notes.Go(func() error { t.listen(life, conn, cancel); return nil })
			case link.PurposeData:
				data = conn
			default:
				conn.Close() // the way is open: that was all
			}
		case <-ctx.Done():
			if within.Err() == nil || !errors.Is(within.Err(), context.DeadlineExceeded) {
				return data, context.Cause(ctx)
			}
			return data, &sdk.Error{Kind: sdk.KindUnreachable, Host: t.member.Host,
				Message: fmt.Sprintf("%s was not reached by %s within %s", t.member.Name, keys(want), t.chain.plan.Settings.LinkTimeout),
				Hint:    fmt.Sprintf("open port %d of the host to them", t.member.Port)}
		}
	}
	return data, nil
}

// listen takes the source's notes. A connection that ends is replaced by the
// one that the source makes anew. If none comes before this target is
// verified, nothing can be completed any more.
func (t *target) listen(ctx context.Context, conn *link.Conn, cancel context.CancelCauseFunc) {
	for conn != nil {
		err := exchange(ctx, conn, func(n note) {
			switch n.Type {
			case noteBegin:
				t.once.Do(func() { close(t.began) })
				t.job.flow()
			case noteSourceDone:
				t.job.released()
			case noteWake:
				t.job.cfg.Changed()
			case noteFailed:
				cancel(t.sourceFailed(n.Error))
			}
		})
		if conn, err = t.awaitNotes(ctx, err); err != nil {
			cancel(err)
		}
	}
}

// awaitNotes waits for new notes and repeats on them what was said. It returns
// nil when ctx has ended.
func (t *target) awaitNotes(ctx context.Context, why error) (*link.Conn, error) {
	var timeout <-chan time.Time
	if t.meter.at() != control.PhaseVerified {
		timer := time.NewTimer(t.patience())
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case conn := <-t.renewed:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.notes = conn
		for _, n := range t.said {
			if conn.WriteMessage(n) != nil {
				break // its reader sees why
			}
		}
		return conn, nil
	case <-timeout:
		return nil, &sdk.Error{Kind: sdk.KindUnreachable, Host: t.member.Host,
			Message: fmt.Sprintf("the link to the source on %s was lost, and was not made again within %s: %v", t.chain.plan.Members[0].Host, t.patience(), why),
			Hint:    "see whether the source host and its agent live, then run the transfer again"}
	case <-ctx.Done():
		return nil, nil
	}
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
	t.said = append(t.said, n)
	if t.notes != nil {
		_ = t.notes.WriteMessage(n) // a lost link is seen by its reader
	}
}

// fail records the target's failure and tells the source, by conn if there is
// no other way yet.
func (t *target) fail(err error, conn *link.Conn) error {
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
	n := note{Type: noteFailed, Error: &e}
	if conn != nil {
		_ = conn.WriteMessage(n)
	} else {
		t.say(n)
	}
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
		return t.fail(err, nil)
	}
	t.meter.set(func(m *meter) { m.paths = paths })
	t.meter.enter(control.PhaseCommitted)
	if err != nil { // published, but the staging directory is still there: its undo finishes that
		t.meter.warn(control.Warning{What: "the staging directory could not be removed at once: " + err.Error(), Count: 1, Example: t.member.Destination.Dir})
		return nil
	}
	return t.job.cfg.Undo.MarkDone(t.undoID())
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// release gives up the lock of the staging directory, so that its undo may
// settle it.
func (t *target) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.staging != nil {
		t.staging.Close()
	}
}

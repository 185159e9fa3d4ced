// Package agent runs one agent's share of one transfer: it builds the
// pipeline of each of its members from the parts below it (link, relay,
// frame, tree, manifest, staging, process) and owns their goroutines.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// Config is what a Job needs from the process that it runs in.
type Config struct {
	Transfer string
	Agent    string
	StateDir string // 0700, this agent's own
	LogDir   string // where logs of commands are kept for longer than the agent; empty: none are
	Identity *link.Identity
	Listener net.Listener // the Job closes it
	Undo     *undo.Log
	Log      *slog.Logger
	// Changed is called, from any goroutine and without locks held, when
	// something happened that the controller wants to know at once: the
	// waiting answers go out. Never for mere progress.
	Changed func()
	// Wanted is called likewise when something wants the controller: then also
	// the answers go out that wait for a phase.
	Wanted func()
	// Keep says that what this attempt moves is to be of use to another:
	// targets write checkpoints, so much time apart.
	Keep       bool
	Checkpoint time.Duration // 0: control.CheckpointEvery
	// Resume says that earlier attempts may have left something; Kept are the
	// state directories of their agents here, the newest first.
	Resume bool
	Kept   []string
	// SourceDone is called once, likewise, when nothing will be read from
	// the source any more: the undos of that moment are due. It is no change
	// in the sense of Changed unless such an undo ran.
	SourceDone func()
}

// badMemory alters what an agent holds, as bad memory does. It is how this
// package's tests show that whatever is altered after it was read is found.
type badMemory struct {
	// content is shown what the source has read and hashed, before it is
	// compressed or copied into a frame. Called from several goroutines.
	content func(b []byte)
	// frame is shown what is sealed, or came from another agent, before it is
	// sent; what it returns is sent instead, and it takes over the hold.
	frame func(p relay.Packet) relay.Packet
}

// Why a job's goroutines are told to end.
var (
	errStopped = errors.New("stopped")
	errEnded   = errors.New("ended")
)

// member is one end of the transfer in this agent.
type member interface {
	// run does all up to being verified; its failure is in the status too.
	run(ctx context.Context) error
	// deliver takes an incoming connection and owns it.
	deliver(conn *link.Conn)
	// wake makes other agents, as far as it can tell them anything, answer
	// their waiting controller.
	wake()
}

// Job is one agent's share of a transfer. Its methods may be called from
// several goroutines at once.
type Job struct {
	cfg   Config
	ctx   context.Context
	stop  context.CancelCauseFunc
	group sync.WaitGroup
	begun chan struct{} // closed by Begin
	bad   badMemory     // of this agent; only tests of this package have any
	keeps int64         // what a source keeps for feeds, in bytes; tests have it keep less

	// at, if set, is told when a target reaches a point; tests disturb it
	// there.
	at func(p point, s sink)
	// segment, if set, is how many bytes the segments of pass 1 have; tests
	// want several of little data.
	segment int
	// stretch, if set, takes the place of slowStretch; tests have less time.
	stretch time.Duration
	// buffers, if set, is what a target holds instead of targetBudget.
	buffers int64

	mu      sync.Mutex
	started bool
	stopped bool
	isBegun bool
	isFlow  bool
	isDone  bool
	members map[string]member
	meters  []*meter
	targets map[string]*target
	closed  *closedPorts // nil before Start
}

// New makes a Job that waits for its plan.
func New(cfg Config) *Job {
	ctx, stop := context.WithCancelCause(context.Background())
	return &Job{cfg: cfg, ctx: ctx, stop: stop, begun: make(chan struct{}), keeps: keptBytes, members: make(map[string]member), targets: make(map[string]*target)}
}

// Start checks the plan and starts this agent's members; it does not wait for
// them. A second Start is refused.
func (j *Job) Start(plan *control.Start) error {
	c, err := newChain(plan, j.cfg.Agent)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.started || j.stopped {
		return &sdk.Error{Kind: sdk.KindInternal, Message: "the agent has its plan already, or was stopped"}
	}
	j.started = true
	c.closed.want, j.closed = j.want, c.closed
	for i, m := range plan.Members {
		switch {
		case m.Agent != j.cfg.Agent:
		case i == 0:
			s := newSource(j, c)
			j.add(m.Name, s, s.meter)
		default:
			t := newTarget(j, c, i)
			j.targets[m.Name] = t
			j.add(m.Name, t, t.meter)
		}
	}
	acceptor := c.acceptor(j.cfg.Identity, j.cfg.Transfer, j.deliver)
	acceptor.Check = func(h link.Hello) error {
		if err := c.checkHello(h); err != nil || h.Purpose != link.PurposeData {
			return err
		}
		return j.admits(c, h)
	}
	j.group.Go(func() { acceptor.Serve(j.ctx, j.cfg.Listener) })
	j.group.Go(j.remind)
	for name, m := range j.members {
		j.group.Go(func() {
			if err := m.run(j.ctx); err != nil {
				j.cfg.Log.Warn("member ended", "member", name, "error", err)
			}
		})
	}
	return nil
}

// admits refuses data from a member that was passed by, or for one.
func (j *Job) admits(c *chain, h link.Hello) error {
	j.mu.Lock()
	t := j.targets[h.To]
	j.mu.Unlock()
	if t == nil {
		return nil
	}
	return t.admits(c.index(h.From))
}

// add is called with the lock held.
func (j *Job) add(name string, m member, meter *meter) {
	j.members[name] = m
	j.meters = append(j.meters, meter)
}

// deliver gives a proven connection to the member that it is for.
func (j *Job) deliver(conn *link.Conn) {
	j.mu.Lock()
	m := j.members[conn.Hello.To]
	j.mu.Unlock()
	if m == nil {
		conn.Close()
		return
	}
	m.deliver(conn)
}

// hello is what member from says to member to.
func (j *Job) hello(from, to string, p link.Purpose, plain bool) link.Hello {
	return link.Hello{Transfer: j.cfg.Transfer, From: from, To: to, Purpose: p, Plain: plain}
}

// dialNext makes member i's links down the chain: the one for data to the
// next, which it returns (nil for the last), and the proof that the one after
// it could be reached if the next one failed.
func (j *Job) dialNext(ctx context.Context, c *chain, i int) (*link.Conn, error) {
	members := c.plan.Members
	var data *link.Conn
	group, ctx := errgroup.WithContext(ctx)
	dial := func(k int, p link.Purpose, plain bool) (*link.Conn, error) {
		return c.dialer(ctx, j.cfg.Identity, members[k]).Dial(ctx, j.hello(members[i].Name, members[k].Name, p, plain))
	}
	if i+1 < len(members) {
		group.Go(func() (err error) {
			data, err = dial(i+1, link.PurposeData, !c.plan.Settings.Encrypt)
			return err
		})
	}
	if i+2 < len(members) {
		group.Go(func() error {
			proof, err := dial(i+2, link.PurposeProof, false)
			if err == nil {
				proof.Close()
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		if data != nil {
			data.Close()
		}
		return nil, err
	}
	return data, nil
}

// refusedFor is how long a peer whose links were proven may refuse before its
// agent counts as dead, where no firewall is in play.
const refusedFor = 3 * time.Second

// newOutgoing is the sending end from member i to the next, over a connection
// that was proven already, or nil. The time that it is blocked goes to m.
func (j *Job) newOutgoing(conn *link.Conn, c *chain, i int, m *meter) *outgoing {
	from, next := c.plan.Members[i], c.plan.Members[i+1]
	o := newOutgoing(conn, next, c.plan.Settings.RetryFor)
	if conn != nil {
		conn.Measure(&m.sending)
	}
	o.alter, o.refused = j.bad.frame, c.refusedFor()
	o.dial = func(ctx context.Context, to control.Member, refused time.Duration) (*link.Conn, error) {
		j.cfg.Log.Warn("data link lost, or another one needed: dialling", "from", from.Name, "to", to.Name)
		d := c.dialer(ctx, j.cfg.Identity, to)
		d.Refused = refused
		m.sending.Start()
		defer m.sending.Stop()
		conn, err := d.Dial(ctx, j.hello(from.Name, to.Name, link.PurposeData, !c.plan.Settings.Encrypt))
		if err == nil {
			conn.Measure(&m.sending)
			if to.Name == next.Name {
				m.set(func(m *meter) { m.peer = conn.Address })
			}
		}
		return conn, err
	}
	return o
}

// guard runs work, which may block on o's connection, and cuts that when ctx
// ends.
func (j *Job) guard(ctx context.Context, o *outgoing, work func() error) error {
	stop := context.AfterFunc(ctx, o.cut)
	defer stop()
	return work()
}

// point is where in a target's life a disturbance matters.
type point string

const (
	pointOpened point = "opened" // the sink is made, and nothing has come yet
	pointPassed point = "passed" // a pass has ended, and what is missing is not told yet
	pointSynced point = "synced" // all is on the disk, and not read back yet
)

func (j *Job) reached(p point, s sink) {
	if j.at != nil {
		j.at(p, s)
	}
}

// checkpoints is how much time lies between two; 0: there are none.
func (j *Job) checkpoints() time.Duration {
	switch {
	case !j.cfg.Keep:
		return 0
	case j.cfg.Checkpoint > 0:
		return j.cfg.Checkpoint
	}
	return control.CheckpointEvery
}

// Begin lets data flow: the mode's Begin has ended.
func (j *Job) Begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.isBegun {
		j.isBegun = true
		close(j.begun)
	}
}

// flow marks that data flows from now on.
func (j *Job) flow() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.isFlow = true
}

// released marks that nothing is read from the source any more.
func (j *Job) released() {
	j.mu.Lock()
	first := !j.isDone
	j.isDone = true
	j.mu.Unlock()
	if first {
		j.cfg.SourceDone()
	}
}

// Commit publishes the named members that are this agent's and verified, and
// returns when they are published or have failed. What a member failed of is
// in its status as well.
func (j *Job) Commit(ctx context.Context, members []string) error {
	j.mu.Lock()
	var mine []*target
	for _, name := range members {
		if t := j.targets[name]; t != nil {
			mine = append(mine, t)
		}
	}
	j.mu.Unlock()
	errs := make([]error, len(mine))
	var wg sync.WaitGroup
	for i, t := range mine {
		wg.Go(func() { errs[i] = t.commit(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Members tells the state of this agent's members; empty before Start.
func (j *Job) Members() []control.MemberStatus {
	j.mu.Lock()
	meters := j.meters
	j.mu.Unlock()
	out := make([]control.MemberStatus, 0, len(meters))
	for _, m := range meters {
		out = append(out, m.status())
	}
	return out
}

// Flowing reports whether data flows or has flowed: from then on the agent
// holds on without its controller.
func (j *Job) Flowing() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.isFlow
}

// SourceDone reports whether nothing will be read from the source any more,
// as far as this agent knows.
func (j *Job) SourceDone() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.isDone
}

// Stop ends all members, kills what they started, closes the listener and
// returns when every goroutine of the Job has ended or ctx has. It undoes
// nothing: that is the undo log's work, afterwards.
func (j *Job) Stop(ctx context.Context) error {
	j.mu.Lock()
	j.stopped = true
	started := j.started
	targets := j.targets
	j.mu.Unlock()
	j.stop(errStopped)
	if !started {
		return j.cfg.Listener.Close()
	}
	done := make(chan struct{})
	go func() { // ends with the job's own goroutines
		defer close(done)
		j.group.Wait()
		for _, t := range targets {
			t.release()
		}
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

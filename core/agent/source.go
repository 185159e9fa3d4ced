package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// The budget of a source: what is read and not yet sent. The parcels under
// way cannot need more than it, so the oldest one never waits for the others.
const (
	sourceBudget = 64 << 20
	maxParcels   = 16
)

// source is the member that reads.
type source struct {
	job   *Job
	chain *chain
	meter *meter
	begun <-chan struct{} // closed when the mode's Begin has ended

	mu      sync.Mutex
	peers   []*peer // one for each target, in the order of the chain
	changed chan struct{}
}

// peer is what the source knows of one target.
type peer struct {
	member control.Member
	conn   *link.Conn // notes; nil until linked
	ready  bool
	needed bool // its need-list has come, and it was empty
	phase  control.Phase
	err    *sdk.Error
}

func newSource(j *Job, c *chain) *source {
	s := &source{job: j, chain: c, meter: &meter{name: c.plan.Members[0].Name, phase: control.PhasePrepared, changed: j.cfg.Changed},
		begun: j.begun, changed: make(chan struct{}, 1)}
	for _, m := range c.plan.Members[1:] {
		s.peers = append(s.peers, &peer{member: m})
	}
	return s
}

// run is the source's whole life: link, wait for Begin, read and send, serve
// need-lists, wait until every target is settled.
func (s *source) run(ctx context.Context) error {
	s.meter.enter(control.PhaseLinking)
	notes, notesCtx := errgroup.WithContext(ctx)
	defer notes.Wait()
	ctx, cancel := context.WithCancelCause(notesCtx)
	defer cancel(errEnded)
	data, err := s.linkUp(ctx, notes)
	if err != nil {
		return s.fail(err)
	}
	defer data.Close()
	if err := s.awaitBegin(ctx); err != nil {
		return s.fail(err)
	}
	s.job.flow() // before it is told: new notes repeat it
	s.broadcast(note{Type: noteBegin})
	s.meter.enter(control.PhaseMoving)
	if err := s.pass(ctx, data); err != nil {
		return s.fail(err)
	}
	if err := s.await(ctx, 0, func(p *peer) bool { return p.needed || p.err != nil }); err != nil {
		return s.fail(err)
	}
	s.meter.enter(control.PhaseReadDone)
	s.job.released()
	s.broadcast(note{Type: noteSourceDone})
	if err := s.await(ctx, 0, func(p *peer) bool { return p.phase == control.PhaseVerified || p.err != nil }); err != nil {
		return s.fail(err)
	}
	s.meter.enter(control.PhaseVerified)
	s.wakeAll()
	return nil
}

// linkUp dials every target's notes and the chain's first link, and waits
// until all links of all targets are proven.
func (s *source) linkUp(ctx context.Context, notes *errgroup.Group) (*link.Conn, error) {
	within, cancel := context.WithTimeout(ctx, s.chain.plan.Settings.LinkTimeout)
	defer cancel()
	out, err := s.job.dialNext(within, s.chain, 0)
	if err != nil {
		return nil, err
	}
	s.meter.set(func(m *meter) { m.peer = out.Address })
	dials, within := errgroup.WithContext(within)
	dials.SetLimit(64)
	for _, p := range s.peers {
		dials.Go(func() error {
			conn, err := s.chain.dialer(within, s.job.cfg.Identity, p.member).Dial(within,
				s.job.hello(s.meter.name, p.member.Name, link.PurposeNotes, false))
			if err != nil {
				return err
			}
			s.set(func() { p.conn = conn })
			notes.Go(func() error { s.listen(ctx, p, conn); return nil })
			return nil
		})
	}
	if err := dials.Wait(); err != nil {
		out.Close()
		return nil, err
	}
	err = s.await(ctx, s.chain.plan.Settings.LinkTimeout, func(p *peer) bool { return p.ready || p.err != nil })
	if err == nil {
		err = s.firstError()
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	s.meter.enter(control.PhaseReady)
	return out, nil
}

// firstError is the first target's failure: before anything was read, one
// target that cannot take part refuses the whole.
func (s *source) firstError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if p.err != nil {
			e := *p.err
			e.Host = s.chain.plan.Members[0].Host // it is the source that gives up
			e.Message = fmt.Sprintf("%s on %s failed: %s", p.member.Name, p.member.Host, e.Message)
			return &e
		}
	}
	return nil
}

// awaitBegin waits until data may flow.
func (s *source) awaitBegin(ctx context.Context) error {
	if !s.chain.plan.Begins {
		return nil
	}
	s.wakeAll()
	select {
	case <-s.begun:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// listen takes a target's notes. A connection that ends before the target is
// settled is made anew for as long as a peer may stay away.
func (s *source) listen(ctx context.Context, p *peer, conn *link.Conn) {
	for {
		err := exchange(ctx, conn, func(n note) {
			switch n.Type {
			case noteReady:
				s.set(func() { p.ready = true })
			case noteNeed:
				s.set(func() { s.need(p, n) })
			case noteVerified:
				s.set(func() { p.phase = control.PhaseVerified })
			case noteFailed:
				s.set(func() { p.failed(n.Error) })
				s.wakeAll()
			}
		})
		if ctx.Err() != nil || s.isSettled(p) {
			return
		}
		if conn, err = s.redial(ctx, p, err); err != nil {
			s.set(func() { p.failed(sdk.AsError(err)) })
			s.wakeAll()
			return
		}
	}
}

func (s *source) isSettled(p *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.phase == control.PhaseVerified || p.err != nil
}

// redial makes a target's notes anew, and repeats on them what the target may
// have missed.
func (s *source) redial(ctx context.Context, p *peer, why error) (*link.Conn, error) {
	retry := s.chain.plan.Settings.RetryFor
	ctx, cancel := context.WithTimeout(ctx, retry)
	defer cancel()
	s.job.cfg.Log.Warn("notes lost, dialling again", "to", p.member.Name, "error", why)
	d := s.chain.dialer(ctx, s.job.cfg.Identity, p.member)
	d.Refused = refusedFor
	conn, err := d.Dial(ctx, s.job.hello(s.meter.name, p.member.Name, link.PurposeNotes, false))
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindUnreachable, Host: p.member.Host,
			Message: fmt.Sprintf("the link to the source was lost (%v), and could not be made again within %s: %v", why, retry, err),
			Hint:    "see whether the host and its agent live, then run the transfer again"}
	}
	s.set(func() { p.conn = conn })
	for _, n := range s.told() {
		if conn.WriteMessage(n) != nil {
			break // its reader sees why
		}
	}
	return conn, nil
}

// told is what every target should know by now.
func (s *source) told() []note {
	var notes []note
	if s.job.Flowing() {
		notes = append(notes, note{Type: noteBegin})
	}
	if s.job.SourceDone() {
		notes = append(notes, note{Type: noteSourceDone})
	}
	return notes
}

func (p *peer) failed(err *sdk.Error) {
	if p.err == nil {
		if err == nil {
			err = &sdk.Error{Kind: sdk.KindInternal, Host: p.member.Host, Message: "failed without a reason"}
		}
		p.err, p.phase = err, control.PhaseFailed
	}
}

// need takes a need-list. One that is not empty is not served yet: the target
// fails, saying what it lacks.
func (s *source) need(p *peer, n note) {
	if len(n.Need) == 0 {
		p.needed = true
		return
	}
	p.failed(&sdk.Error{Kind: sdk.KindIntegrity, Host: p.member.Host,
		Message: fmt.Sprintf("%d ranges of the data did not arrive", len(n.Need)), Hint: "run the transfer again"})
	if p.conn != nil {
		_ = p.conn.WriteMessage(note{Type: noteFailed, Error: p.err})
	}
}

// pass reads the source once and sends it down the chain.
func (s *source) pass(ctx context.Context, data *link.Conn) error {
	spool, err := manifest.Create(s.job.cfg.StateDir, manifest.Header{Transfer: s.job.cfg.Transfer, DigestRule: s.chain.rule()})
	if err != nil {
		return err
	}
	defer spool.Close()
	c, err := codec.ByName(s.chain.plan.Settings.Codec)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	in, err := s.open(ctx, spool)
	if err != nil {
		return err
	}
	defer in.close()
	order, work := make(chan *parcel, maxParcels), make(chan *parcel, maxParcels)
	k := newPacker(relay.NewBudget(sourceBudget), c, s.chain.digests())
	for range workers() {
		group.Go(func() error {
			for p := range work {
				p.err = p.fill(ctx, k, p)
				close(p.done)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return in.read(ctx, func(ctx context.Context, p *parcel) error { return hand(ctx, p, order, work) })
	})
	send := s.newSender(s.newOutgoing(data), spool, in)
	group.Go(func() error { return s.drive(ctx, send, order) })
	err = group.Wait()
	drain(order)
	return err
}

// drive sends the pass, and if it fails says why as its last word.
func (s *source) drive(ctx context.Context, send *sender, order <-chan *parcel) error {
	defer send.out.close()
	err := s.job.guard(ctx, send.out, func() error {
		if err := send.out.open(ctx); err != nil {
			return err
		}
		if err := send.send(ctx, order); err != nil {
			return err
		}
		return send.out.finish(ctx)
	})
	if err != nil {
		err = because(ctx, err)
		send.out.farewell()
		send.fail(context.WithoutCancel(ctx), sdk.AsError(s.explain(err)))
	}
	return err
}

// newOutgoing is the first hop of the chain, at the rate that is allowed.
func (s *source) newOutgoing(data *link.Conn) *outgoing {
	o := s.job.newOutgoing(data, s.chain, 0)
	o.sent = func(n int) { s.meter.wire.Add(int64(n)) }
	if limit := s.chain.plan.Settings.LimitRate; limit > 0 {
		// A tenth of a second's worth at once, so that the rate is even and
		// a short transfer is not over it.
		limiter := rate.NewLimiter(rate.Limit(limit), int(max(limit/10, 4096)))
		o.pace, o.chunk = limiter.WaitN, limiter.Burst()
	}
	return o
}

// hand gives a parcel to the sender, which sees the order, and to a worker.
func hand(ctx context.Context, p *parcel, order, work chan<- *parcel) error {
	select {
	case order <- p:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case work <- p:
		return nil
	case <-ctx.Done():
		p.err = context.Cause(ctx)
		close(p.done)
		return p.err
	}
}

// drain gives back what parcels hold that were never sent.
func drain(order <-chan *parcel) {
	for p := range order {
		<-p.done
		p.release()
		if p.large != nil && p.last {
			p.large.f.Close()
		}
	}
}

func (s *source) newSender(out *outgoing, spool *manifest.Spool, in *input) *sender {
	send := &sender{
		out: out, limit: frame.SegmentBytes, digests: s.chain.digests(), spool: spool, meter: s.meter, stream: in.stream,
		sealer: frame.Sealer{Scope: frame.Scope{Transfer: s.job.cfg.Transfer, Pass: 1}, Hash: frameHash, Sign: s.job.cfg.Identity.Sign},
	}
	if s.chain.stream() {
		send.limit = frame.OrderedSegmentBytes
	}
	return send
}

// broadcast sends a note to all targets that can still be reached.
func (s *source) broadcast(n note) {
	s.mu.Lock()
	var conns []*link.Conn
	for _, p := range s.peers {
		if p.conn != nil && p.err == nil {
			conns = append(conns, p.conn)
		}
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { _ = c.WriteMessage(n) }) // a lost peer is seen by its reader
	}
	wg.Wait()
}

// wakeAll makes all agents answer their waiting controller.
func (s *source) wakeAll() {
	s.broadcast(note{Type: noteWake})
	s.job.cfg.Changed()
}

// set changes what is known of the peers.
func (s *source) set(change func()) {
	s.mu.Lock()
	change()
	var failed []control.PeerError
	for _, p := range s.peers {
		if p.err != nil {
			failed = append(failed, control.PeerError{Name: p.member.Name, Error: p.err})
		}
	}
	s.mu.Unlock()
	s.meter.set(func(m *meter) { m.failed = failed })
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// await waits until every peer is as wanted; limit 0: as long as ctx allows.
// The heartbeats see to it that a dead peer is known as failed.
func (s *source) await(ctx context.Context, limit time.Duration, ok func(*peer) bool) error {
	var timeout <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		missing := s.missing(ok)
		if missing == nil {
			return nil
		}
		select {
		case <-s.changed:
		case <-timeout:
			return &sdk.Error{Kind: sdk.KindTimeout, Host: missing.Host,
				Message: fmt.Sprintf("the links of %s were not all proven within %s", missing.Name, limit),
				Hint:    "see whether its predecessors in the chain may reach it"}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *source) missing(ok func(*peer) bool) *control.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if !ok(p) {
			return &p.member
		}
	}
	return nil
}

// fail records the source's failure and tells the targets.
func (s *source) fail(err error) error {
	e := sdk.AsError(s.explain(err))
	if e.Host == "" {
		e.Host = s.chain.plan.Members[0].Host
	}
	if s.meter.fail(e) {
		s.broadcast(note{Type: noteFailed, Error: e})
		s.wakeAll()
	}
	return e
}

// explain prefers a target's own reason to what its death looks like from
// here, and says so when everything was stopped.
func (s *source) explain(err error) error {
	var e *sdk.Error
	if errors.As(err, &e) && e.Kind != sdk.KindUnreachable {
		return err
	}
	if errors.Is(err, errStopped) || errors.Is(err, context.Canceled) {
		return &sdk.Error{Kind: sdk.KindCancelled, Message: "stopped"}
	}
	if own := s.firstError(); own != nil {
		return own
	}
	return err
}

func (s *source) deliver(conn *link.Conn) { conn.Close() } // nobody dials the source

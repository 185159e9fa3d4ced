package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
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
	reads *contentReader
	begun <-chan struct{} // closed when the mode's Begin has ended

	life  *life
	pacer *pacer // of all that is sent; nil: it is not limited

	mu      sync.Mutex
	peers   []*peer       // one for each target, in the order of the chain
	feeds   *feeds        // further ways into the chain; nil where there are none
	shut    bool          // the source is released: no need-list is served any more
	changed chan struct{} // something about a peer has
}

func newSource(j *Job, c *chain) *source {
	s := &source{job: j, chain: c, meter: newMeter(c.plan.Members[0].Name, j.cfg.Changed),
		reads: newContentReader(c.plan.Settings.LimitRead), begun: j.begun, changed: make(chan struct{}, 1)}
	s.reads.braked = &s.meter.braked
	for _, m := range c.plan.Members[1:] {
		s.peers = append(s.peers, newPeer(m))
	}
	s.peers[0].fed = true
	if limit := c.plan.Settings.LimitRate; limit > 0 {
		s.pacer = newPacer(limit)
	}
	return s
}

// run is the source's whole life: link, wait for Begin, read and send, serve
// need-lists, wait until every target is settled.
func (s *source) run(ctx context.Context) error {
	s.meter.enter(control.PhaseLinking)
	s.life = newLife(ctx)
	defer s.life.end()
	ctx = s.life.ctx
	data, err := s.linkUp(ctx)
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
	if err := s.readAndServe(ctx, data); err != nil {
		return s.fail(err)
	}
	s.meter.enter(control.PhaseReadDone)
	s.job.released()
	s.broadcast(note{Type: noteSourceDone})
	if err := s.await(ctx, 0, (*peer).settled); err != nil {
		return s.fail(err)
	}
	s.meter.enter(control.PhaseVerified)
	s.wakeAll()
	return nil
}

// readAndServe sends pass 1 and serves need-lists until the source is
// released.
func (s *source) readAndServe(ctx context.Context, data *link.Conn) error {
	read, err := s.openReading(ctx)
	if err != nil {
		return err
	}
	defer read.close()
	flushing := newLife(ctx)
	flushing.group.Go(func() { s.flushNowAndThen(flushing.ctx, read) })
	watching := newLife(ctx)
	defer watching.end()
	watching.group.Go(func() { s.watchSlow(watching.ctx) })
	further := s.openFeeds(ctx)
	defer s.closeFeeds(further)
	err = s.pass(ctx, data, read, further)
	flushing.end()
	if err != nil {
		return err
	}
	if err := read.flush(); err != nil {
		return err
	}
	s.meter.sending.Start() // until what it sent has been taken
	defer s.meter.sending.Stop()
	return s.repair(ctx, read)
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

// flushNowAndThen has the death of this agent cost little of what it has read.
func (s *source) flushNowAndThen(ctx context.Context, read *reading) {
	every := s.job.checkpoints()
	if every == 0 {
		return
	}
	for {
		select {
		case <-time.After(every):
			if err := read.flush(); err != nil {
				s.job.cfg.Log.Warn("what was read is not kept", "error", err) // pass 1 will fail of it, too
			}
		case <-ctx.Done():
			return
		}
	}
}

// pass reads the source once and sends it down the chain.
func (s *source) pass(ctx context.Context, data *link.Conn, read *reading, further *feeds) error {
	comp, err := newCompressor(s.chain.plan.Settings)
	if err != nil {
		return err
	}
	k := s.newPacker(sourceBudget+further.keeps(), comp)
	send := s.newSender(s.newOutgoing(data, further), read)
	send.tune = newTuner(comp, s.meter, s.stepped)
	err = s.pump(ctx, pump{k, maxParcels, workers()}, func(ctx context.Context, emit func(context.Context, *parcel) error) error {
		return s.meter.reading(func(emit func(context.Context, *parcel) error) error { return read.in.read(ctx, emit) }, emit)
	}, func(ctx context.Context, order <-chan *parcel) error { return s.drive(ctx, send, order) })
	read.end = send.ended
	further.passed(err)
	return err
}

// newPacker makes the packer of one pass, with so much memory.
func (s *source) newPacker(size int64, comp *compressor) *packer {
	budget := relay.NewBudget(size)
	budget.Waiting = &s.meter.full
	k := newPacker(budget, comp, s.chain.digests())
	k.reads = s.reads
	k.reading = &s.meter.disk
	k.alter = s.job.bad.content
	return k
}

// pump is what moves one pass from reading to sending.
type pump struct {
	k       *packer
	parcels int // under way at most
	workers int
}

// pump runs one pass: read emits the parcels, workers fill them, drive sends
// them.
func (s *source) pump(ctx context.Context, u pump, read func(context.Context, func(context.Context, *parcel) error) error,
	drive func(context.Context, <-chan *parcel) error) error {
	group, ctx := errgroup.WithContext(ctx)
	order, work := make(chan *parcel, u.parcels), make(chan *parcel, u.parcels)
	for range u.workers {
		group.Go(func() error {
			for p := range work {
				s.meter.busy.Start()
				p.err = p.fill(ctx, u.k, p)
				s.meter.busy.Stop()
				close(p.done)
			}
			return nil
		})
	}
	whole := false
	group.Go(func() error {
		defer close(work)
		err := read(ctx, func(ctx context.Context, p *parcel) error { return hand(ctx, p, order, work) })
		if err == nil { // what failed has no end that could be sent
			close(order)
			whole = true
		}
		return err
	})
	group.Go(func() error { return drive(ctx, order) })
	err := group.Wait()
	if !whole {
		close(order)
	}
	drain(order)
	return err
}

// drive sends the pass, and if it fails says why as its last word.
func (s *source) drive(ctx context.Context, send *sender, order <-chan *parcel) error {
	defer send.out.close()
	err := s.deliverPass(ctx, send, order)
	if err != nil {
		err = because(ctx, err)
		send.out.farewell()
		send.fail(context.WithoutCancel(ctx), sdk.AsError(s.explain(err)))
	}
	return err
}

// stepped notes that auto has chosen another codec, and why.
func (s *source) stepped(rung int, l codec.Load) {
	s.job.cfg.Log.Info("another codec", "rung", rung, "held", l.Held, "starved", l.Starved, "coding", l.Coding, "idle", l.Idle)
}

// deliverPass sends all parcels of a pass and waits until they have arrived.
func (s *source) deliverPass(ctx context.Context, send *sender, order <-chan *parcel) error {
	return s.job.guard(ctx, send.out, func() error {
		if err := send.out.open(ctx); err != nil {
			return err
		}
		if err := send.send(ctx, order); err != nil {
			return err
		}
		s.meter.sending.Start() // for the last acknowledgements
		defer s.meter.sending.Stop()
		return send.out.finish(ctx)
	})
}

// newOutgoing is the first hop of the chain.
func (s *source) newOutgoing(data *link.Conn, further *feeds) *outgoing {
	o := s.job.newOutgoing(data, s.chain, 0, s.meter)
	if further != nil { // else one target alone is waited for
		o.way, o.keep, o.kept, o.gap = s.newDetour(), further.put, further.before, further.gaps()
	}
	return s.paced(o)
}

// paced books what goes out, and holds it to the rate that is allowed to all
// of the source's connections together.
func (s *source) paced(o *outgoing) *outgoing {
	o.sent = func(n int) { s.meter.wire.Add(int64(n)) }
	if p := s.pacer; p != nil {
		o.chunk = p.step()
		o.pace = func(ctx context.Context, n int) error {
			s.meter.paced.Start()
			defer s.meter.paced.Stop()
			return p.wait(ctx, onWire(n))
		}
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

func (s *source) newSender(out *outgoing, read *reading) *sender {
	send := &sender{
		out: out, limit: frame.SegmentBytes, frames: frame.MaxSegmentFrames - 2, digests: s.chain.digests(),
		spool: read.spool, nodes: read.nodes, meter: s.meter, stream: read.in.stream,
		sealer: frame.Sealer{Scope: frame.Scope{Transfer: s.job.cfg.Transfer, Pass: 1}, Hash: frameHash, Sign: s.job.cfg.Identity.Sign},
	}
	if s.chain.stream() {
		send.limit, send.frames = frame.OrderedSegmentBytes, frame.OrderedSegmentFrames-2
	}
	if n := s.job.segment; n > 0 {
		send.limit = n
	}
	return send
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

package agent

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

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

	life *life

	mu      sync.Mutex
	peers   []*peer       // one for each target, in the order of the chain
	changed chan struct{} // something about a peer has
}

func newSource(j *Job, c *chain) *source {
	s := &source{job: j, chain: c, meter: newMeter(c.plan.Members[0].Name, j.cfg.Changed),
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
	if err := s.pass(ctx, data); err != nil {
		return s.fail(err)
	}
	s.meter.sending.Start() // what it sent is still under way
	err = s.await(ctx, 0, func(p *peer) bool { return p.needed || p.err != nil })
	s.meter.sending.Stop()
	if err != nil {
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

// pass reads the source once and sends it down the chain.
func (s *source) pass(ctx context.Context, data *link.Conn) error {
	spool, err := manifest.Create(s.job.cfg.StateDir, manifest.Header{Transfer: s.job.cfg.Transfer, DigestRule: s.chain.rule()})
	if err != nil {
		return err
	}
	defer spool.Close()
	comp, err := newCompressor(s.chain.plan.Settings)
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
	budget := relay.NewBudget(sourceBudget)
	budget.Waiting = &s.meter.full
	k := newPacker(budget, comp, s.chain.digests())
	k.reading = &s.meter.disk
	k.alter = s.job.bad.content
	for range workers() {
		group.Go(func() error {
			for p := range work {
				s.meter.busy.Start()
				p.err = p.fill(ctx, k, p)
				s.meter.busy.Stop()
				close(p.done)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		defer close(order)
		return s.meter.reading(func(emit func(context.Context, *parcel) error) error { return in.read(ctx, emit) },
			func(ctx context.Context, p *parcel) error { return hand(ctx, p, order, work) })
	})
	send := s.newSender(s.newOutgoing(data), spool, in)
	send.tune = newTuner(comp, s.meter, s.stepped)
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
		s.meter.sending.Start() // for the last acknowledgements
		defer s.meter.sending.Stop()
		return send.out.finish(ctx)
	})
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

// newOutgoing is the first hop of the chain, at the rate that is allowed.
func (s *source) newOutgoing(data *link.Conn) *outgoing {
	o := s.job.newOutgoing(data, s.chain, 0, s.meter)
	o.sent = func(n int) { s.meter.wire.Add(int64(n)) }
	if limit := s.chain.plan.Settings.LimitRate; limit > 0 {
		p := newPacer(limit)
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

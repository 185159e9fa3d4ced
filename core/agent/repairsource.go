package agent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Bounds of the repair passes. Those under way share the source's memory, each
// with a part of its own, so that none can wait for another.
const (
	repairsAtOnce  = 4
	repairBudget   = sourceBudget / repairsAtOnce
	repairParcels  = 4
	repairWorkers  = 3
	repairSegment  = 8 << 20 // the target holds a segment until its signature held
	repairFrames   = 1024
	maxServedTimes = 8 // how often the whole may be sent to one target again
)

// errNewer ends a repair pass whose target has said a newer need-list.
var errNewer = errors.New("a newer need-list has come")

// repairs serves need-lists, each target on its own, straight from the source.
type repairs struct {
	s     *source
	read  *reading
	slots chan struct{}
	pass  atomic.Uint32 // the last one's number: unique in the transfer
}

// repair serves need-lists until the source is released: at once when nobody
// lacks anything, where something waits for it to be released or it cannot be
// read again; else when all targets have verified.
func (s *source) repair(ctx context.Context, read *reading) error {
	r := &repairs{s: s, read: read, slots: make(chan struct{}, repairsAtOnce)}
	r.pass.Store(1)
	serving := newLife(ctx)
	defer serving.end()
	for _, p := range s.peers {
		serving.group.Go(func() { r.serve(serving.ctx, p) })
	}
	s.meter.sending.Start() // what it sent is still under way
	err := s.await(ctx, 0, (*peer).passed)
	if err == nil {
		s.feeds.forget() // nobody needs it any more
		err = s.await(ctx, 0, (*peer).supplied)
	}
	s.meter.sending.Stop()
	if err != nil {
		return err
	}
	until := (*peer).settled
	if !read.rereadable() || s.job.cfg.Undo.Due(sdk.WhenSourceDone) > 0 {
		until = (*peer).supplied
	}
	for {
		if err := s.await(ctx, 0, until); err != nil {
			return err
		}
		if s.shutIf(until) {
			return nil
		}
	}
}

// shutIf ends the serving of need-lists if every peer is as wanted.
func (s *source) shutIf(ok func(*peer) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if !ok(p) {
			return false
		}
	}
	s.shut = true
	return true
}

// need takes a need-list. What cannot be served any more fails its target.
func (s *source) need(p *peer, n note) {
	why := ""
	s.set(func() {
		if n.Round <= p.round {
			return // told again on new notes
		}
		p.round, p.needed = n.Round, n.lacksNothing()
		switch {
		case p.needed:
		case s.shut:
			why = "something of what it wrote is not what was sent, and the source is released: it cannot be read again"
		case s.chain.stream():
			why = "a part of the stream did not arrive, and a stream cannot be read again"
		default:
			p.ask(n)
		}
	})
	if why != "" {
		s.refuse(p, &sdk.Error{Kind: sdk.KindIntegrity, Host: p.member.Host, Message: why, Hint: "run the transfer again"})
	}
}

// ask has a need-list served. Only the newest one counts.
func (p *peer) ask(n note) {
	for {
		select {
		case p.asked <- n:
			return
		case <-p.asked:
		}
	}
}

// refuse tells a target that it is given up, and why; then it counts as
// failed. The others go on, and what it passes on to them as well.
func (s *source) refuse(p *peer, why *sdk.Error) {
	s.mu.Lock()
	conn := p.conn
	s.mu.Unlock()
	if conn != nil {
		_ = conn.WriteMessage(note{Type: noteRefused, Error: why}) // a lost link is seen by its reader
	}
	s.set(func() { p.failed(why) })
	s.wakeAll()
}

// serve serves one target's need-lists, one after the other. A newer one ends
// the pass that serves the one before.
func (r *repairs) serve(ctx context.Context, p *peer) {
	var n note
	next := false
	for {
		if !next {
			select {
			case n = <-p.asked:
			case <-ctx.Done():
				return
			}
		}
		n, next = r.attempt(ctx, p, n)
		if ctx.Err() != nil {
			return
		}
	}
}

// attempt serves one need-list. It returns the newer one that ended it.
func (r *repairs) attempt(ctx context.Context, p *peer, n note) (newer note, is bool) {
	pass := newLife(ctx)
	defer pass.end()
	done := make(chan error, 1)
	pass.group.Go(func() { done <- r.send(pass.ctx, p, n) })
	select {
	case err := <-done:
		r.ended(ctx, p, err)
		return note{}, false
	case newer = <-p.asked:
		pass.cancel(errNewer)
		return newer, true
	}
}

// ended fails a target that cannot be served. A link that broke is no reason:
// the target says what it still lacks.
func (r *repairs) ended(ctx context.Context, p *peer, err error) {
	var lost *lostLink
	if err == nil || ctx.Err() != nil {
		return
	}
	if errors.As(err, &lost) {
		r.s.job.cfg.Log.Warn("a repair pass was cut", "to", p.member.Name, "error", err)
		return
	}
	e := *sdk.AsError(err)
	if e.Host == "" {
		e.Host = r.s.chain.plan.Members[0].Host
	}
	r.s.refuse(p, &e)
}

// lostLink is the failure of a repair pass's link.
type lostLink struct{ err error }

func (l *lostLink) Error() string { return l.err.Error() }
func (l *lostLink) Unwrap() error { return l.err }

// send makes the link and sends the pass.
func (r *repairs) send(ctx context.Context, p *peer, n note) error {
	if err := r.check(p, &n); err != nil {
		return err
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	comp, err := newCompressor(r.s.chain.plan.Settings)
	if err != nil {
		return err
	}
	number := r.pass.Add(1)
	r.s.job.cfg.Log.Info("repair pass", "to", p.member.Name, "pass", number, "round", n.Round, "ranges", len(n.Need), "nodes", len(n.Pieces))
	conn, err := r.dial(ctx, p, number, n.Round)
	if err != nil {
		return err
	}
	// It is not mended: a link that breaks means a new need-list.
	conn.Measure(&r.s.meter.sending)
	out := newOutgoing(conn, p.member, 0)
	out.alter = r.s.job.bad.frame
	send := r.s.newSender(r.s.paced(out), r.read)
	defer send.out.close()
	send.limit, send.frames = repairSegment, repairFrames
	send.sealer.Scope.Pass, send.ended = number, r.read.end
	k := r.s.newPacker(repairBudget, comp) // auto stays where it begins
	k.pass = number
	again := &reread{read: r.read, digests: r.s.chain.digests(), need: n}
	return r.s.pump(ctx, pump{k, repairParcels, repairWorkers}, again.run, func(ctx context.Context, order <-chan *parcel) error {
		err := r.s.deliverPass(ctx, send, order)
		if err != nil && ctx.Err() == nil && errors.Is(err, sdk.ErrUnreachable) {
			err = &lostLink{err}
		}
		return err
	})
}

func (r *repairs) dial(ctx context.Context, p *peer, pass, round uint32) (*link.Conn, error) {
	s := r.s
	ctx, cancel := context.WithTimeout(ctx, max(s.chain.plan.Settings.RetryFor, 2*time.Second))
	defer cancel()
	d := s.chain.dialer(ctx, s.job.cfg.Identity, p.member)
	d.Refused = s.chain.refusedFor()
	h := s.job.hello(s.meter.name, p.member.Name, link.PurposeRepair, !s.chain.plan.Settings.Encrypt)
	h.Pass, h.Round = pass, round
	return d.Dial(ctx, h)
}

// check refuses a need-list that no honest target says.
func (r *repairs) check(p *peer, n *note) error {
	absurd := func(format string, args ...any) error {
		return &sdk.Error{Kind: sdk.KindIntegrity, Host: p.member.Host,
			Message: "the target asks for what is not there: " + fmt.Sprintf(format, args...), Hint: "see what runs on that host as its agent"}
	}
	if len(n.Need) > maxNeed || len(n.Pieces) > maxNeed {
		return absurd("%d ranges and the nodes of %d files at once", len(n.Need), len(n.Pieces))
	}
	entries := r.read.spool.Len()
	if n.EntriesFrom != nil {
		if *n.EntriesFrom > entries { // the last one, where only the end did not arrive
			return absurd("entries from %d on, of %d", *n.EntriesFrom, entries)
		}
		p.served += uint64(float64(r.whole()) * float64(entries-*n.EntriesFrom) / float64(max(entries, 1)))
		entries = *n.EntriesFrom // what comes after is sent anyway
	}
	last := frame.NeedRange{}
	for i, x := range n.Need {
		pieces, err := r.pieces(x.Entry, entries)
		if err != nil {
			return err
		}
		ascends := i == 0 || x.Entry > last.Entry || x.Entry == last.Entry && x.Piece >= last.Piece+max(last.Count, 1)
		if !ascends || x.Piece > pieces || x.Count > pieces-x.Piece {
			return absurd("%d pieces from %d on of entry %d", x.Count, x.Piece, x.Entry)
		}
		last = x
		p.served += x.Count
	}
	for i, entry := range n.Pieces {
		pieces, err := r.pieces(entry, entries)
		if err != nil {
			return err
		}
		if r.read.nodes == nil || pieces < 2 || i > 0 && entry <= n.Pieces[i-1] {
			return absurd("the nodes of entry %d", entry)
		}
	}
	if p.served > maxServedTimes*r.whole()+maxNeed {
		return absurd("for the %dth time", maxServedTimes)
	}
	return nil
}

// whole is about the number of all pieces.
func (r *repairs) whole() uint64 { return r.read.end.Bytes/digest.PieceSize + r.read.end.Files }

// pieces is the number of pieces of a file; none for what is no file.
func (r *repairs) pieces(number, entries uint64) (uint64, error) {
	if number >= entries {
		return 0, nil
	}
	e, err := r.read.spool.Entry(number)
	if err != nil || !manifest.HasContent(&e) {
		return 0, err
	}
	return digest.Pieces(e.Size), nil
}

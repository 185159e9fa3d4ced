package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// repairHeld bounds the frames of a repair pass that a target holds: a segment
// until its signature held, and what comes behind it.
const repairHeld = 32 << 20

// mender gets a target what it lacks after pass 1: it says need-lists, takes
// the passes that serve them, and verifies, until nothing is missing and
// nothing differs.
type mender struct {
	t *target
	s sink

	asked []frame.NeedRange   // of the last need-list
	nodes map[uint64]*inquiry // larger files that failed the read-back: which piece is it?
	moved time.Time           // when a repair pass brought something last
}

// inquiry is a file of which some pieces are bad, and nobody knows yet which.
type inquiry struct {
	next uint64 // the first piece whose node is not known
}

// complete brings a target from the end of pass 1 to its being verified.
func (t *target) complete(ctx context.Context, s sink) error {
	m := &mender{t: t, s: s, nodes: make(map[uint64]*inquiry), moved: time.Now()}
	for {
		lack, err := s.missing(ctx)
		if err != nil {
			return err
		}
		whole := len(lack) == 0 && m.from() == nil
		if ts, ok := s.(*treeSink); ok && (whole || !ts.short) {
			if err := ts.passed(); err != nil {
				return err
			}
		}
		if whole && len(m.nodes) == 0 {
			m.say(nil)
			t.meter.enter(control.PhaseReadDone)
			t.meter.enter(control.PhaseVerifying)
			found, err := s.verify(ctx)
			if err != nil || len(found) == 0 {
				t.meter.warn(m.repaired()...)
				return err
			}
			if err := m.suspect(found); err != nil {
				return err
			}
			continue
		}
		if err := m.repair(ctx, lack); err != nil {
			return err
		}
	}
}

// repaired tells of what was not right at first.
func (m *mender) repaired() []control.Warning {
	if ts, ok := m.s.(*treeSink); ok {
		return ts.files.blamed.warnings()
	}
	return nil
}

// say says a need-list: the ranges, as many as fit, and the files whose nodes
// are wanted.
func (m *mender) say(lack []frame.NeedRange) {
	m.t.round++
	m.asked = lack[:min(len(lack), maxNeed)]
	n := note{Type: noteNeed, Round: m.t.round, Need: m.asked, More: len(lack) > maxNeed}
	n.EntriesFrom = m.from()
	n.Pieces = slices.Sorted(maps.Keys(m.nodes))
	m.t.say(n)
}

// suspect takes what failed the read-back: it is asked for once more, while
// the source can still be read.
func (m *mender) suspect(found []suspect) error {
	ts, ok := m.s.(*treeSink)
	level := m.t.chain.plan.Settings.Verify
	for _, x := range found {
		if !ok || level != control.VerifyReadBack && !ts.kept.has(x.number) || m.t.job.SourceDone() {
			return differs(x.path, fmt.Sprintf("file %d", x.number))
		}
		if err := ts.files.blamed.add(x.number, wholeFile, x.path); err != nil {
			return err
		}
		m.t.job.cfg.Log.Warn("a file differs when it is read back, and is asked for again", "path", x.path.Display())
		if x.size > digest.PieceSize {
			m.nodes[x.number] = &inquiry{}
			continue
		}
		e, err := ts.spool.Entry(x.number)
		if err == nil {
			err = ts.files.reopen(x.number, e, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repair says what is missing and takes the pass that brings it. A link that
// breaks leaves a need-list for the next one, as long as something comes.
func (m *mender) repair(ctx context.Context, lack []frame.NeedRange) error {
	ts, ok := m.s.(*treeSink)
	if !ok {
		return m.t.broken("a stream that is not whole")
	}
	m.say(lack)
	conn, err := m.await(ctx)
	if err != nil {
		return err
	}
	if m.t.pass == 0 {
		m.moved = time.Now() // until now it was pass 1 that took its time
	}
	took := newMending(m, ts, conn.Hello.Pass)
	m.t.pass = conn.Hello.Pass
	err = m.receive(ctx, conn, took)
	if perr := ts.proveAhead(0, took.back()); perr != nil { // what was signed is read back before more is asked for
		return perr
	}
	switch {
	case err == nil:
		return m.served(ts)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case took.failed:
		return err
	}
	m.t.job.cfg.Log.Warn("a repair pass was cut", "round", m.t.round, "error", err)
	if took.segments > 0 {
		m.moved = time.Now()
	}
	if time.Since(m.moved) > m.t.patience() {
		return &sdk.Error{Kind: sdk.KindUnreachable, Host: m.t.member.Host,
			Message: fmt.Sprintf("what is missing could not be had from the source for %s: %v", m.t.patience(), err),
			Hint:    "see whether the links between the hosts hold, then run the transfer again"}
	}
	return pause(ctx, link.Beat/4)
}

// await waits for the link of the pass that serves the newest need-list. It is
// the source that gives up when it cannot make it; that it lives is seen by
// its notes.
func (m *mender) await(ctx context.Context) (*link.Conn, error) {
	for {
		select {
		case conn := <-m.t.repairs:
			if conn.Hello.Round == m.t.round && conn.Hello.Pass > m.t.pass {
				return conn, nil
			}
			conn.Close() // of a list before
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// receive takes one repair pass up to its explicit end.
func (m *mender) receive(ctx context.Context, conn *link.Conn, took *mending) error {
	ring, budget := relay.NewRing(), relay.NewBudget(repairHeld)
	tap := ring.Tap()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer tap.Leave()
	defer took.release()
	defer cancel()
	in := newArrivals(m.t.member, m.t.chain.plan.Members[0], 0, m.t.meter)
	in.pass = conn.Hello.Pass
	wg.Go(func() { ring.Close(in.run(ctx, conn, ring, budget)) })
	for {
		p, err := tap.Next(ctx)
		if isEnd(err) {
			return took.over()
		}
		if err != nil {
			return err
		}
		if err := took.take(ctx, p); err != nil {
			took.failed = true
			return err
		}
	}
}

// served makes sure that a pass which came to its end has brought all that was
// asked for: so that nothing is asked for again and again.
func (m *mender) served(ts *treeSink) error {
	m.moved = time.Now()
	if x, ok := overlap(m.asked, ts.files.missing(maxNeed+1)); ok {
		return m.unserved(ts, x.Entry)
	}
	for _, x := range m.asked {
		if x.Count > 0 || !m.t.chain.digests() {
			continue
		}
		d, err := ts.spool.Digest(x.Entry)
		if err != nil {
			return err
		}
		if d.State != manifest.DigestOK {
			return m.unserved(ts, x.Entry)
		}
	}
	for entry := range m.nodes {
		return m.unserved(ts, entry)
	}
	return nil
}

func (m *mender) unserved(ts *treeSink, entry uint64) error {
	e, err := ts.spool.Entry(entry)
	if err != nil {
		return err
	}
	return m.t.broken("the source did not send what was asked for of " + e.Path.Display())
}

// overlap returns the first range of a that shares a piece with one of b. Both
// ascend.
func overlap(a, b []frame.NeedRange) (frame.NeedRange, bool) {
	for len(a) > 0 && len(b) > 0 {
		x, y := a[0], b[0]
		switch {
		case x.Entry < y.Entry || x.Entry == y.Entry && x.Piece+x.Count <= y.Piece:
			a = a[1:]
		case x.Entry > y.Entry || y.Piece+y.Count <= x.Piece:
			b = b[1:]
		default:
			return x, true
		}
	}
	return frame.NeedRange{}, false
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// inquire compares the nodes that the source tells of a file with what lies on
// the disk, and makes the pieces missing that differ.
func (m *mender) inquire(ts *treeSink, told frame.Pieces) error {
	q := m.nodes[told.Entry]
	e, err := ts.spool.Entry(told.Entry)
	if err != nil {
		return err
	}
	pieces := digest.Pieces(e.Size)
	if q == nil || told.First != q.next || uint64(len(told.Nodes)) > pieces-q.next {
		return m.t.broken("nodes of " + e.Path.Display() + " that nobody asked for")
	}
	bad, err := ts.compareNodes(&e, told)
	if err != nil {
		return err
	}
	if q.next += uint64(len(told.Nodes)); q.next == pieces {
		delete(m.nodes, told.Entry)
	}
	if len(bad) == 0 {
		return nil
	}
	return ts.files.reopen(told.Entry, e, bad...)
}

// compareNodes reads pieces back and returns those that are not what the
// source read.
func (s *treeSink) compareNodes(e *manifest.Entry, told frame.Pieces) ([]uint64, error) {
	f, err := openUncached(s.disk, e)
	if err != nil {
		return nil, err
	}
	defer f.close()
	var bad []uint64
	buf := alignedMemory(digest.PieceSize)
	for i, want := range told.Nodes {
		p := told.First + uint64(i)
		off := int64(p) * digest.PieceSize
		b := buf[:min(digest.PieceSize, e.Size-off)]
		if err := f.read(b, off); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, cannotReadBack(e.Path, err)
		} else if err != nil || digest.Piece(p, b).Value() != digest.Sum(want) {
			bad = append(bad, p)
		}
	}
	return bad, nil
}

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// admits refuses data from the member with that index when one before it has
// joined, and all data when this target is bypassed itself.
func (t *target) admits(from int) error {
	switch {
	case t.arrivals.isBypassed():
		return fmt.Errorf("%s: %w", t.member.Name, link.ErrServed)
	case from > int(t.feeder.Load()):
		return fmt.Errorf("%s: %w", t.member.Name, link.ErrBypassed)
	}
	return nil
}

// fed takes a data connection that was made anew, or by a member further
// ahead in place of the one before. For one goroutine.
func (t *target) fed(conn *link.Conn) {
	from := t.chain.index(conn.Hello.From)
	if t.admits(from) != nil { // decided since it was proven
		conn.Close()
		return
	}
	t.feeder.Store(int32(from))
	t.reachedBy(conn)
	t.arrivals.replace(conn)
}

// reachedBy notes the address of this target that a connection of data uses.
func (t *target) reachedBy(conn *link.Conn) {
	address := conn.LocalAddr().String()
	t.meter.set(func(m *meter) { m.reached = address })
}

// lostNote tells the source of members that were lost.
func lostNote(lost []control.Member, to *control.Member, why error) note {
	n := note{Type: noteLost}
	for _, m := range lost {
		n.Lost = append(n.Lost, m.Name)
	}
	if to != nil {
		n.To = to.Name
	}
	if why != nil {
		n.Error = sdk.AsError(why)
	}
	return n
}

// bypass takes what member by says of those behind it: they get nothing by the
// chain any more, and say what they lack. What a member says of those before
// it does not count, nor what one says that is bypassed itself.
func (s *source) bypass(by control.Member, n note) {
	var lost []*peer
	s.set(func() {
		at := s.chain.index(by.Name)
		if at > 0 && s.peers[at-1].bypassed {
			return
		}
		for _, p := range s.peers[at:] {
			if slices.Contains(n.Lost, p.member.Name) && !p.bypassed {
				p.bypassed = true
				lost = append(lost, p)
			}
		}
		s.adopt()
	})
	if len(lost) == 0 {
		return // told again
	}
	s.meter.set(func(m *meter) { m.detours = append(m.detours, s.detoured(by, lost, n)) })
	for _, p := range lost {
		s.mu.Lock()
		conn := p.conn
		s.mu.Unlock()
		if conn != nil {
			_ = conn.WriteMessage(note{Type: noteBypassed}) // a lost link is seen by its reader
		}
	}
	s.wakeAll()
}

// detoured says what became of members that were lost.
func (s *source) detoured(by control.Member, lost []*peer, n note) control.Detour {
	d := control.Detour{By: by.Name, Error: n.Error}
	for _, p := range lost {
		d.Lost = append(d.Lost, p.member.Name)
	}
	if s.chain.index(n.To) > 0 {
		d.To = n.To
	}
	return d
}

// cut ends a stream that is cut: it cannot be had again.
func (s *streamSink) cut() error {
	return &sdk.Error{Kind: sdk.KindUnreachable, Host: s.t.member.Host,
		Message: fmt.Sprintf("the link by which the stream came was lost, and the chain goes on without this target: after %d bytes of the stream there is a gap", s.at),
		Hint:    "a stream cannot be read again: run the transfer again for this target"}
}

// cut ends pass 1 before its end. What was written of the segment that bears
// no signature stays where another signature proves it: entries, and the
// digests of files, by the root; content by the digest of its file. Where no
// digests are taken, content counts as missing.
func (s *treeSink) cut() error {
	unsigned := s.open
	s.open, s.end, s.short = nil, nil, true
	if err := s.finish(); err != nil {
		return err
	}
	return s.unproven(unsigned)
}

// unproven makes missing what only a signature would have proven.
func (s *treeSink) unproven(unsigned []*arrival) error {
	if s.t.chain.digests() {
		return nil
	}
	for _, a := range unsigned {
		if err := s.forget(a.claim); err != nil {
			return err
		}
	}
	return nil
}

// forget makes missing what a frame has brought. Of a batch of small files it
// knows the first and the last.
func (s *treeSink) forget(c claim) error {
	if !c.content {
		return nil
	}
	for number := c.entry; number <= c.last; number++ {
		e, err := s.spool.Entry(number)
		if err != nil {
			return err
		}
		if e.Type != sdk.FileRegular || e.HardLink != 0 || e.Size == 0 || c.last > c.entry && e.Size > smallFile {
			continue
		}
		if err := s.files.forget(number, e, c.piece, max(c.pieces, 1)); err != nil {
			return err
		}
	}
	return nil
}

// isBypass reports whether what the tap says is that this target is bypassed.
func isBypass(err error) bool { return errors.Is(err, errBypassed) }

// undigested adds to a need-list the files that are complete and whose digests
// were not told: they come some time after the content.
func (s *treeSink) undigested(ctx context.Context, lack []frame.NeedRange) ([]frame.NeedRange, error) {
	added := 0
	err := s.spool.Each(ctx, func(n uint64, e manifest.Entry, d manifest.Digest) error {
		if added > maxNeed || !manifest.HasContent(&e) || d.State == manifest.DigestOK || s.files.get(n) != nil {
			return nil
		}
		added++
		lack = append(lack, frame.NeedRange{Entry: n})
		return nil
	})
	slices.SortFunc(lack, func(a, b frame.NeedRange) int {
		return cmp.Or(cmp.Compare(a.Entry, b.Entry), cmp.Compare(a.Piece, b.Piece))
	})
	return lack, err
}

// from is the first entry that the target knows nothing of; nil when it knows
// all.
func (m *mender) from() *uint64 {
	ts, ok := m.s.(*treeSink)
	if !ok || ts.end != nil && ts.spool.Len() >= ts.end.Entries {
		return nil
	}
	n := ts.spool.Len()
	return &n
}

package agent

import (
	"context"
	"fmt"

	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/relay"
)

// endOf is how many frames of a pass there are up to p, which comes behind so
// many.
func endOf(p relay.Packet, before uint64) uint64 {
	if p.Type == frame.TypeGap {
		if g, err := frame.ParseGap(p.Payload()); err == nil {
			return g.Frames
		}
	}
	return before + 1
}

// leap goes on from where the sender is: the peer lacks more than is kept. It
// begins with the next segment.
func (o *outgoing) leap() {
	o.hangUp()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.unacked {
		p.Release()
	}
	o.unacked, o.base, o.have, o.joined, o.lostWhy = nil, 0, 0, true, nil
	o.skips = true
}

// skip leaves a frame out, of whose place the gap tells behind the end of its
// segment.
func (o *outgoing) skip(ctx context.Context, p relay.Packet) error {
	defer p.Release()
	if p.Type != frame.TypeSegmentEnd {
		return nil
	}
	number, err := frame.SegmentNumber(p.Frame)
	if err != nil {
		return err
	}
	f, err := o.gap(frame.Gap{Frames: o.last, Segment: number + 1})
	if err != nil || f == nil {
		return err
	}
	o.mu.Lock()
	o.skips = false
	o.unacked = append(o.unacked, sentFrame{relay.Packet{Frame: f}, o.last})
	o.mu.Unlock()
	if err := o.write(ctx, f.Wire()); err != nil {
		return o.mend(ctx, err)
	}
	return nil
}

// gap takes what stands for frames that this target was not sent: what it has
// of the segment under way will bear no signature.
func (s *treeSink) gap(p relay.Packet) error {
	if err := s.idle(); err != nil {
		p.Release()
		return err
	}
	if s.end != nil {
		p.Release()
		return s.t.broken("a gap behind the end of the pass")
	}
	unsigned := s.open
	s.open, s.failed, s.short = nil, nil, true
	if err := s.unproven(unsigned); err != nil {
		p.Release()
		return err
	}
	s.t.job.cfg.Log.Warn("there is a gap in what came by the chain", "member", s.t.member.Name, "entries", s.spool.Len())
	select {
	case s.segments <- segment{end: p, checked: make(chan struct{})}:
		return nil
	case <-s.ctx.Done():
		p.Release()
		return context.Cause(s.ctx)
	}
}

// checkGap checks the signature of a gap.
func (s *treeSink) checkGap(c *frame.Checker, p relay.Packet) error {
	if err := c.Skip(p.Frame); err != nil {
		return s.t.broken(err.Error())
	}
	return nil
}

// entriesEnd checks the number of entries that the pass ended with. Those that
// were announced in a gap are missing.
func (s *treeSink) entriesEnd() error {
	n := s.spool.Len()
	if s.end == nil && !s.short || s.end != nil && (n > s.end.Entries || n < s.end.Entries && !s.short) {
		return s.t.broken(fmt.Sprintf("the pass ended with another number of entries than the %d that it began", n))
	}
	return nil
}

package agent

import (
	"context"
	"encoding/json"
	"time"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// segmentAge is how long a segment stays open when little comes: until it is
// closed, nothing in it is proven.
const segmentAge = time.Second

// sender puts the parcels of a pass on the wire, in order, and signs their
// segments. It is one goroutine's.
type sender struct {
	out     *outgoing
	sealer  frame.Sealer
	limit   int // bytes of a segment
	frames  int // and frames of it
	digests bool
	spool   *manifest.Spool
	meter   *meter
	stream  *streamReader   // nil for a tree
	tune    *tuner          // nil where there is nothing to choose
	nodes   *manifest.Nodes // of pieces, to be kept; nil: none are
	ended   *frame.PassEnd  // the end of pass 1: set by it, and what later passes end with

	opened time.Time // the first frame of the open segment
	sums   []byte    // digests of files that are not sent yet
	bytes  uint64    // content
	files  uint64
}

// send sends all parcels of order, then the end of the pass.
func (s *sender) send(ctx context.Context, order <-chan *parcel) error {
	tick := time.NewTicker(min(segmentAge, link.Beat) / 2)
	defer tick.Stop()
	last := time.Now()
	for {
		p, ok, err := s.next(ctx, order, tick, &last)
		if err != nil {
			return err
		}
		if !ok {
			return s.end(ctx)
		}
		err = s.take(ctx, p)
		p.release()
		if err != nil {
			return err
		}
		last = time.Now()
	}
}

// next waits for the next filled parcel; meanwhile it closes a segment that
// has become old and shows the peer that it lives.
func (s *sender) next(ctx context.Context, order <-chan *parcel, tick *time.Ticker, last *time.Time) (*parcel, bool, error) {
	s.meter.idle.Start()
	defer s.meter.idle.Stop()
	var p *parcel
	for {
		var filled chan struct{}
		from := order
		if p != nil {
			from, filled = nil, p.done
		}
		select {
		case q, ok := <-from:
			if !ok {
				return nil, false, nil
			}
			p = q
		case <-filled:
			return p, true, p.err
		case <-tick.C:
			if err := s.idle(ctx, last); err != nil {
				return nil, false, err
			}
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
}

func (s *sender) idle(ctx context.Context, last *time.Time) error {
	if s.sealer.Frames() > 0 && time.Since(s.opened) >= segmentAge {
		*last = time.Now()
		return s.seal(ctx)
	}
	if time.Since(*last) >= link.Beat {
		*last = time.Now()
		return s.out.beat(ctx)
	}
	return nil
}

// take sends one parcel and books what it brought.
func (s *sender) take(ctx context.Context, p *parcel) error {
	for len(p.ready) > 0 {
		f := p.ready[0]
		p.ready = p.ready[1:] // the hold goes with it
		if err := s.frame(ctx, f.Packet, f.sum); err != nil {
			return err
		}
	}
	s.bytes += uint64(p.bytes)
	s.files += uint64(p.files)
	s.meter.bytes.Add(p.bytes)
	for _, d := range p.sums {
		if err := s.digest(ctx, d); err != nil {
			return err
		}
	}
	switch {
	case p.large != nil:
		for _, n := range p.nodes {
			if n.value != nil {
				p.large.tree.AddValue(n.index, *n.value, n.length)
				continue
			}
			p.large.tree.Add(n.index, n.node, n.length)
		}
		if err := s.keep(p); err != nil {
			return err
		}
		if !p.last {
			return nil
		}
		s.files++
		d, err := p.large.finish(s.digests)
		p.large = nil
		if err != nil || d == nil {
			return err
		}
		return s.digest(ctx, *d)
	case s.stream != nil:
		for _, n := range p.nodes {
			s.stream.tree.Add(n.index, n.node, n.length)
			s.stream.size += int64(n.length)
		}
	}
	return nil
}

// keep keeps the nodes of a large file's pieces, where there are several.
func (s *sender) keep(p *parcel) error {
	if s.nodes == nil || digest.Pieces(p.large.entry.Size) < 2 {
		return nil
	}
	if !p.large.kept {
		p.large.kept = true
		if err := s.nodes.Reserve(p.large.number, digest.Pieces(p.large.entry.Size)); err != nil {
			return err
		}
	}
	for _, n := range p.nodes {
		if err := s.nodes.Set(p.large.number, n.index, n.its()); err != nil {
			return err
		}
	}
	return nil
}

// frame sends one frame that counts in the segment, and takes over the hold
// on it.
func (s *sender) frame(ctx context.Context, p relay.Packet, sum frame.Digest) error {
	if s.sealer.Frames() == 0 {
		s.opened = time.Now()
	}
	s.sealer.Add(p.Frame, sum)
	if err := s.out.send(ctx, p); err != nil {
		return err
	}
	s.tune.look(time.Now(), s.out.conn.Held)
	if s.sealer.Bytes() >= s.limit || s.sealer.Frames() >= s.frames || time.Since(s.opened) >= segmentAge {
		return s.seal(ctx)
	}
	return nil
}

// seal closes the segment.
func (s *sender) seal(ctx context.Context) error {
	if s.sealer.Frames() == 0 {
		return nil
	}
	end, err := s.sealer.Seal()
	if err != nil {
		return err
	}
	return s.out.send(ctx, relay.Packet{Frame: end})
}

// digest books a file's digest, to be sent with others.
func (s *sender) digest(ctx context.Context, d frame.FileDigest) error {
	if s.sealer.Scope.Pass == 1 {
		if err := s.spool.SetDigest(d.Entry, manifest.Digest{Size: int64(d.Size), Sum: d.Sum, State: manifest.DigestOK}); err != nil {
			return err
		}
	}
	s.sums = frame.AppendFileDigest(s.sums, d)
	if len(s.sums) < 1<<18 {
		return nil
	}
	return s.flushDigests(ctx)
}

func (s *sender) flushDigests(ctx context.Context) error {
	if len(s.sums) == 0 {
		return nil
	}
	b := s.sums
	s.sums = nil
	return s.plain(ctx, frame.TypeDigests, b)
}

// plain sends a payload without extents, as it is.
func (s *sender) plain(ctx context.Context, t frame.Type, payload []byte) error {
	f, err := frame.Build(append(make([]byte, frame.HeaderLen, frame.HeaderLen+len(payload)), payload...), t, 0, s.sealer.Scope.Pass, nil, len(payload))
	if err != nil {
		return err
	}
	sum, _ := frameSum(f, s.digests)
	return s.frame(ctx, relay.Packet{Frame: f}, sum)
}

// end sends the explicit end of the pass.
func (s *sender) end(ctx context.Context) error {
	if s.stream != nil {
		s.files = 1
		if s.digests {
			sum, err := s.stream.tree.Sum(s.stream.size)
			if err != nil {
				return err
			}
			if err := s.digest(ctx, frame.FileDigest{Entry: 0, Size: uint64(s.stream.size), Sum: sum}); err != nil {
				return err
			}
		}
	}
	if err := s.flushDigests(ctx); err != nil {
		return err
	}
	if s.ended == nil {
		root, err := s.spool.Root(ctx)
		if err != nil {
			return err
		}
		s.meter.set(func(m *meter) { m.root = digest.Sum(root).String() })
		s.ended = &frame.PassEnd{Entries: s.spool.Len(), Files: s.files, Bytes: s.bytes, Root: root}
	}
	if err := s.plain(ctx, frame.TypePassEnd, s.ended.Append(nil)); err != nil {
		return err
	}
	return s.seal(ctx)
}

// fail tells the targets, signed, why the source has failed; best effort.
func (s *sender) fail(ctx context.Context, cause *sdk.Error) {
	body, err := json.Marshal(cause)
	if err != nil || len(body) > frame.MaxPayload {
		return
	}
	if s.plain(ctx, frame.TypeFailure, body) == nil {
		_ = s.seal(ctx)
	}
}

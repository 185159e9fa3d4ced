package agent

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/relay"
)

// mending takes the frames of one repair pass. Other than in pass 1 nothing is
// written before its segment's signature held: a pass that is cut goes on with
// another need-list, and what was not signed by then counts as missing.
type mending struct {
	m     *mender
	s     *treeSink
	check *frame.Checker

	backs    chan []byte // memory for pieces that are read back; as much as workers
	held     []relay.Packet
	size     int
	segments int  // whose signature held
	ended    bool // the explicit end was among them
	failed   bool // what came cannot be what an honest source sent, or could not be written
}

func newMending(m *mender, s *treeSink, pass uint32) *mending {
	return &mending{m: m, s: s, check: s.t.passChecker(pass), backs: make(chan []byte, workers()+1)}
}

// Bounds of one segment of a repair pass: what the source keeps to, and the
// last frame of it.
const (
	heldFrames = repairFrames + 16
	heldBytes  = repairSegment + 2*frame.MaxPayload
)

func (g *mending) take(ctx context.Context, p relay.Packet) error {
	if p.Type != frame.TypeSegmentEnd {
		g.held, g.size = append(g.held, p), g.size+len(p.Wire())
		if len(g.held) > heldFrames || g.size > heldBytes {
			return g.s.t.broken("a segment without an end")
		}
		return nil
	}
	defer p.Release()
	defer g.release()
	sums, claims := make([]frame.Digest, len(g.held)), make([]claim, len(g.held))
	nodes := make([][]digest.Node, len(g.held))
	hashing := errgroup.Group{}
	hashing.SetLimit(workers())
	for i, h := range g.held {
		claims[i] = claimOf(h.Frame)
		hashing.Go(func() error { sums[i], nodes[i] = frameSum(h.Frame, g.s.t.chain.digests()); return nil })
	}
	_ = hashing.Wait() // none fails
	if err := g.check.Check(p.Frame, sums); err != nil {
		return g.s.t.altered(err, claims, g.s.spool)
	}
	if err := g.use(ctx, nodes); err != nil {
		return err
	}
	g.segments++
	if g.s.saver.due() { // all that was taken is used, and its signature held
		g.s.saver.begin(g.s.spool.Len(), g.s.files.partials())
	}
	return nil
}

func (g *mending) release() {
	for _, h := range g.held {
		h.Release()
	}
	g.held, g.size = nil, 0
}

// use uses a segment's frames: content by several workers, all else in its
// place among it.
func (g *mending) use(ctx context.Context, nodes [][]digest.Node) error {
	var group *errgroup.Group
	begin := func() {
		group, _ = errgroup.WithContext(ctx)
		group.SetLimit(workers())
	}
	begin()
	for i, h := range g.held {
		if h.Type == frame.TypeData || h.Type == frame.TypeHole {
			group.Go(func() error { return g.content(h.Frame, nodes[i]) })
			continue
		}
		err := group.Wait()
		if err == nil {
			err = g.plain(h.Frame)
		}
		if err != nil {
			return err
		}
		begin()
	}
	return group.Wait()
}

func (g *mending) content(f *frame.Frame, nodes []digest.Node) error {
	back := g.back()
	defer func() { g.backs <- back }()
	content, err := codec.Decompress(codec.ID(f.Codec), nil, f.Payload(), f.Decoded)
	if err != nil {
		return g.s.t.undecodable(err, claimOf(f), g.s.spool)
	}
	g.s.t.meter.startDisk()
	if f.Type == frame.TypeHole {
		err = g.s.files.hole(f, back)
	} else {
		err = g.s.files.write(f, content, nodes, back)
	}
	g.s.t.meter.stopDisk()
	if err != nil {
		return err
	}
	return g.s.proveAhead(windowBytes, back)
}

// back takes memory for a piece that is read back.
func (g *mending) back() []byte {
	select {
	case b := <-g.backs:
		return b
	default:
		return alignedMemory(digest.PieceSize)
	}
}

// plain uses a frame that brings no content.
func (g *mending) plain(f *frame.Frame) error {
	t := g.s.t
	if g.ended {
		return t.broken("something behind the end of a pass")
	}
	switch f.Type {
	case frame.TypeEntries:
		return g.s.entries(f)
	case frame.TypeDigests:
		return g.digests(f)
	case frame.TypePieces:
		told, err := frame.ParsePieces(f.Payload())
		if err != nil {
			return t.broken(err.Error())
		}
		return g.m.inquire(g.s, told)
	case frame.TypePassEnd:
		end, err := frame.ParsePassEnd(f.Payload())
		if err != nil {
			return t.broken(err.Error())
		}
		if g.s.end != nil && *g.s.end != end {
			return t.broken("a pass that ends otherwise than the first one")
		}
		g.s.end, g.ended = &end, true
		return nil
	case frame.TypeFailure:
		return t.sourceFailure(f)
	}
	return t.broken(fmt.Sprintf("a frame of type %d in a repair pass", f.Type))
}

// digests books digests that the target does not have. One that is told again
// must be the same.
func (g *mending) digests(f *frame.Frame) error {
	list, err := frame.FileDigests(f.Payload())
	if err != nil {
		return g.s.t.broken(err.Error())
	}
	for _, d := range list {
		was, err := g.s.spool.Digest(d.Entry)
		if err != nil {
			return err
		}
		if was.State == manifest.DigestOK {
			if was.Size != int64(d.Size) || was.Sum != d.Sum {
				return g.s.t.broken(fmt.Sprintf("two digests of file %d", d.Entry))
			}
			continue
		}
		if err := g.s.book(d); err != nil {
			return err
		}
	}
	return nil
}

// over reports what is wrong with a pass that came to its end.
func (g *mending) over() error {
	if !g.ended {
		g.failed = true
		return errors.New("the pass has no end")
	}
	return nil
}

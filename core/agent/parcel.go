package agent

import (
	"context"
	"io"
	"sync"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/core/agent/stopwatch"
	"github.com/transferpy/transferpy/sdk"
)

// parcel is a unit of the source's work that becomes frames: a worker fills
// it, while the sender waits for parcels in the order in which they were
// made.
type parcel struct {
	fill  func(ctx context.Context, w *packer, p *parcel) error
	done  chan struct{}
	err   error
	ready []sealed           // the frames, in order
	sums  []frame.FileDigest // of files that are whole in this parcel
	nodes []placedNode       // of pieces of a larger file
	large *largeFile         // whose pieces these are
	last  bool               // nothing of large comes after this parcel
	bytes int64              // of content
	files int64
}

// sealed is a frame with its digest, ready to be sent.
type sealed struct {
	relay.Packet
	sum frame.Digest
}

// placedNode is a piece's node with its place in the file.
type placedNode struct {
	index  uint64
	length int
	node   digest.Node
}

func newParcel(fill func(context.Context, *packer, *parcel) error) *parcel {
	return &parcel{fill: fill, done: make(chan struct{})}
}

// release gives the buffers back of a parcel that is not sent.
func (p *parcel) release() {
	for _, s := range p.ready {
		s.Release()
	}
	p.ready = nil
}

// packer makes frames of content: what workers share. Safe for concurrent
// use.
type packer struct {
	budget  *relay.Budget
	codec   codec.Codec
	digests bool // digests of files are wanted
	reading *stopwatch.Watch
	alter   func(content []byte) // see badMemory
	scratch sync.Pool
}

func newPacker(budget *relay.Budget, c codec.Codec, digests bool) *packer {
	return &packer{budget: budget, codec: c, digests: digests}
}

// raw borrows memory for one piece of uncompressed bytes.
func (w *packer) raw() *[]byte {
	if b, ok := w.scratch.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, digest.PieceSize)
	return &b
}

func (w *packer) giveBack(b *[]byte) { w.scratch.Put(b) }

// pack makes a frame of content, compressed if that saves something. When
// content lies in buf already, at the payload's place, a stored frame costs no
// copy; else buf is nil.
func (w *packer) pack(ctx context.Context, t frame.Type, extents []frame.Extent, content []byte) (sealed, error) {
	if w.alter != nil {
		w.alter(content)
	}
	head := frame.PayloadAt(len(extents))
	buf, err := w.budget.Get(ctx, head+len(content))
	if err != nil {
		return sealed{}, err
	}
	id := codec.Stored
	if w.codec.ID() != codec.Stored && len(content) > 0 {
		// The encoder may not write behind the buffer: where it needs more
		// than the content's own size, it makes memory of its own, and the
		// frame is stored anyway.
		out := w.codec.Encode(buf.B[head:head:len(buf.B)], content)
		if codec.Saves(len(content), len(out)) {
			id = w.codec.ID()
			copy(buf.B[head:], out)
			buf.B = buf.B[:head+len(out)]
		}
	}
	if id == codec.Stored {
		copy(buf.B[head:], content)
	}
	f, err := frame.Build(buf.B, t, uint8(id), 1, extents, len(content))
	if err != nil {
		buf.Release()
		return sealed{}, err
	}
	sum, _ := frameSum(f)
	return sealed{relay.Packet{Frame: f, Buffer: buf}, sum}, nil
}

// into packs a frame and puts it into the parcel.
func (w *packer) into(ctx context.Context, p *parcel, t frame.Type, extents []frame.Extent, content []byte) error {
	s, err := w.pack(ctx, t, extents, content)
	if err == nil {
		p.ready = append(p.ready, s)
	}
	return err
}

// piece makes the frame of one piece of a file, read by readAt into place: a
// stored piece is read straight into the frame's buffer and hashed once for
// both the frame and the file.
func (w *packer) piece(ctx context.Context, entry, index uint64, length int, read func([]byte) error) (sealed, digest.Node, error) {
	extents := []frame.Extent{{Entry: entry, Offset: index * digest.PieceSize, Length: uint64(length)}}
	if w.codec.ID() != codec.Stored {
		raw := w.raw()
		defer w.giveBack(raw)
		content := (*raw)[:length]
		w.reading.Start()
		err := read(content)
		w.reading.Stop()
		if err != nil {
			return sealed{}, digest.Node{}, err
		}
		var node digest.Node
		if w.digests {
			node = digest.Piece(index, content)
		}
		s, err := w.pack(ctx, frame.TypeData, extents, content)
		return s, node, err
	}
	head := frame.PayloadAt(1)
	buf, err := w.budget.Get(ctx, head+length)
	if err != nil {
		return sealed{}, digest.Node{}, err
	}
	w.reading.Start()
	err = read(buf.B[head:])
	w.reading.Stop()
	if err != nil {
		buf.Release()
		return sealed{}, digest.Node{}, err
	}
	f, err := frame.Build(buf.B, frame.TypeData, 0, 1, extents, length)
	if err != nil {
		buf.Release()
		return sealed{}, digest.Node{}, err
	}
	sum, node := frameSum(f)
	return sealed{relay.Packet{Frame: f, Buffer: buf}, sum}, *node, nil
}

// readAt fills b from r at off; a file that ends before has changed.
func readAt(r io.ReaderAt, path sdk.Raw, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return changed(path, "it is shorter than it was")
	}
	return &sdk.Error{Kind: sdk.KindInternal, Message: "cannot read " + path.Display() + ": " + err.Error()}
}

func changed(path sdk.Raw, how string) error {
	return &sdk.Error{Kind: sdk.KindChanged, Message: "source file " + path.Display() + " changed while it was read: " + how,
		Hint: "stop what writes to it and run the transfer again"}
}

package agent

import (
	"context"
	"io"

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
	value  *digest.Sum // of a piece that was read by an earlier attempt; then node is not known
}

// its is the node's value.
func (n *placedNode) its() digest.Sum {
	if n.value != nil {
		return *n.value
	}
	return n.node.Value()
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
	comp    *compressor
	digests bool // digests of files are wanted
	pass    uint32
	reads   *contentReader
	reading *stopwatch.Watch
	alter   func(content []byte) // see badMemory
}

func newPacker(budget *relay.Budget, c *compressor, digests bool) *packer {
	return &packer{budget: budget, comp: c, digests: digests, pass: 1, reads: newContentReader(0)}
}

// raw borrows memory for what goes into one frame, a piece at most, until
// giveBack.
func (w *packer) raw() []byte { return w.budget.Spare()[:digest.PieceSize] }

func (w *packer) giveBack(b []byte) { w.budget.Keep(b) }

// pack makes a frame of content, compressed if that saves something; nodes are
// those of each file's content in it, if they are known.
func (w *packer) pack(ctx context.Context, t frame.Type, extents []frame.Extent, content []byte, nodes []digest.Node) (sealed, error) {
	if w.alter != nil {
		w.alter(content)
	}
	head := frame.PayloadAt(len(extents))
	buf, err := w.budget.Get(ctx, head+len(content))
	if err != nil {
		return sealed{}, err
	}
	id, alike := codec.Stored, w.comp.alike(t, extents)
	if with := w.comp.choose(alike); with != nil && len(content) > 0 {
		if out, saved := w.comp.encode(with, alike, buf.B[head:head], content); saved {
			id = with.ID()
			if &out[0] != &buf.B[head] { // what is behind the content was too little
				copy(buf.B[head:], out)
			}
			buf.B = buf.B[:head+len(out)]
		}
	}
	if id == codec.Stored {
		copy(buf.B[head:], content)
	} else {
		nodes = nil
	}
	return w.seal(buf, t, id, extents, len(content), nodes)
}

// seal makes the frame that lies in buf; nodes are those of its stored content,
// if they are known.
func (w *packer) seal(buf *relay.Buffer, t frame.Type, id codec.ID, extents []frame.Extent, decoded int, nodes []digest.Node) (sealed, error) {
	f, err := frame.Build(buf.B, t, uint8(id), w.pass, extents, decoded)
	if err != nil {
		buf.Release()
		return sealed{}, err
	}
	s := sealed{Packet: relay.Packet{Frame: f, Buffer: buf}}
	if nodes != nil {
		s.sum = nodesSum(f, nodes)
	} else {
		s.sum, _ = frameSum(f, w.digests)
	}
	return s, nil
}

// into packs a frame and puts it into the parcel.
func (w *packer) into(ctx context.Context, p *parcel, t frame.Type, extents []frame.Extent, content []byte, nodes []digest.Node) error {
	s, err := w.pack(ctx, t, extents, content, nodes)
	if err == nil {
		p.ready = append(p.ready, s)
	}
	return err
}

// plain puts a frame into the parcel whose payload has no extents.
func (w *packer) plain(ctx context.Context, p *parcel, t frame.Type, payload []byte) error {
	buf, err := w.budget.Get(ctx, frame.PayloadAt(0)+len(payload))
	if err != nil {
		return err
	}
	copy(buf.B[frame.PayloadAt(0):], payload)
	s, err := w.seal(buf, t, codec.Stored, nil, len(payload), nil)
	if err == nil {
		p.ready = append(p.ready, s)
	}
	return err
}

// piece makes the frame of one piece of a file, read by read into place: a
// stored piece is read straight into the frame's buffer and hashed once for
// both the frame and the file; of a compressed one, nothing is copied either.
func (w *packer) piece(ctx context.Context, entry, index uint64, length int, read func([]byte) error) (sealed, digest.Node, error) {
	extents := []frame.Extent{{Entry: entry, Offset: index * digest.PieceSize, Length: uint64(length)}}
	buf, err := w.budget.Get(ctx, frame.PayloadAt(1)+length)
	if err != nil {
		return sealed{}, digest.Node{}, err
	}
	content := buf.B[frame.PayloadAt(1):]
	w.reading.Start()
	err = read(content)
	w.reading.Stop()
	if err != nil {
		buf.Release()
		return sealed{}, digest.Node{}, err
	}
	if alike := w.comp.of(entry); length > 0 {
		if with := w.comp.choose(alike); with != nil {
			node, saved := w.shrink(buf, index, with, alike)
			if saved {
				s, err := w.seal(buf, frame.TypeData, with.ID(), extents, length, nil)
				return s, node, err
			}
		}
	}
	f, err := frame.Build(buf.B, frame.TypeData, 0, w.pass, extents, length)
	if err != nil {
		buf.Release()
		return sealed{}, digest.Node{}, err
	}
	sum, nodes := frameSum(f, w.digests)
	return sealed{relay.Packet{Frame: f, Buffer: buf}, sum}, nodes[0], nil
}

// shrink compresses the piece that lies in buf, if that saves something, and
// then returns its node.
func (w *packer) shrink(buf *relay.Buffer, index uint64, with codec.Codec, alike *codec.Attempts) (node digest.Node, saved bool) {
	head := frame.PayloadAt(1)
	content, spare := buf.B[head:], w.budget.Spare()
	defer func() { w.budget.Keep(spare) }()
	out, saved := w.comp.encode(with, alike, spare[head:head], content)
	if !saved {
		return node, false
	}
	if w.alter != nil {
		w.alter(content)
	}
	if w.digests {
		node = digest.Piece(index, content)
	}
	if &out[0] == &spare[head] {
		if mine := buf.Swap(spare[:head+len(out)]); mine != nil {
			spare = mine
			return node, true
		}
	}
	copy(content, out)
	buf.B = buf.B[:head+len(out)]
	return node, true
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

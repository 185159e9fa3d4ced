package agent

import (
	"context"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/pagecache"
	"github.com/transferpy/transferpy/core/agent/tree"
)

// maxHole is how many pieces one hole frame covers: their digests are
// computed in one go.
const maxHole = 64

// extent is a range of a file.
type extent struct{ off, length int64 }

// large emits a file piece by piece. A hole is told, not sent; neither are
// pieces that an earlier attempt has read.
func (w *walker) large(ctx context.Context, f file, b *before) error {
	fd, now, err := w.src.Open(&f.entry)
	if err != nil {
		return err
	}
	if !now.Same(f.ident) {
		fd.Close()
		return changed(f.entry.Path, "between listing and reading")
	}
	l := &largeFile{file: f, f: fd, tree: digest.NewTree(), ahead: &lookahead{}}
	spare := !w.reads.memory(fd, now.Dev)
	if spare {
		pagecache.OwnReadahead(fd)
	}
	pieces := digest.Pieces(f.entry.Size)
	next := uint64(0) // the first piece that is not emitted
	var data []extent // data extents from piece next on
	upTo := func(end uint64) error {
		for next < end {
			stop, known := b.run(next, end)
			n, p := uint64(0), (*parcel)(nil)
			if known {
				n, p = stop-next, knownPieces(l, b, next, stop)
				data = beyond(data, int64(stop)*digest.PieceSize)
			} else {
				if len(data) > 0 && spare {
					l.ahead.ask(fd, f.entry.Size, next, stop)
				}
				n, p = w.nextParcel(l, next, stop, &data)
			}
			next += n
			p.large, p.last = l, next == pieces
			if err := w.emit(ctx, p); err != nil {
				return err
			}
		}
		return nil
	}
	err = tree.Extents(fd, f.entry.Size, func(off, length int64, hole bool) error {
		if hole {
			return nil
		}
		// Everything before this extent's first piece is known by now.
		if err := upTo(uint64(off) / digest.PieceSize); err != nil {
			return err
		}
		data = append(data, extent{off, length})
		return upTo(uint64(off+length) / digest.PieceSize)
	})
	if err == nil {
		err = upTo(pieces)
	}
	if err != nil && next < pieces {
		fd.Close() // no last parcel does it
	}
	return err
}

// nextParcel makes the parcel of piece at, or of a run of pieces from it that
// are all hole, and drops the extents that it used.
func (w *walker) nextParcel(l *largeFile, at, end uint64, data *[]extent) (uint64, *parcel) {
	from := int64(at) * digest.PieceSize
	length := min(digest.PieceSize, l.entry.Size-from)
	var in []extent
	rest := (*data)[:0:0]
	for _, x := range *data {
		lo, hi := max(x.off, from), min(x.off+x.length, from+length)
		if lo < hi {
			in = append(in, extent{lo, hi - lo})
		}
		if x.off+x.length > from+length {
			rest = append(rest, x)
		}
	}
	*data = rest
	switch {
	case len(in) == 0 && len(rest) == 0:
		n := min(end-at, maxHole)
		return n, newParcel(func(ctx context.Context, k *packer, p *parcel) error { return readHole(ctx, k, p, l, at, n) })
	case len(in) == 0:
		return 1, newParcel(func(ctx context.Context, k *packer, p *parcel) error { return readHole(ctx, k, p, l, at, 1) })
	case len(in) == 1 && in[0].length == length:
		return 1, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
			return readPiece(ctx, k, p, l, at, int(length))
		})
	}
	return 1, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
		return readSparse(ctx, k, p, l, at, int(length), in)
	})
}

// readPiece reads one piece without holes.
func readPiece(ctx context.Context, k *packer, p *parcel, l *largeFile, index uint64, length int) error {
	s, node, err := k.piece(ctx, l.number, index, length, func(b []byte) error {
		return k.reads.piece(ctx, l, b, index)
	})
	if err != nil {
		return err
	}
	p.ready, p.bytes = append(p.ready, s), int64(length)
	p.nodes = append(p.nodes, placedNode{index: index, length: length, node: node})
	return nil
}

// readSparse reads one piece that is partly hole, and sends only what is data.
func readSparse(ctx context.Context, k *packer, p *parcel, l *largeFile, index uint64, length int, in []extent) error {
	raw := k.raw()
	defer k.giveBack(raw)
	whole := raw[:length]
	from := int64(index) * digest.PieceSize
	k.reading.Start()
	err := k.reads.piece(ctx, l, whole, index)
	k.reading.Stop()
	if err != nil {
		return err
	}
	if len(in) > frame.MaxExtents {
		in = []extent{{from, int64(length)}}
	}
	if k.digests {
		p.nodes = append(p.nodes, placedNode{index: index, length: length, node: digest.Piece(index, whole)})
	}
	var extents []frame.Extent
	var content []byte
	for _, x := range in {
		extents = append(extents, frame.Extent{Entry: l.number, Offset: uint64(x.off), Length: uint64(x.length)})
		content = append(content, whole[x.off-from:x.off-from+x.length]...)
	}
	p.bytes = int64(length)
	return k.into(ctx, p, frame.TypeData, extents, content, nil)
}

var zeroes = make([]byte, digest.PieceSize)

// readHole tells that n pieces from at on are zeroes.
func readHole(ctx context.Context, k *packer, p *parcel, l *largeFile, at, n uint64) error {
	from := int64(at) * digest.PieceSize
	length := min(int64(n)*digest.PieceSize, l.entry.Size-from)
	buf, err := k.budget.Get(ctx, frame.PayloadAt(1))
	if err != nil {
		return err
	}
	f, err := frame.Build(buf.B, frame.TypeHole, 0, k.pass, []frame.Extent{{Entry: l.number, Offset: uint64(from), Length: uint64(length)}}, 0)
	if err != nil {
		buf.Release()
		return err
	}
	sum, _ := frameSum(f, k.digests)
	s := sealed{sum: sum}
	s.Frame, s.Buffer = f, buf
	p.ready, p.bytes = append(p.ready, s), length
	if k.digests {
		for i := range n {
			size := int(min(digest.PieceSize, length-int64(i)*digest.PieceSize))
			p.nodes = append(p.nodes, placedNode{index: at + i, length: size, node: digest.Piece(at+i, zeroes[:size])})
		}
	}
	return nil
}

// finish checks a large file after its last piece was read, and returns its
// digest.
func (l *largeFile) finish(digests bool) (*frame.FileDigest, error) {
	defer l.f.Close()
	if err := unchanged(l.f, l.file); err != nil {
		return nil, err
	}
	if !digests {
		return nil, nil
	}
	sum, err := l.tree.Sum(l.entry.Size)
	if err != nil {
		return nil, err
	}
	return &frame.FileDigest{Entry: l.number, Size: uint64(l.entry.Size), Sum: sum}, nil
}

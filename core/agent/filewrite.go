package agent

import (
	"errors"
	"fmt"
	"os"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/sdk"
)

// run is the part of a data frame that is one file's.
type run struct {
	extents []frame.Extent
	content []byte
}

// write writes a data frame's content; nodes are those of each file's content
// in it, if it was hashed already; back is memory for a piece that is read
// back. A file that is complete, or that nobody announced, takes nothing:
// frames may come twice.
func (s *files) write(f *frame.Frame, content []byte, nodes []digest.Node, back []byte) error {
	several, err := inOrder(f)
	if err != nil {
		return err
	}
	var extents []frame.Extent
	var node *digest.Node
	for i := 0; i < f.Header.Extents; {
		entry, size := f.Extent(i).Entry, uint64(0)
		extents = extents[:0]
		for ; i < f.Header.Extents && f.Extent(i).Entry == entry; i++ {
			extents = append(extents, f.Extent(i))
			size += f.Extent(i).Length
		}
		r := run{extents, content[:size]}
		content = content[size:]
		if len(nodes) > 0 {
			node, nodes = &nodes[0], nodes[1:]
		}
		if in := s.get(entry); in != nil {
			if err := in.fits(several); err != nil {
				return err
			}
			if err := s.piece(in, r, node, back); err != nil {
				return err
			}
		}
	}
	return nil
}

// inOrder refuses extents that do not ascend, and tells whether they are of
// several files. What was written of a frame whose signature never came is
// found again by its first and its last extent: nothing may lie elsewhere.
func inOrder(f *frame.Frame) (several bool, err error) {
	last := f.Extent(0)
	for i := 1; i < f.Header.Extents; i++ {
		x := f.Extent(i)
		if x.Entry < last.Entry || x.Entry == last.Entry && x.Offset < last.Offset+last.Length {
			return false, &sdk.Error{Kind: sdk.KindIntegrity, Message: fmt.Sprintf("what arrived makes no sense: offset %d of entry %d behind offset %d of entry %d", x.Offset, x.Entry, last.Offset, last.Entry)}
		}
		last = x
	}
	return last.Entry != f.Extent(0).Entry, nil
}

// fits refuses a larger file in a frame of several: such a file has frames of
// its own.
func (in *incoming) fits(several bool) error {
	if several && in.entry.Size > smallFile {
		return in.broken("a part of a larger file among other files")
	}
	return nil
}

// piece writes what a frame brought of one piece of a file.
func (s *files) piece(in *incoming, r run, node *digest.Node, back []byte) error {
	index := r.extents[0].Offset / digest.PieceSize
	length, err := in.check(r, index)
	if err != nil {
		return err
	}
	if in.hasPiece(index) {
		return nil
	}
	f, err := in.use(s.disk)
	if err != nil {
		return err
	}
	err = in.put(f, r)
	if err == nil {
		if len(r.content) < length {
			node = nil // one over less than the piece is of no use
		}
		err = s.book(in, f, index, r.whole(int64(index)*digest.PieceSize, length), node, back)
	}
	return errors.Join(err, in.leave())
}

// book books a piece that was written, and proves it if it can be proved now.
func (s *files) book(in *incoming, f *os.File, index uint64, content []byte, node *digest.Node, back []byte) error {
	if s.proof == proveNow {
		if same, err := s.matches(in, f, index, content, back); err != nil {
			return err
		} else if !same {
			return s.blamed.add(in.number, index, in.entry.Path) // it stays missing
		}
	}
	if !s.arrived(in, index, len(content)) {
		return nil
	}
	if s.spare && in.pieces() > 1 {
		in.keep()
		s.ahead.add(piece{in, index, len(content), node}, f)
	}
	if in.tree == nil || s.proof == proveSoon {
		return nil
	}
	if node == nil {
		n := digest.Piece(index, content)
		node = &n
	}
	return s.proved(in, index, len(content), node)
}

func (in *incoming) pieces() uint64 { return digest.Pieces(in.entry.Size) }

// check holds extents against the file's size and the rule that a frame
// carries whole pieces; it returns the piece's length.
func (in *incoming) check(r run, index uint64) (int, error) {
	from, end := index*digest.PieceSize, uint64(in.entry.Size)
	if from >= end {
		return 0, in.broken("content beyond its end")
	}
	end = min(end, from+digest.PieceSize)
	at := from
	for _, x := range r.extents {
		if x.Offset < at || x.Length > end || x.Offset > end-x.Length {
			return 0, in.broken("content that overlaps or leaves its piece")
		}
		at = x.Offset + x.Length
	}
	return int(end - from), nil
}

func (in *incoming) broken(what string) error {
	return &sdk.Error{Kind: sdk.KindIntegrity, Message: "what arrived for " + in.entry.Path.Display() + " makes no sense: " + what}
}

// whole is the piece with zeroes where no extent is.
func (r run) whole(from int64, length int) []byte {
	if len(r.extents) == 1 && len(r.content) == length {
		return r.content
	}
	b := make([]byte, length)
	rest := r.content
	for _, x := range r.extents {
		copy(b[int64(x.Offset)-from:], rest[:x.Length])
		rest = rest[x.Length:]
	}
	return b
}

func (in *incoming) put(f *os.File, r run) error {
	in.writing.Lock()
	defer in.writing.Unlock()
	rest, end := r.content, uint64(0)
	for _, x := range r.extents {
		if _, err := f.WriteAt(rest[:x.Length], int64(x.Offset)); err != nil {
			return in.cannot(err)
		}
		rest, end = rest[x.Length:], x.Offset+x.Length
	}
	if size := uint64(in.entry.Size); size <= digest.PieceSize && end < size { // a hole at the end
		if err := f.Truncate(in.entry.Size); err != nil {
			return in.cannot(err)
		}
	}
	return nil
}

// hole books pieces that are nothing but zeroes.
func (s *files) hole(f *frame.Frame, back []byte) error {
	several, err := inOrder(f)
	if err != nil {
		return err
	}
	for i := range f.Header.Extents {
		x := f.Extent(i)
		in := s.get(x.Entry)
		if in == nil {
			continue
		}
		if err := in.fits(several); err != nil {
			return err
		}
		size := uint64(in.entry.Size)
		if x.Offset%digest.PieceSize != 0 || x.Length > size || x.Offset > size-x.Length ||
			x.Length%digest.PieceSize != 0 && x.Offset+x.Length != size {
			return in.broken("a hole that is not made of its pieces")
		}
		f, err := in.use(s.disk)
		if err != nil {
			return err
		}
		if err := errors.Join(s.zeroes(in, f, x, back), in.leave()); err != nil {
			return err
		}
	}
	return nil
}

// zeroes books the pieces of a hole; nothing needs to be written, but the
// file needs its size.
func (s *files) zeroes(in *incoming, f *os.File, x frame.Extent, back []byte) error {
	if err := f.Truncate(in.entry.Size); err != nil {
		return in.cannot(err)
	}
	for off := x.Offset; off < x.Offset+x.Length; off += digest.PieceSize {
		length := int(min(digest.PieceSize, uint64(in.entry.Size)-off))
		if err := s.book(in, f, off/digest.PieceSize, zeroes[:length], nil, back); err != nil {
			return err
		}
	}
	return nil
}

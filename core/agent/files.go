package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// files are the regular files whose content has not arrived in full. What is
// left of them when the pass has ended is the need-list. Safe for concurrent
// use.
type files struct {
	disk   *tree.Sink
	meter  *meter
	digest bool // digest what is received, and compare

	mu   sync.Mutex
	open map[uint64]*incoming
	sums map[uint64]digest.Sum // with digest: of one side, until the other's is known
}

// incoming is one such file.
type incoming struct {
	number uint64
	entry  manifest.Entry

	mu    sync.Mutex
	f     *os.File
	users int      // who write just now: a repeated frame may come while the last piece completes the file
	have  []uint64 // a bit for each piece
	left  uint64   // pieces that are missing
	tree  *digest.Tree
}

// maxOpen bounds the files announced and not complete: a source sends content
// soon after the entry.
const maxOpen = 1 << 20

func newFiles(disk *tree.Sink, m *meter, digests bool) *files {
	return &files{disk: disk, meter: m, digest: digests, open: make(map[uint64]*incoming), sums: make(map[uint64]digest.Sum)}
}

// expect announces a file with content.
func (s *files) expect(number uint64, e manifest.Entry) error {
	pieces := digest.Pieces(e.Size)
	in := &incoming{number: number, entry: e, left: pieces, have: make([]uint64, (pieces+63)/64)}
	if s.digest {
		in.tree = digest.NewTree()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxOpen {
		return fmt.Errorf("more than %d files were announced without their content", maxOpen)
	}
	s.open[number] = in
	return nil
}

func (s *files) get(number uint64) *incoming {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[number]
}

// run is the part of a data frame that is one file's.
type run struct {
	extents []frame.Extent
	content []byte
}

// write writes a data frame's content; node is that of its only piece, if it
// was hashed already. A file that is complete, or that nobody announced,
// takes nothing: frames may come twice.
func (s *files) write(f *frame.Frame, content []byte, node *digest.Node) error {
	for i := 0; i < f.Header.Extents; {
		var r run
		entry, size := f.Extent(i).Entry, uint64(0)
		for ; i < f.Header.Extents && f.Extent(i).Entry == entry; i++ {
			r.extents = append(r.extents, f.Extent(i))
			size += f.Extent(i).Length
		}
		r.content, content = content[:size], content[size:]
		if in := s.get(entry); in != nil {
			if err := s.piece(in, r, node); err != nil {
				return err
			}
		}
	}
	return nil
}

// piece writes what a frame brought of one piece of a file.
func (s *files) piece(in *incoming, r run, node *digest.Node) error {
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
	err = s.book(in, f, r, index, length, node)
	return errors.Join(err, in.leave())
}

// book writes the piece and books it.
func (s *files) book(in *incoming, f *os.File, r run, index uint64, length int, node *digest.Node) error {
	if err := in.put(f, r); err != nil {
		return err
	}
	if s.digest && (node == nil || len(r.content) < length) { // a node over less than the piece is of no use
		n := digest.Piece(index, r.whole(int64(index)*digest.PieceSize, length))
		node = &n
	}
	s.meter.bytes.Add(int64(length))
	return s.arrived(in, index, length, node)
}

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

// use opens the file, making it the first time; the caller leaves it.
func (in *incoming) use(disk *tree.Sink) (*os.File, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	f, err := in.file(disk)
	if err == nil {
		in.users++
	}
	return f, err
}

// leave ends a use; the last one of a complete file closes it.
func (in *incoming) leave() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.users--
	if in.users > 0 || in.left > 0 {
		return nil
	}
	f := in.f
	in.f = nil
	if err := f.Close(); err != nil {
		return in.cannot(err)
	}
	return nil
}

// file is called with the lock held.
func (in *incoming) file(disk *tree.Sink) (*os.File, error) {
	if in.f != nil {
		return in.f, nil
	}
	f, err := disk.CreateWrite(&in.entry)
	if err != nil {
		return nil, err
	}
	if in.entry.Size > digest.PieceSize { // holes stay holes, and the size is right in any order
		if err := f.Truncate(in.entry.Size); err != nil {
			f.Close()
			return nil, in.cannot(err)
		}
	}
	in.f = f
	return f, nil
}

func (in *incoming) put(f *os.File, r run) error {
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

func (in *incoming) cannot(err error) error { return cannotWrite(in.entry.Path, err) }

func (in *incoming) hasPiece(index uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.have[index/64]&(1<<(index%64)) != 0
}

// arrived books a piece; the last one completes the file.
func (s *files) arrived(in *incoming, index uint64, length int, node *digest.Node) error {
	in.mu.Lock()
	if in.have[index/64]&(1<<(index%64)) != 0 {
		in.mu.Unlock()
		return nil
	}
	in.have[index/64] |= 1 << (index % 64)
	in.left--
	if in.tree != nil {
		in.tree.Add(index, *node, length)
	}
	complete := in.left == 0
	in.mu.Unlock()
	if !complete {
		return nil
	}
	return s.complete(in)
}

func (s *files) complete(in *incoming) error {
	s.mu.Lock()
	delete(s.open, in.number)
	s.mu.Unlock()
	s.meter.files.Add(1)
	if in.tree == nil {
		return nil
	}
	sum, err := in.tree.Sum(in.entry.Size)
	if err != nil {
		return err
	}
	return s.compare(in.number, sum, func() sdk.Raw { return in.entry.Path })
}

// hole books pieces that are nothing but zeroes.
func (s *files) hole(f *frame.Frame) error {
	for i := range f.Header.Extents {
		x := f.Extent(i)
		in := s.get(x.Entry)
		if in == nil {
			continue
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
		if err := errors.Join(s.zeroes(in, f, x), in.leave()); err != nil {
			return err
		}
	}
	return nil
}

// zeroes books the pieces of a hole; nothing needs to be written, but the
// file needs its size.
func (s *files) zeroes(in *incoming, f *os.File, x frame.Extent) error {
	if err := f.Truncate(in.entry.Size); err != nil {
		return in.cannot(err)
	}
	s.meter.bytes.Add(int64(x.Length))
	for off := x.Offset; off < x.Offset+x.Length; off += digest.PieceSize {
		length := int(min(digest.PieceSize, uint64(in.entry.Size)-off))
		index := off / digest.PieceSize
		var node digest.Node
		if s.digest {
			node = digest.Piece(index, zeroes[:length])
		}
		if err := s.arrived(in, index, length, &node); err != nil {
			return err
		}
	}
	return nil
}

// told takes what the source says of a file; path finds its name.
func (s *files) told(d frame.FileDigest, path func() sdk.Raw) error {
	if !s.digest || d.Size == 0 {
		return nil
	}
	return s.compare(d.Entry, digest.Sum(d.Sum), path)
}

// compare holds a file's digest against the other side's, once both are
// known.
func (s *files) compare(number uint64, sum digest.Sum, path func() sdk.Raw) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	other, ok := s.sums[number]
	if !ok {
		s.sums[number] = sum
		return nil
	}
	delete(s.sums, number)
	if other != sum {
		return differs(path(), fmt.Sprintf("file %d", number))
	}
	return nil
}

// missing is the need-list: the runs of pieces that have not arrived.
func (s *files) missing() []frame.NeedRange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var need []frame.NeedRange
	for number, in := range s.open {
		for p := range digest.Pieces(in.entry.Size) {
			if in.have[p/64]&(1<<(p%64)) != 0 {
				continue
			}
			if n := len(need); n > 0 && need[n-1].Entry == number && need[n-1].Piece+need[n-1].Count == p {
				need[n-1].Count++
			} else {
				need = append(need, frame.NeedRange{Entry: number, Piece: p, Count: 1})
			}
		}
	}
	return need
}

// close closes what is still open.
func (s *files) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.open { // nobody writes any more
		if in.f != nil {
			in.f.Close()
		}
	}
}

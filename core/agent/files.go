package agent

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// files are the regular files of a tree: those whose content has not arrived
// in full, which is the need-list when a pass has ended, and those that were
// not compared yet with what the source read. Safe for concurrent use.
type files struct {
	disk  *tree.Sink
	meter *meter
	level control.VerifyLevel
	proof proof
	spare bool   // the page cache: there is a disk behind it
	ahead window // pieces of large files that the disk was told to take

	mu       sync.Mutex
	open     map[uint64]*incoming
	sums     map[uint64]digest.Sum // of one side, until the other's is known
	proven   numbers               // what was read back and is what the source read
	suspects []suspect
	blamed   blame  // what was not right when it was read back
	expected uint64 // files with content
}

// suspect is a file whose content is not what the source read, and of which
// it is not known which piece.
type suspect struct {
	number uint64
	size   int64
	path   sdk.Raw
}

// maxSuspects bounds them; a disk that is so bad is not worth more questions.
const maxSuspects = 4096

// incoming is one file whose content arrives.
type incoming struct {
	number uint64
	entry  manifest.Entry

	writing sync.Mutex // the kernel lets one write at a time anyhow, and lets the others spin

	mu       sync.Mutex
	f        *os.File
	back     *uncached    // f once more, to be read back
	users    int          // who needs f: writers, and pieces that are to be read back
	have     []uint64     // a bit for each piece
	left     uint64       // pieces that are missing
	tree     *digest.Tree // of what was proven; nil: the digest is not taken on the way
	unproven uint64       // pieces that are not in tree
}

// maxOpen bounds the files announced and not complete: a source sends content
// soon after the entry.
const maxOpen = 1 << 20

func newFiles(disk *tree.Sink, m *meter, level control.VerifyLevel, inMemory bool) *files {
	return &files{disk: disk, meter: m, level: level, proof: newProof(level, inMemory), spare: !inMemory, open: make(map[uint64]*incoming), sums: make(map[uint64]digest.Sum)}
}

// onTheWay reports whether the digest of a file of that size is taken while
// it arrives; else it is taken, if at all, when all has arrived.
func (s *files) onTheWay(size int64) bool {
	switch {
	case s.level == control.VerifyReceived, s.proof == proveNow:
		return true
	case s.proof == proveSoon:
		return size > digest.PieceSize
	}
	return false
}

// expect announces a file with content.
func (s *files) expect(number uint64, e manifest.Entry) error {
	pieces := digest.Pieces(e.Size)
	in := &incoming{number: number, entry: e, left: pieces, unproven: pieces, have: make([]uint64, (pieces+63)/64)}
	if s.onTheWay(e.Size) {
		in.tree = digest.NewTree()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxOpen {
		return fmt.Errorf("more than %d files were announced without their content", maxOpen)
	}
	s.open[number] = in
	s.expected++
	return nil
}

func (s *files) get(number uint64) *incoming {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[number]
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

// keep is one more use of a file that is in use.
func (in *incoming) keep() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.users++
}

// leave ends a use; the last one of a complete file closes it.
func (in *incoming) leave() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.users--
	if in.users > 0 || in.left > 0 {
		return nil
	}
	if in.back != nil {
		in.back.close()
		in.back = nil
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

// again returns the file, which is in use, for reading it back.
func (in *incoming) again(disk *tree.Sink) (*uncached, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var err error
	if in.back == nil {
		in.back, err = openUncached(disk, &in.entry)
	}
	return in.back, err
}

func (in *incoming) cannot(err error) error { return cannotWrite(in.entry.Path, err) }

func (in *incoming) hasPiece(index uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.have[index/64]&(1<<(index%64)) != 0
}

// arrived books a piece, and reports whether it was missing.
func (s *files) arrived(in *incoming, index uint64, length int) bool {
	in.mu.Lock()
	bit := uint64(1) << (index % 64)
	missing := in.have[index/64]&bit == 0
	if missing {
		in.have[index/64] |= bit
		in.left--
	}
	last := missing && in.left == 0
	in.mu.Unlock()
	if missing {
		s.meter.bytes.Add(int64(length))
	}
	if last {
		s.settle(in)
	}
	return missing
}

// lost makes a piece missing again that had arrived, since it could not be
// read back as it was written.
func (s *files) lost(in *incoming, index uint64, length int) error {
	if err := s.blamed.add(in.number, index, in.entry.Path); err != nil {
		return err
	}
	in.mu.Lock()
	in.have[index/64] &^= 1 << (index % 64)
	in.left++
	in.mu.Unlock()
	s.meter.bytes.Add(-int64(length))
	s.settle(in)
	return nil
}

// settle books whether a file is complete. Pieces may arrive and be lost
// meanwhile: what counts is how it is now.
func (s *files) settle(in *incoming) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in.mu.Lock()
	complete := in.left == 0
	in.mu.Unlock()
	_, open := s.open[in.number]
	switch {
	case complete && open:
		delete(s.open, in.number)
		s.meter.files.Add(1)
	case !complete && !open:
		s.open[in.number] = in
		s.meter.files.Add(-1)
	}
}

// proved adds a piece to the digest of its file; the last one concludes it.
func (s *files) proved(in *incoming, index uint64, length int, node *digest.Node) error {
	in.mu.Lock()
	if !in.tree.Add(index, *node, length) {
		in.mu.Unlock()
		return nil
	}
	in.unproven--
	done := in.unproven == 0
	in.mu.Unlock()
	if !done {
		return nil
	}
	sum, err := in.tree.Sum(in.entry.Size)
	if err != nil {
		return err
	}
	return s.compare(in.number, in.entry.Size, sum, func() sdk.Raw { return in.entry.Path })
}

// nothing is the digest of an empty file.
var nothing = digest.Of(nil)

// told takes what the source says of a file; path finds its name.
func (s *files) told(d frame.FileDigest, path func() sdk.Raw) error {
	if d.Size == 0 && digest.Sum(d.Sum) != nothing {
		return differs(path(), "")
	}
	if !s.onTheWay(int64(d.Size)) || d.Size == 0 {
		return nil
	}
	return s.compare(d.Entry, int64(d.Size), digest.Sum(d.Sum), path)
}

// compare holds a file's digest against the other side's, once both are
// known.
func (s *files) compare(number uint64, size int64, sum digest.Sum, path func() sdk.Raw) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	other, ok := s.sums[number]
	if !ok {
		s.sums[number] = sum
		return nil
	}
	delete(s.sums, number)
	if other == sum {
		s.proven.add(number)
		return nil
	}
	return s.doubt(suspect{number, size, path()})
}

// doubt is called with the lock held.
func (s *files) doubt(x suspect) error {
	if len(s.suspects) >= maxSuspects {
		return differs(x.path, fmt.Sprintf("file %d", x.number))
	}
	s.suspects = append(s.suspects, x)
	return nil
}

// found takes the suspects there are.
func (s *files) found() []suspect {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.suspects
	s.suspects = nil
	return list
}

// concluded books what a read-back of a whole file has shown.
func (s *files) concluded(number uint64, e *manifest.Entry, same bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !same && e.HardLink != 0: // a copy that was made here
		return differs(e.Path, "")
	case !same:
		return s.doubt(suspect{number, e.Size, e.Path})
	case e.HardLink == 0 && e.Size > 0:
		s.proven.add(number)
	}
	return nil
}

// isProven reports whether a file was read back and is what the source read.
func (s *files) isProven(number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven.has(number)
}

// allProven reports whether every file was read back on the way.
func (s *files) allProven(disk *tree.Sink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven.count == s.expected && !disk.Apart()
}

// missing is the need-list: the first runs of pieces that have not arrived,
// limit of them at most, in ascending order.
func (s *files) missing(limit int) []frame.NeedRange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var need []frame.NeedRange
	for _, number := range slices.Sorted(maps.Keys(s.open)) {
		in := s.open[number]
		for p := range digest.Pieces(in.entry.Size) {
			if in.have[p/64]&(1<<(p%64)) != 0 {
				continue
			}
			if n := len(need); n > 0 && need[n-1].Entry == number && need[n-1].Piece+need[n-1].Count == p {
				need[n-1].Count++
			} else if n == limit {
				return need
			} else {
				need = append(need, frame.NeedRange{Entry: number, Piece: p, Count: 1})
			}
		}
	}
	return need
}

// partials are the files that are not whole, in ascending order.
func (s *files) partials() []partial {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []partial
	for _, number := range slices.Sorted(maps.Keys(s.open)) {
		in := s.open[number]
		in.mu.Lock()
		list = append(list, partial{entry: number, pieces: in.pieces(), have: slices.Clone(in.have)})
		in.mu.Unlock()
	}
	return list
}

// close closes what is still open; nobody writes any more.
func (s *files) close() {
	for x, ok := s.ahead.next(0); ok; x, ok = s.ahead.next(0) {
		_ = x.in.leave() // what was written to it is given up
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.open {
		if in.f != nil {
			in.f.Close()
		}
		if in.back != nil {
			in.back.close()
		}
	}
}

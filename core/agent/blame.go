package agent

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// blame remembers what was not right when it was read back, since each piece,
// and each file, is asked for only once more. Safe for concurrent use.
type blame struct {
	mu      sync.Mutex
	places  map[place]bool
	files   map[uint64]bool
	example sdk.Raw
}

// place is a piece of a file, or wholeFile.
type place struct{ entry, piece uint64 }

const wholeFile = 1<<64 - 1

// add blames a place. The second time it is the file's failure, and so is it
// when there are so many that the disk is not worth more questions.
func (b *blame) add(entry, piece uint64, path sdk.Raw) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := (place{entry, piece}); b.places[at] || len(b.places) >= maxSuspects {
		return differs(path, "")
	} else if b.places == nil {
		b.places, b.files, b.example = map[place]bool{at: true}, map[uint64]bool{entry: true}, path
	} else {
		b.places[at], b.files[entry] = true, true
	}
	return nil
}

// warnings tells of what was repaired.
func (b *blame) warnings() []control.Warning {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.files) == 0 {
		return nil
	}
	return []control.Warning{{What: "files differed when they were read back, and were sent again: check the disk and the memory of this host",
		Count: int64(len(b.files)), Example: b.example}}
}

// reopen makes pieces of a file that is complete missing again: what lies in
// their place is thrown away, so that holes are holes again, and a frame that
// brings them is written anew.
func (s *files) reopen(number uint64, e manifest.Entry, pieces ...uint64) error {
	if err := clearPieces(s.disk, &e, pieces); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.open[number]
	if in == nil {
		in = whole(number, e)
		s.open[number] = in
		s.meter.files.Add(-1)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, p := range pieces {
		if bit := uint64(1) << (p % 64); in.have[p/64]&bit != 0 {
			in.have[p/64] &^= bit
			in.left++
			s.meter.bytes.Add(-pieceLength(e.Size, p))
		}
	}
	return nil
}

// forget makes pieces of a file missing again, those of them that have arrived.
// Nobody writes meanwhile.
func (s *files) forget(number uint64, e manifest.Entry, first, count uint64) error {
	in := s.get(number)
	var had []uint64
	for p := first; p < min(first+count, digest.Pieces(e.Size)); p++ {
		if in == nil || in.hasPiece(p) {
			had = append(had, p)
		}
	}
	if len(had) == 0 {
		return nil
	}
	return s.reopen(number, e, had...)
}

// whole is a file of which nothing is missing. Its digest is not taken while
// pieces come again.
func whole(number uint64, e manifest.Entry) *incoming {
	n := digest.Pieces(e.Size)
	in := &incoming{number: number, entry: e, have: make([]uint64, (n+63)/64)}
	for p := range n {
		in.have[p/64] |= 1 << (p % 64)
	}
	return in
}

func pieceLength(size int64, piece uint64) int64 {
	return min(digest.PieceSize, size-int64(piece)*digest.PieceSize)
}

// clearPieces throws away what lies in the place of pieces.
func clearPieces(disk *tree.Sink, e *manifest.Entry, pieces []uint64) (err error) {
	f, err := disk.OpenWrite(e)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = cannotWrite(e.Path, cerr)
		}
	}()
	if e.Size <= digest.PieceSize {
		if err := f.Truncate(0); err != nil {
			return cannotWrite(e.Path, err)
		}
		return nil
	}
	for len(pieces) > 0 {
		n := 1
		for n < len(pieces) && pieces[n] == pieces[n-1]+1 {
			n++
		}
		if err := clearRun(f, e, pieces[:n]); err != nil {
			return cannotWrite(e.Path, err)
		}
		pieces = pieces[n:]
	}
	return nil
}

// clearRun makes neighbouring pieces a hole.
func clearRun(f *os.File, e *manifest.Entry, pieces []uint64) error {
	from := int64(pieces[0]) * digest.PieceSize
	end := min(from+int64(len(pieces))*digest.PieceSize, e.Size)
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if unix.Fallocate(int(f.Fd()), punch, from, end-from) == nil {
		return nil
	}
	for _, p := range pieces { // the file system knows no holes
		if _, err := f.WriteAt(zeroes[:pieceLength(e.Size, p)], int64(p)*digest.PieceSize); err != nil {
			return err
		}
	}
	return nil
}

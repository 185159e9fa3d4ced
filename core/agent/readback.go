package agent

import (
	"bytes"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/sdk"
)

// proof says when what was written is read back.
type proof int

const (
	proveNever proof = iota // it is not asked for
	// proveNow: as soon as it is written. The file system keeps its files in
	// memory, so there is nothing else to ask, now or later.
	proveNow
	// proveSoon: large files piece by piece, when the disk has them, while
	// more comes; small ones when all has come, since one sync for all is so
	// much cheaper than one for each.
	proveSoon
)

// newProof chooses for a file system.
func newProof(level control.VerifyLevel, inMemory bool) proof {
	switch {
	case level != control.VerifyReadBack:
		return proveNever
	case inMemory:
		return proveNow
	}
	return proveSoon
}

// piece is one that was written.
type piece struct {
	in     *incoming // held
	index  uint64
	length int
	node   *digest.Node // of what was written; nil: not known
}

// windowBytes is how much may be on its way to the disk before the oldest of
// it is waited for.
const windowBytes = 64 << 20

// window is what was written of large files and is on its way to the disk,
// the oldest first. It keeps the kernel from gathering all memory's worth of
// it, and those who read it back from waiting for it. Safe for concurrent use.
type window struct {
	mu    sync.Mutex
	queue []piece
	bytes int
}

// add has the disk begin with a piece.
func (w *window) add(p piece, f *os.File) {
	// What it cannot do is done, and its error told, when it is waited for.
	_ = unix.SyncFileRange(int(f.Fd()), p.at(), int64(p.length), unix.SYNC_FILE_RANGE_WRITE)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, p)
	w.bytes += p.length
}

// next takes the oldest piece out, if there are more than so many bytes.
func (w *window) next(above int) (piece, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes <= above {
		return piece{}, false
	}
	p := w.queue[0]
	w.queue[0] = piece{}
	w.queue = w.queue[1:]
	w.bytes -= p.length
	return p, true
}

func (p *piece) at() int64 { return int64(p.index) * digest.PieceSize }

// proveAhead reads pieces back that are behind the window; above 0, all.
func (s *files) proveAhead(above int, back []byte) error {
	for {
		p, ok := s.ahead.next(above)
		if !ok {
			return nil
		}
		if err := errors.Join(s.prove(p, back), p.in.leave()); err != nil {
			return err
		}
	}
}

// prove waits until the disk has a piece and, where that is wanted, compares
// what is there with what was written, as far as that is known; what differs
// is missing again.
func (s *files) prove(p piece, back []byte) error {
	if err := settleRange(p.in.f, p.at(), p.length); err != nil { // p.in is held: nobody closes it
		return p.in.cannot(err)
	}
	if s.proof != proveSoon {
		return nil
	}
	f, err := p.in.again(s.disk)
	if err != nil {
		return err
	}
	b := back[:p.length]
	if err := f.read(b, p.at()); err != nil {
		return cannotReadBack(p.in.entry.Path, err)
	}
	s.meter.checked.Add(int64(p.length))
	s.meter.disk.Stop() // the caller's time is the disk's, but for this
	node := digest.Piece(p.index, b)
	s.meter.disk.Start()
	if p.node != nil && p.node.Value() != node.Value() {
		return s.lost(p.in, p.index, p.length)
	}
	if p.in.tree == nil { // sent again: the whole is read back when all has come
		return nil
	}
	return s.proved(p.in, p.index, p.length, &node)
}

// settleRange waits until the disk has a range, and takes it out of the page
// cache: a busy host's is spared.
func settleRange(f *os.File, off int64, length int) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	err := unix.SyncFileRange(int(f.Fd()), off, int64(length), all)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		err = f.Sync()
	}
	evict(f, off, length)
	return err
}

// matches compares what is in the file with what was just written to it.
func (s *files) matches(in *incoming, f *os.File, index uint64, content, back []byte) (bool, error) {
	b := back[:len(content)]
	if _, err := f.ReadAt(b, int64(index)*digest.PieceSize); err != nil {
		return false, cannotReadBack(in.entry.Path, err)
	}
	s.meter.checked.Add(int64(len(b)))
	return bytes.Equal(b, content), nil
}

// cannotReadBack says that a file cannot be read again.
func cannotReadBack(path sdk.Raw, err error) error {
	return &sdk.Error{Kind: sdk.KindIntegrity, Message: "cannot read " + path.Display() + " back: " + err.Error(),
		Hint: "check the disk of this host"}
}

// numbers is a set of entry numbers, a bit each.
type numbers struct {
	bits  []uint64
	count uint64
}

func (s *numbers) has(n uint64) bool {
	return n/64 < uint64(len(s.bits)) && s.bits[n/64]&(1<<(n%64)) != 0
}

func (s *numbers) add(n uint64) {
	for uint64(len(s.bits)) <= n/64 {
		s.bits = append(s.bits, 0)
	}
	if !s.has(n) {
		s.bits[n/64] |= 1 << (n % 64)
		s.count++
	}
}

func (s *numbers) remove(n uint64) {
	if s.has(n) {
		s.bits[n/64] &^= 1 << (n % 64)
		s.count--
	}
}

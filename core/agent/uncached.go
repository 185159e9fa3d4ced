package agent

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
)

// uncached is a file that is read from the disk and not from the page cache,
// which it leaves as it was: directly (O_DIRECT) where the file system can,
// else with its pages thrown out before and afterwards. They must be clean:
// what was written is on the disk. Safe for concurrent use.
type uncached struct {
	f      *os.File
	direct atomic.Bool
}

// directAlign is what O_DIRECT wants offset, length and memory to be multiples
// of: the largest logical block of a disk that is common (open(2), NOTES).
const directAlign = 4096

// alignedMemory makes n bytes for reads of an uncached; n is a multiple of
// directAlign.
func alignedMemory(n int) []byte {
	b := make([]byte, n+directAlign)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) % directAlign)
	return b[off : off+n : off+n]
}

// openUncached opens the file of an entry; the caller closes it.
func openUncached(disk *tree.Sink, e *manifest.Entry) (*uncached, error) {
	u := &uncached{}
	f, err := disk.OpenDirect(e)
	u.direct.Store(err == nil)
	if err != nil {
		if f, err = disk.OpenRead(e); err != nil {
			return nil, err
		}
	}
	u.f = f
	evict(f, 0, 0)
	return u, nil
}

// evict throws a range, from a page's beginning on, out of the page cache; a
// length of 0 is up to the end. The kernel leaves a page of which the range has
// but a part.
func evict(f *os.File, off int64, length int) {
	_ = unix.Fadvise(int(f.Fd()), off, int64(wholeBlocks(length)), unix.FADV_DONTNEED)
}

func wholeBlocks(n int) int { return (n + directAlign - 1) / directAlign * directAlign }

// read fills b, which lies at the beginning of aligned memory, from an offset
// that is aligned. A file that ends before is io.ErrUnexpectedEOF.
func (u *uncached) read(b []byte, off int64) error {
	if u.direct.Load() {
		err := u.readDirect(b, off)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
		u.indirect()
	}
	evict(u.f, off, len(b))
	defer evict(u.f, off, len(b))
	n, err := u.f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readDirect reads whole blocks, so perhaps more than b, up to the end of the
// file.
func (u *uncached) readDirect(b []byte, off int64) error {
	whole := wholeBlocks(len(b))
	if whole > cap(b) {
		return unix.EINVAL
	}
	for done := 0; done < len(b); {
		n, err := unix.Pread(int(u.f.Fd()), b[done:whole], off+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return &os.PathError{Op: "read", Path: u.f.Name(), Err: err}
		}
		done += n
		if n == 0 || done < len(b) && done%directAlign != 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// indirect gives direct reading up, for a file system that opens so and does
// not read so.
func (u *uncached) indirect() {
	if flags, err := unix.FcntlInt(u.f.Fd(), unix.F_GETFL, 0); err == nil {
		_, _ = unix.FcntlInt(u.f.Fd(), unix.F_SETFL, flags&^unix.O_DIRECT)
	}
	u.direct.Store(false)
}

func (u *uncached) close() { u.f.Close() }

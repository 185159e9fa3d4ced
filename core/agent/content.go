package agent

import (
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/pagecache"
	"github.com/transferpy/transferpy/sdk"
)

// contentReader is where all that is read of a source's content goes through,
// in whichever pass: it keeps to --limit-read and spares the page cache. Safe
// for concurrent use.
type contentReader struct {
	pace *pacer // nil: no limit

	mu       sync.Mutex
	inMemory map[uint64]bool // by device: its files are in memory and nowhere else
}

// newContentReader makes the reader of a source; limit is in bytes a second, 0
// for none.
func newContentReader(limit int64) *contentReader {
	r := &contentReader{inMemory: make(map[uint64]bool)}
	if limit > 0 {
		r.pace = newPacer(limit)
	}
	return r
}

// at fills b from a file at off, which is a multiple of the page size. What of
// that was not cached before is not cached afterwards.
func (r *contentReader) at(ctx context.Context, f *os.File, dev uint64, path sdk.Raw, b []byte, off int64) error {
	if err := r.wait(ctx, len(b)); err != nil {
		return err
	}
	if r.memory(f, dev) {
		return readAt(f, path, b, off)
	}
	cold := pagecache.Cold(f, off, int64(len(b)))
	err := readAt(f, path, b, off)
	pagecache.Drop(f, cold)
	return err
}

// wait waits until n bytes may be read.
func (r *contentReader) wait(ctx context.Context, n int) error {
	if r.pace == nil {
		return nil
	}
	return r.pace.wait(ctx, n)
}

// memory reports whether files of a device, of which f is one, have no other
// place than the page cache: there is nothing to spare then.
func (r *contentReader) memory(f *os.File, dev uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	is, known := r.inMemory[dev]
	if !known {
		var st unix.Statfs_t
		is = unix.Fstatfs(int(f.Fd()), &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
		r.inMemory[dev] = is
	}
	return is
}

// limited is a stream that keeps to the limit.
type limited struct {
	ctx context.Context
	r   *contentReader
	in  io.Reader
}

// Read reads at most what may be read at once, so that a command that makes
// the stream is braked evenly.
func (l *limited) Read(p []byte) (int, error) {
	p = p[:min(len(p), l.r.pace.step())]
	n, err := l.in.Read(p)
	if n > 0 {
		if werr := l.r.wait(l.ctx, n); werr != nil {
			return n, werr
		}
	}
	return n, err
}

// stream returns in, at the reader's limit.
func (r *contentReader) stream(ctx context.Context, in io.Reader) io.Reader {
	if r.pace == nil {
		return in
	}
	return &limited{ctx, r, in}
}

// spared is a file that is read as a stream. The kernel reads ahead for it, so
// that only a file of which nothing was cached at the beginning is known to
// leave nothing of use behind.
type spared struct {
	f    *os.File
	off  int64
	cold bool
}

// sparedFile returns the stream of a file from its beginning.
func sparedFile(f *os.File, size int64) *spared {
	cold := pagecache.Cold(f, 0, min(size, 1<<20))
	return &spared{f: f, cold: len(cold) == 1 && cold[0].Len == min(size, 1<<20)}
}

func (s *spared) Read(p []byte) (int, error) {
	n, err := s.f.Read(p)
	if s.cold {
		pagecache.Drop(s.f, []pagecache.Range{{Off: s.off, Len: int64(n)}})
	}
	s.off += int64(n)
	return n, err
}

package agent

import (
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/pagecache"
	"github.com/transferpy/transferpy/core/agent/stopwatch"
	"github.com/transferpy/transferpy/sdk"
)

// contentReader is where all that is read of a source's content goes through,
// in whichever pass: it keeps to --limit-read and spares the page cache. Safe
// for concurrent use.
type contentReader struct {
	pace   *pacer // nil: no limit
	braked *stopwatch.Watch

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
	var cold []pagecache.Range
	if !r.memory(f, dev) {
		cold = pagecache.Cold(f, off, int64(len(b)))
	}
	err := readAt(f, path, b, off)
	pagecache.Drop(f, cold)
	return err
}

// piece is at for the beginning of a large file's piece.
func (r *contentReader) piece(ctx context.Context, l *largeFile, b []byte, index uint64) error {
	off := int64(index) * digest.PieceSize
	cold, known := l.ahead.take(index)
	if !known {
		return r.at(ctx, l.f, l.ident.Dev, l.entry.Path, b, off)
	}
	if err := r.wait(ctx, len(b)); err != nil {
		return err
	}
	err := readAt(l.f, l.entry.Path, b, off)
	pagecache.Drop(l.f, cold)
	return err
}

// wait waits until n bytes may be read.
func (r *contentReader) wait(ctx context.Context, n int) error {
	if r.pace == nil {
		return nil
	}
	r.braked.Start()
	defer r.braked.Stop()
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
	f       *os.File
	cold    bool
	off     int64 // read
	dropped int64 // dropped; whole pages
}

// sparedFile returns the stream of a file from its beginning.
func sparedFile(f *os.File, size int64) *spared {
	s := &spared{f: f, cold: true}
	for off := int64(0); off < size && s.cold; off += pagecache.MaxRange {
		n := min(size-off, pagecache.MaxRange)
		cold := pagecache.Cold(f, off, n)
		s.cold = len(cold) == 1 && cold[0].Len == n
	}
	return s
}

// dropStep is how much of a stream is dropped at once.
const dropStep = 1 << 20

func (s *spared) Read(p []byte) (int, error) {
	n, err := s.f.Read(p)
	s.off += int64(n)
	if behind := s.off - s.dropped; s.cold && (behind >= dropStep || err != nil && behind > 0) {
		if err == nil {
			behind -= behind % dropStep
		}
		pagecache.Drop(s.f, []pagecache.Range{{Off: s.dropped, Len: behind}})
		s.dropped += behind
	}
	return n, err
}

package audit

import (
	"context"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
)

// piecesAtOnce is how many pieces of a large file one worker reads in one go.
const piecesAtOnce = 8

// content is a file whose bytes are to be compared, in spans of pieces by
// several workers.
type content struct {
	n     uint64
	entry manifest.Entry // as the walk saw it
	want  manifest.Digest

	mu     sync.Mutex
	f      *os.File // of a file of several spans
	tree   *digest.Tree
	left   uint64 // pieces
	failed string // why it could not be read
}

// span is one worker's part of a file.
type span struct {
	c        *content
	from, to uint64 // pieces
}

// reader reads files below one top-level name.
type reader struct {
	a    *audit
	src  *tree.Source
	work chan span
}

func newReader(a *audit, src *tree.Source) *reader {
	return &reader{a: a, src: src, work: make(chan span, 16)}
}

// start starts the workers, which end after done.
func (r *reader) start(ctx context.Context, group *errgroup.Group) {
	for range runtime.GOMAXPROCS(0) + 2 {
		group.Go(func() error {
			buf := make([]byte, digest.PieceSize)
			for s := range r.work {
				if ctx.Err() == nil {
					r.span(s, buf)
				}
			}
			return context.Cause(ctx)
		})
	}
}

func (r *reader) done() { close(r.work) }

// read hands a file to the workers.
func (r *reader) read(ctx context.Context, c *content) error {
	pieces := digest.Pieces(c.entry.Size)
	c.tree, c.left = digest.NewTree(), pieces
	if pieces > piecesAtOnce {
		f, err := r.open(c)
		if err != nil {
			r.a.report(control.FindingDiffers, c.entry.Path, c.n, err.Error())
			return nil
		}
		c.f = f
	}
	for from := uint64(0); from == 0 || from < pieces; from += piecesAtOnce {
		select {
		case r.work <- span{c, from, min(from+piecesAtOnce, pieces)}:
		case <-ctx.Done():
			return context.Cause(ctx) // the file is closed by its finalizer, if at all: the check ends
		}
	}
	return nil
}

// open opens a file with its pages thrown out of the cache, so that reading
// asks the disk.
func (r *reader) open(c *content) (*os.File, error) {
	f, _, err := r.src.Open(&c.entry)
	if err == nil {
		r.forget(f)
	}
	return f, err
}

func (r *reader) forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// span reads one part; the last to end compares the file.
func (r *reader) span(s span, buf []byte) {
	c := s.c
	f := c.f
	if f == nil {
		var err error
		if f, err = r.open(c); err != nil {
			r.conclude(c, s.to-s.from, err.Error())
			return
		}
		defer f.Close()
		defer r.forget(f)
	}
	for p := s.from; p < s.to; p++ {
		off := int64(p) * digest.PieceSize
		b := buf[:min(digest.PieceSize, c.entry.Size-off)]
		if _, err := f.ReadAt(b, off); err != nil {
			r.conclude(c, s.to-p, "cannot be read: "+err.Error())
			return
		}
		node := digest.Piece(p, b)
		r.a.Checked.Add(int64(len(b)))
		c.mu.Lock()
		c.tree.Add(p, node, len(b))
		c.left--
		c.mu.Unlock()
	}
	r.conclude(c, 0, "")
}

// conclude notes that pieces will not come, and compares a file of which
// nothing is to come any more.
func (r *reader) conclude(c *content, lost uint64, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left -= lost
	if c.failed == "" {
		c.failed = why
	}
	if c.left != 0 || c.tree == nil {
		return
	}
	if c.f != nil {
		r.forget(c.f)
		c.f.Close()
	}
	sum, err := c.tree.Sum(c.entry.Size)
	c.tree = nil // once
	switch {
	case c.failed != "":
		r.a.report(control.FindingDiffers, c.entry.Path, c.n, c.failed)
	case err != nil || sum != c.want.Sum:
		r.a.report(control.FindingDiffers, c.entry.Path, c.n, "other content")
	}
}

// cacheOnly names a file system that lives in memory; empty for others.
func cacheOnly(dir *os.File) string {
	var st unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return ""
	}
	switch int64(st.Type) {
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	}
	return ""
}

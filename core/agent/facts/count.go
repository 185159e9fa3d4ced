package facts

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of a count. What lies beyond makes the answer a lower bound.
const (
	maxLinks = 1 << 19 // files with several names that are remembered: about 20 MB
	maxDepth = 1000    // directories open at once
	batch    = 512     // names read in one go
)

// counter is one count under way.
type counter struct {
	ctx   context.Context
	facts *sdk.PathFacts
	links map[fileID]struct{} // with several names, seen already
	size  func(*unix.Stat_t) int64
}

type fileID struct{ dev, ino uint64 }

// count counts the path itself, which is open as fd, and all below it, until
// ctx ends. It follows no links and opens directories by their parent's
// descriptor, since whoever owns the tree may change it meanwhile. What
// cannot be read makes the answer partial.
func count(ctx context.Context, fd int, st *unix.Stat_t, f *sdk.PathFacts) error {
	c := &counter{ctx: ctx, facts: f, links: map[fileID]struct{}{}, size: func(st *unix.Stat_t) int64 { return st.Size }}
	c.add(st)
	if f.Type != sdk.FileDirectory {
		return nil
	}
	dir, err := openDir(fd, ".")
	if err != nil {
		f.Partial = true
		return nil
	}
	c.walk(dir, 1)
	return nil
}

// walk counts what is in dir, and closes it.
func (c *counter) walk(dir *os.File, depth int) {
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			if c.ctx.Err() != nil {
				c.facts.Partial = true
				return
			}
			c.entry(dir, name, depth)
		}
		if isEOF(err) {
			return
		}
		if err != nil {
			c.facts.Partial = true
			return
		}
	}
}

func (c *counter) entry(dir *os.File, name string, depth int) {
	fd := int(dir.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		// A file that is gone by now is none of the tree's.
		c.facts.Partial = c.facts.Partial || !errors.Is(err, unix.ENOENT)
		return
	}
	c.add(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	sub, err := openDir(fd, name)
	if err != nil || depth == maxDepth {
		c.facts.Partial = c.facts.Partial || !errors.Is(err, unix.ENOENT)
		if err == nil {
			sub.Close()
		}
		return
	}
	c.walk(sub, depth+1)
}

// add counts one entry; the bytes of a file with several names once.
func (c *counter) add(st *unix.Stat_t) {
	c.facts.Entries++
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	if st.Nlink > 1 {
		id := fileID{uint64(st.Dev), st.Ino}
		if _, seen := c.links[id]; seen {
			return
		}
		if len(c.links) == maxLinks {
			c.facts.Partial = true
			return
		}
		c.links[id] = struct{}{}
	}
	c.facts.Bytes += c.size(st)
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Link makes e a hard link of first, which precedes it in the manifest, and
// makes first, empty, if it is not there yet: its content may be under way.
// Where the file system refuses, e becomes a file of its own, with a warning,
// and gets its content by CopyApart. A repeat does no harm.
func (k *Sink) Link(e, first *manifest.Entry) error {
	if err := errors.Join(manifest.ValidatePath(e.Path), manifest.ValidatePath(first.Path)); err != nil {
		return err
	}
	if first.HardLink != 0 || first.Type != e.Type || e.Type == sdk.FileDirectory {
		return &sdk.Error{Kind: sdk.KindIntegrity, Message: fmt.Sprintf("%s, a %s, cannot be a hard link of %s, a %s",
			e.Path.Display(), e.Type, first.Path.Display(), first.Type)}
	}
	err := k.link(e, first)
	if errors.Is(err, unix.ENOENT) {
		if err := k.Create(first); err != nil {
			return err
		}
		if err = k.link(e, first); errors.Is(err, unix.ENOENT) && isSpecial(e.Type) && k.unmade.Load() {
			return k.Create(e) // refused as its first was; counted
		}
	}
	if errors.Is(err, unix.EMLINK) {
		err = k.linkToCopy(e, first)
	}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EMLINK):
		k.notes.add(noteHardLinks, e.Path)
		k.apart.Store(true)
		return k.Create(e)
	case errors.Is(err, unix.EEXIST):
		if same, err2 := k.linked(e, first); err2 == nil && (same || k.apart.Load()) {
			return nil
		}
	}
	return diskerr.New("cannot link", k.full(e.Path), err)
}

// LinkNew makes e, of whose name there must be nothing yet (KindExists), a hard
// link of first, a regular file that is there. Where the file system refuses,
// that is the error: e does not become a file of its own.
func (k *Sink) LinkNew(e, first *manifest.Entry) error {
	if err := errors.Join(manifest.ValidatePath(e.Path), manifest.ValidatePath(first.Path)); err != nil {
		return err
	}
	return diskerr.New("cannot link", k.full(e.Path), k.link(e, first))
}

// maxCopies bounds what is remembered of files that have all the names they
// can have; beyond it each name becomes a file of its own.
const maxCopies = 10_000

// copies are the files that took over when a file could have no more names:
// for each such file the newest, as long as that has room for names.
type copies struct {
	mu     sync.Mutex
	newest map[sdk.Raw]manifest.Entry
	all    map[sdk.Raw]bool
}

// linkToCopy makes e a name of the newest copy of first; EMLINK says that e
// must become the next one.
func (k *Sink) linkToCopy(e, first *manifest.Entry) error {
	c := &k.copies
	c.mu.Lock()
	defer c.mu.Unlock()
	if newest, ok := c.newest[first.Path]; ok {
		if err := k.link(e, &newest); !errors.Is(err, unix.EMLINK) {
			return err
		}
	}
	if len(c.all) < maxCopies {
		if c.all == nil {
			c.all, c.newest = make(map[sdk.Raw]bool), make(map[sdk.Raw]manifest.Entry)
		}
		c.newest[first.Path] = *e
		c.all[e.Path] = true
	}
	return unix.EMLINK
}

func (k *Sink) link(e, first *manifest.Entry) error {
	return k.in(first.Path, func(fromParent int, fromName string) error {
		return k.in(e.Path, func(parent int, name string) error {
			return unix.Linkat(fromParent, fromName, parent, name, 0)
		})
	})
}

// linked reports whether two entries are one file here.
func (k *Sink) linked(e, first *manifest.Entry) (bool, error) {
	var a, b unix.Stat_t
	if err := errors.Join(k.stat(e.Path, &a), k.stat(first.Path, &b)); err != nil {
		return false, err
	}
	return a.Dev == b.Dev && a.Ino == b.Ino, nil
}

func (k *Sink) stat(p sdk.Raw, st *unix.Stat_t) error {
	return k.in(p, func(parent int, name string) error {
		return unix.Fstatat(parent, name, st, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Apart reports whether hard links were refused, so that some names are files
// of their own.
func (k *Sink) Apart() bool { return k.apart.Load() }

// CopyApart gives the files that could not become hard links the content of
// the file that they should be. It is called once all content is written, and
// does nothing where all links were made.
func (k *Sink) CopyApart(ctx context.Context, spool *manifest.Spool) error {
	if !k.Apart() {
		return nil
	}
	return spool.Each(ctx, func(_ uint64, e manifest.Entry, _ manifest.Digest) error {
		if e.HardLink == 0 || e.Type != sdk.FileRegular || e.Size == 0 {
			return nil
		}
		first, err := spool.Entry(e.HardLink - 1)
		if err != nil {
			return err
		}
		var st, of unix.Stat_t
		if err := errors.Join(k.stat(e.Path, &st), k.stat(first.Path, &of)); err != nil {
			return diskerr.New("cannot look at", k.full(e.Path), err)
		}
		if st.Dev == of.Dev && st.Ino == of.Ino || st.Nlink > 1 && !k.copies.all[e.Path] {
			return nil // a name of the first, or of a copy, which is in the list itself
		}
		return k.copyContent(ctx, &e, &first)
	})
}

// copyContent copies what is data of first; holes stay holes.
func (k *Sink) copyContent(ctx context.Context, e, first *manifest.Entry) error {
	from, err := k.OpenRead(first)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := k.OpenWrite(e)
	if err != nil {
		return err
	}
	err = to.Truncate(e.Size)
	if err == nil {
		err = Extents(from, e.Size, func(off, length int64, hole bool) error {
			if hole {
				return nil
			}
			return copyRange(ctx, to, from, off, length)
		})
	}
	return diskerr.New("cannot copy", k.full(e.Path), errors.Join(err, to.Close()))
}

func copyRange(ctx context.Context, to, from *os.File, off, length int64) error {
	const step = 8 << 20 // between two looks at ctx
	for end := off + length; off < end; off += step {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(step, end-off)
		if _, err := io.Copy(io.NewOffsetWriter(to, off), io.NewSectionReader(from, off, n)); err != nil {
			return err
		}
	}
	return nil
}

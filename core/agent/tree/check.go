package tree

import (
	"context"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Check looks at the disk again after Finish and compares type, size, owner,
// mode and modification time of every entry with what they should be, as far
// as mapping, rights and file system allow. An entry that is missing or
// differs is an error, which names the first and counts all; what only the
// file system's precision took is a warning. It does not repeat what
// Warnings says.
func (k *Sink) Check(ctx context.Context, spool *manifest.Spool) ([]control.Warning, error) {
	c := checker{k: k}
	err := spool.Each(ctx, func(_ uint64, e manifest.Entry, d manifest.Digest) error {
		return c.entry(&e, d)
	})
	if err == nil && c.wrong > 0 {
		err = &sdk.Error{
			Kind:    sdk.KindIntegrity,
			Message: fmt.Sprintf("%d entries on the disk are not as they were written; the first: %s", c.wrong, c.first),
			Hint:    "look for errors of the disk, or for a process that changes files below the staging directory",
		}
	}
	return c.notes.list(), err
}

// checker is one check.
type checker struct {
	k     *Sink
	notes notes
	wrong int64
	first string
}

// differs counts an entry that is not as it should be.
func (c *checker) differs(e *manifest.Entry, format string, args ...any) {
	if c.wrong == 0 {
		c.first = c.k.full(e.Path).Display() + " " + fmt.Sprintf(format, args...)
	}
	c.wrong++
}

func (c *checker) entry(e *manifest.Entry, d manifest.Digest) error {
	var st unix.Stat_t
	var link string
	err := c.k.in(e.Path, func(parent int, name string) error {
		if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if e.Type != sdk.FileSymlink || typeOf(&st) != sdk.FileSymlink {
			return nil
		}
		buf := make([]byte, manifest.MaxLinkLen+1)
		n, err := unix.Readlinkat(parent, name, buf)
		link = string(buf[:max(n, 0)])
		return err
	})
	err = diskerr.New("cannot look at", c.k.full(e.Path), err)
	switch {
	case errors.Is(err, sdk.ErrPermission) && !c.k.opts.Root:
		c.notes.add(noteUnseen, e.Path)
		return nil
	case errors.Is(err, sdk.ErrNotFound):
		c.differs(e, "is missing")
		return nil
	case err != nil:
		return err
	case typeOf(&st) != e.Type:
		c.differs(e, "is a %s instead of a %s", typeOf(&st), e.Type)
		return nil
	case link != string(e.Link):
		c.differs(e, "leads to %s instead of %s", sdk.Raw(link).Display(), e.Link.Display())
		return nil
	}
	c.attributes(e, d, &st)
	return nil
}

// attributes compares what is left once the type is right.
func (c *checker) attributes(e *manifest.Entry, d manifest.Digest, st *unix.Stat_t) {
	want := c.k.attributesOf(e)
	size := e.Size
	if e.Stream && d.State == manifest.DigestOK {
		size = d.Size
	}
	switch {
	case e.Type == sdk.FileRegular && size >= 0 && st.Size != size:
		c.differs(e, "has %d bytes instead of %d", st.Size, size)
	case want.uid != keep && st.Uid != uint32(want.uid) && !c.k.refused.Load():
		c.differs(e, "belongs to user %d instead of %d", st.Uid, want.uid)
	case want.gid != keep && st.Gid != uint32(want.gid) && !c.k.refused.Load():
		c.differs(e, "belongs to group %d instead of %d", st.Gid, want.gid)
	case c.k.can.modes && e.Type != sdk.FileSymlink && st.Mode&0o7777 != want.mode:
		c.differs(e, "has mode %#o instead of %#o", st.Mode&0o7777, want.mode)
	default:
		c.times(e, st)
	}
}

// coarse is how far the coarsest file system rounds times: vfat, 2 s.
const coarse = 2

func (c *checker) times(e *manifest.Entry, st *unix.Stat_t) {
	sec, nsec := st.Mtim.Sec, st.Mtim.Nsec
	if sec == e.MTimeSec && nsec == int64(e.MTimeNsec) {
		return
	}
	away := sec - e.MTimeSec
	switch {
	case e.MTimeSec < math.MinInt32 || e.MTimeSec > math.MaxInt32:
		c.notes.add(noteTimeRange, e.Path)
	case !c.k.can.nanos && away >= -coarse && away <= coarse:
		c.notes.add(noteTimes, e.Path)
	case e.Type == sdk.FileSymlink:
		c.notes.add(noteSymlinkOwn, e.Path)
	default:
		c.differs(e, "has the modification time %d.%09d instead of %d.%09d", sec, nsec, e.MTimeSec, e.MTimeNsec)
	}
}

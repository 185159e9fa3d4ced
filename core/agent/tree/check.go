package tree

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Check looks at the disk again after Finish and compares type, size, owner,
// mode, modification time, hard links, device numbers and extended attributes
// of every entry with what they should be, as far as mapping, rights and file
// system allow. An entry that is missing or differs is an error, which names
// the first and counts all; what only the file system's precision took is a
// warning. It does not repeat what Warnings says.
func (k *Sink) Check(ctx context.Context, spool *manifest.Spool) ([]control.Warning, error) {
	c := checker{k: k, spool: spool}
	err := each(ctx, spool, func(*manifest.Entry) bool { return true }, c.entry)
	if err == nil && c.wrong > 0 {
		err = &sdk.Error{
			Kind:    sdk.KindIntegrity,
			Message: fmt.Sprintf("%d entries on the disk are not as they were written; the first: %s", c.wrong, c.first),
			Hint:    "look for errors of the disk, or for a process that changes files below the staging directory",
		}
	}
	return c.notes.list(), err
}

// checker is one check, by several goroutines.
type checker struct {
	k     *Sink
	spool *manifest.Spool
	notes notes

	mu      sync.Mutex
	wrong   int64
	first   string
	firstAt uint64
}

// differs counts an entry that is not as it should be.
func (c *checker) differs(it *item, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong == 0 || it.n < c.firstAt {
		c.firstAt = it.n
		c.first = c.k.full(it.e.Path).Display() + " " + fmt.Sprintf(format, args...)
	}
	c.wrong++
}

// found is what stands at an entry's path.
type found struct {
	unix.Stat_t
	link string
}

func (c *checker) entry(it *item) error {
	e := &it.e
	var f found
	err := c.k.in(e.Path, func(parent int, name string) error { return f.look(parent, name) })
	err = diskerr.New("cannot look at", c.k.full(e.Path), err)
	switch {
	case errors.Is(err, sdk.ErrPermission) && !c.k.opts.Root:
		c.notes.add(noteUnseen, e.Path)
		return nil
	case errors.Is(err, sdk.ErrNotFound) && isSpecial(e.Type) && c.k.unmade.Load():
		return nil // said when it was refused
	case errors.Is(err, sdk.ErrNotFound):
		c.differs(it, "is missing")
		return nil
	case err != nil:
		return err
	case TypeOf(f.Mode) != e.Type:
		c.differs(it, "is a %s instead of a %s", TypeOf(f.Mode), e.Type)
		return nil
	case f.link != string(e.Link):
		c.differs(it, "leads to %s instead of %s", sdk.Raw(f.link).Display(), e.Link.Display())
		return nil
	case e.HardLink != 0:
		return c.hardLink(it, &f)
	}
	return c.attributes(it, e, &f)
}

// look looks at one name.
func (f *found) look(parent int, name string) error {
	if err := unix.Fstatat(parent, name, &f.Stat_t, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if TypeOf(f.Mode) != sdk.FileSymlink {
		return nil
	}
	buf := make([]byte, manifest.MaxLinkLen+1)
	n, err := unix.Readlinkat(parent, name, buf)
	f.link = string(buf[:max(n, 0)])
	return err
}

// xattrs returns the first extended attribute that is not as it should be,
// among the kinds of which none was refused.
func (c *checker) xattrs(parent int, name string, want *manifest.Entry) string {
	var buf []byte
	for i := range want.Xattrs {
		x := &want.Xattrs[i]
		kind, note := kindOf(x.Name)
		if kind == kindForeign || c.k.without.Load()&kind != 0 {
			continue
		}
		if buf == nil {
			buf = make([]byte, manifest.MaxXattrLen)
		}
		n, err := unix.Lgetxattr(at(parent, name), x.Name, buf)
		if errors.Is(err, unix.EACCES) && !c.k.opts.Root {
			continue // the file's mode closes it to the agent's user
		}
		if err == nil && string(buf[:n]) == c.k.xattr(want, x) {
			continue
		}
		if kind&(kindSecurity|kindLabel) == 0 {
			return x.Name
		}
		c.notes.add(note, want.Path) // the host's security modules have the last word on these
	}
	return ""
}

// hardLink compares with the first of the links. If they are one file, that is
// all, since the first is looked at too.
func (c *checker) hardLink(it *item, f *found) error {
	first, err := c.spool.Entry(it.e.HardLink - 1)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := c.k.stat(first.Path, &st); err == nil && st.Dev == f.Dev && st.Ino == f.Ino {
		return nil
	}
	if !c.k.Apart() {
		c.differs(it, "is no hard link of %s", first.Path.Display())
		return nil
	}
	first.Path = it.e.Path // a file of its own, as the first should be
	return c.attributes(it, &first, f)
}

// attributes compares what is left once the type is right.
func (c *checker) attributes(it *item, e *manifest.Entry, f *found) error {
	other := "" // an extended attribute
	if len(e.Xattrs) > 0 {
		if err := c.k.in(e.Path, func(parent int, name string) error { other = c.xattrs(parent, name, e); return nil }); err != nil {
			return err
		}
	}
	want := c.k.attributesOf(e)
	size := e.Size
	if e.Stream && it.d.State == manifest.DigestOK {
		size = it.d.Size
	}
	switch {
	case e.Type == sdk.FileRegular && size >= 0 && f.Size != size:
		c.differs(it, "has %d bytes instead of %d", f.Size, size)
	case (e.Type == sdk.FileCharDev || e.Type == sdk.FileBlockDev) && f.Rdev != e.Rdev:
		c.differs(it, "is device %d:%d instead of %d:%d", unix.Major(f.Rdev), unix.Minor(f.Rdev), unix.Major(e.Rdev), unix.Minor(e.Rdev))
	case want.uid != keep && f.Uid != uint32(want.uid) && !c.k.refused.Load():
		c.differs(it, "belongs to user %d instead of %d", f.Uid, want.uid)
	case want.gid != keep && f.Gid != uint32(want.gid) && !c.k.refused.Load():
		c.differs(it, "belongs to group %d instead of %d", f.Gid, want.gid)
	case c.k.can.modes && e.Type != sdk.FileSymlink && f.Mode&0o7777 != want.mode && !c.masked(e):
		c.differs(it, "has mode %#o instead of %#o", f.Mode&0o7777, want.mode)
	case other != "":
		c.differs(it, "has another value of %s", sdk.Raw(other).Display())
	default:
		c.times(it, e, &f.Stat_t)
	}
	return nil
}

// masked reports whether e's mode may lack what only its ACL, which some file
// could not get, kept from the group.
func (c *checker) masked(e *manifest.Entry) bool {
	return c.k.without.Load()&kindACL != 0 && slices.ContainsFunc(e.Xattrs, func(x manifest.Xattr) bool { return isACL(x.Name) })
}

// coarse is how far the coarsest file system rounds times: vfat, 2 s.
const coarse = 2

func (c *checker) times(it *item, e *manifest.Entry, st *unix.Stat_t) {
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
		c.differs(it, "has the modification time %d.%09d instead of %d.%09d", sec, nsec, e.MTimeSec, e.MTimeNsec)
	}
}

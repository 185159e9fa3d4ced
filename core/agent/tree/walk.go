package tree

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

const (
	// openLevels is how many directories of the path down to the current
	// one stay open; those above are opened again through "..".
	openLevels = 64

	// readLen is how much of a directory is read at once; about 1,000 names.
	readLen = 32 << 10
)

// Walk calls fn for the top-level entry and everything below it: a directory
// before what is in it, and all below it in one run, siblings in the order
// in which the directory has them. What vanishes before it was seen is left
// out; sockets are left out with a warning. Entries count from 0 in the order
// of the calls: by that number a further name of a file leads to its first
// (HardLink). Memory is bounded by the depth of the tree and by maxLinked,
// not by the tree's size. Walk is called once; it stops at the first error,
// fn's included, and at the end of ctx.
func (s *Source) Walk(ctx context.Context, fn func(e manifest.Entry, id manifest.Ident) error) error {
	w := &walker{s: s, fn: fn, path: []byte(s.top), links: newLinks(), users: make(map[uint32]string), groups: make(map[uint32]string)}
	defer w.close()
	var st unix.Stat_t
	if !s.isDir {
		if err := unix.Fstatat(s.fd, s.top, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return diskerr.New("cannot read", s.full(sdk.Raw(s.top)), err)
		}
		if t := TypeOf(st.Mode); t != sdk.FileRegular {
			return &sdk.Error{Kind: sdk.KindChanged, Message: s.full(sdk.Raw(s.top)).Display() + " was a regular file and is a " + string(t) + " now"}
		}
		return w.emit(s.fd, s.top, sdk.Raw(s.top), &st, "")
	}
	fd, err := s.openQuietly(s.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, s.euid)
	if err != nil {
		return diskerr.New("cannot read", s.full(sdk.Raw(s.top)), err)
	}
	if err := w.enter(fd); err != nil {
		return err
	}
	for len(w.levels) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.next(); err != nil {
			return err
		}
	}
	return nil
}

// walker is one walk: the path down to the current directory.
type walker struct {
	s      *Source
	fn     func(e manifest.Entry, id manifest.Ident) error
	levels []*level
	path   []byte // of the current directory
	spare  []byte // a read buffer that no level needs
	link   [manifest.MaxLinkLen + 1]byte

	n      uint64 // entries handed out
	links  *links
	list   [1024]byte        // names of attributes; more than ACLs and a label take
	value  []byte            // of an attribute
	users  map[uint32]string // names that were looked up
	groups map[uint32]string
}

// level is a directory whose names are being read.
type level struct {
	fd       int // -1 while it is closed
	dev, ino uint64
	pathLen  int    // bytes of the path down to it
	buf      []byte // names read, and not yet handed out from pos to end
	pos, end int
	cookie   int64 // where to go on after the last name handed out
}

func (w *walker) close() {
	for _, l := range w.levels {
		if l.fd >= 0 {
			unix.Close(l.fd)
		}
	}
}

// raw returns the path of name in the current directory, or of the directory
// itself.
func (w *walker) raw(name string) sdk.Raw {
	if name == "" {
		return sdk.Raw(w.path)
	}
	return sdk.Raw(w.path) + "/" + sdk.Raw(name)
}

// fail makes an error about name in the current directory.
func (w *walker) fail(name string, err error) error {
	return diskerr.New("cannot read", w.s.full(w.raw(name)), err)
}

// enter makes the directory fd, at w.path, the current one and hands it out.
func (w *walker) enter(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return w.fail("", err)
	}
	if n := len(w.levels) - openLevels; n >= 0 {
		w.suspend(w.levels[n])
	}
	w.levels = append(w.levels, &level{fd: fd, dev: st.Dev, ino: st.Ino, pathLen: len(w.path), buf: w.spare})
	w.spare = nil
	return w.emit(fd, "", w.raw(""), &st, "")
}

// suspend closes a level that is far above.
func (w *walker) suspend(l *level) {
	unix.Close(l.fd)
	l.fd, l.buf, l.pos, l.end = -1, nil, 0, 0
}

// next handles one name of the current directory, or leaves it.
func (w *walker) next() error {
	l := w.levels[len(w.levels)-1]
	if l.pos == l.end {
		if err := l.fill(); err != nil {
			return w.fail("", err)
		}
		if l.end == 0 {
			return w.leave()
		}
	}
	name, err := l.name()
	if err != nil {
		return w.fail("", err)
	}
	if name == "." || name == ".." {
		return nil
	}
	return w.visit(l, name)
}

// fill reads more names.
func (l *level) fill() error {
	if l.buf == nil {
		l.buf = make([]byte, readLen)
	}
	n, err := retry(func() (int, error) { return unix.Getdents(l.fd, l.buf) })
	if errors.Is(err, unix.ENOENT) {
		n, err = 0, nil // the directory was removed meanwhile
	}
	l.pos, l.end = 0, max(n, 0)
	return err
}

// name takes the next name out of what was read: struct linux_dirent64 is
// inode (8 bytes), cookie of the next (8), length of the record (2), type
// (1), name, NUL.
func (l *level) name() (string, error) {
	const head = 19
	rec := l.buf[l.pos:l.end]
	if len(rec) < head {
		return "", errors.New("malformed directory record")
	}
	size := int(binary.NativeEndian.Uint16(rec[16:]))
	if size < head || size > len(rec) {
		return "", errors.New("malformed directory record")
	}
	l.cookie = int64(binary.NativeEndian.Uint64(rec[8:]))
	l.pos += size
	name, _, _ := bytes.Cut(rec[head:size], []byte{0})
	return string(name), nil
}

// leave goes back to the directory above.
func (w *walker) leave() error {
	last := len(w.levels) - 1
	l := w.levels[last]
	if last > 0 && w.levels[last-1].fd < 0 {
		if err := w.resume(w.levels[last-1], l.fd); err != nil {
			return err
		}
	}
	unix.Close(l.fd)
	w.spare = l.buf
	w.levels = w.levels[:last]
	if last > 0 {
		w.path = w.path[:w.levels[last-1].pathLen]
	}
	return nil
}

// resume opens a suspended level again, from the directory below it.
func (w *walker) resume(l *level, below int) error {
	up := func(err error) error {
		return diskerr.New("cannot go back to", w.s.full(sdk.Raw(w.path[:l.pathLen])), err)
	}
	fd, err := w.s.openQuietly(below, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, w.s.euid)
	if err != nil {
		return up(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return up(err)
	}
	if st.Dev != l.dev || st.Ino != l.ino {
		unix.Close(fd)
		return &sdk.Error{
			Kind:    sdk.KindChanged,
			Message: "directories were moved while they were read: " + w.s.full(sdk.Raw(w.path)).Display(),
		}
	}
	if _, err := unix.Seek(fd, l.cookie, unix.SEEK_SET); err != nil {
		unix.Close(fd)
		return up(err)
	}
	l.fd = fd
	return nil
}

// visit handles one name.
func (w *walker) visit(l *level, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(l.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return w.fail(name, err)
	}
	if len(w.path)+1+len(name) > manifest.MaxPathLen {
		return &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: fmt.Sprintf("a path below %.200q... is longer than %d bytes", w.path, manifest.MaxPathLen),
		}
	}
	switch TypeOf(st.Mode) {
	case sdk.FileDirectory:
		return w.directory(l.fd, name, &st)
	case sdk.FileSymlink:
		return w.symlink(l.fd, name, &st)
	case sdk.FileSocket:
		w.s.notes.add(noteSockets, w.raw(name))
		return nil
	}
	return w.emit(l.fd, name, w.raw(name), &st, "")
}

func (w *walker) directory(parent int, name string, st *unix.Stat_t) error {
	fd, err := w.s.openDirToRead(parent, name, st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return &sdk.Error{Kind: sdk.KindChanged, Message: w.s.full(w.raw(name)).Display() + " was a directory and is none now"}
	}
	if err != nil {
		return w.fail(name, err)
	}
	w.path = append(append(w.path, '/'), name...)
	return w.enter(fd)
}

func (w *walker) symlink(parent int, name string, st *unix.Stat_t) error {
	n, err := unix.Readlinkat(parent, name, w.link[:])
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if errors.Is(err, unix.EINVAL) {
		return &sdk.Error{Kind: sdk.KindChanged, Message: w.s.full(w.raw(name)).Display() + " was a symlink and is none now"}
	}
	if err != nil {
		return w.fail(name, err)
	}
	if n == 0 || n == len(w.link) {
		return w.fail(name, unix.ENAMETOOLONG)
	}
	return w.emit(parent, name, w.raw(name), st, sdk.Raw(w.link[:n]))
}

// emit hands out the entry of a name in an open directory, or ("") of the
// directory itself; p is its path.
func (w *walker) emit(dir int, name string, p sdk.Raw, st *unix.Stat_t, link sdk.Raw) error {
	e := manifest.Entry{
		Path: p, Type: TypeOf(st.Mode), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Owner: w.user(st.Uid), Group: w.group(st.Gid),
		MTimeSec: st.Mtim.Sec, MTimeNsec: uint32(st.Mtim.Nsec), Link: link,
	}
	switch e.Type {
	case sdk.FileRegular:
		e.Size = st.Size
	case sdk.FileCharDev, sdk.FileBlockDev:
		e.Rdev = st.Rdev
	}
	if st.Nlink > 1 && e.Type != sdk.FileDirectory {
		first, found, ok := w.links.meet(st, w.n)
		if found {
			e.HardLink = first + 1
		}
		if !ok {
			w.s.notes.add(noteLinksApart, p)
		}
	}
	if e.HardLink == 0 {
		e.Xattrs = w.xattrs(dir, name, p)
		e.ACLNames = w.aclNames(e.Xattrs)
	}
	w.n++
	return w.fn(e, identOf(st))
}

// user and group return the names of numbers. Nearly all files of a tree
// belong to a few, so the walk keeps its own answers.
func (w *walker) user(uid uint32) string  { return remember(w.users, uid, w.s.names.user) }
func (w *walker) group(gid uint32) string { return remember(w.groups, gid, w.s.names.group) }

func remember[K comparable, V any](known map[K]V, key K, find func(K) V) V {
	v, ok := known[key]
	if !ok {
		if len(known) >= maxNames {
			clear(known)
		}
		v = find(key)
		known[key] = v
	}
	return v
}

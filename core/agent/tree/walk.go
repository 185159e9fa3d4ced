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
// out; sockets, fifos and device nodes are left out with a warning. Memory
// is bounded by the depth of the tree, not by its size. Walk is called once;
// it stops at the first error, fn's included, and at the end of ctx.
func (s *Source) Walk(ctx context.Context, fn func(e manifest.Entry, id manifest.Ident) error) error {
	w := &walker{s: s, fn: fn, path: []byte(s.top)}
	defer w.close()
	var st unix.Stat_t
	if !s.isDir {
		if err := unix.Fstatat(s.fd, s.top, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return diskerr.New("cannot read", s.full(sdk.Raw(s.top)), err)
		}
		if t := typeOf(&st); t != sdk.FileRegular {
			return &sdk.Error{Kind: sdk.KindChanged, Message: s.full(sdk.Raw(s.top)).Display() + " was a regular file and is a " + string(t) + " now"}
		}
		return w.file(s.fd, s.top, &st)
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
	// fdPath is a symlink to the directory, so this one follows.
	w.attributes(unix.Listxattr, fdPath(fd), w.raw(""))
	return w.emit(w.raw(""), &st, "")
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
	switch typeOf(&st) {
	case sdk.FileRegular:
		return w.file(l.fd, name, &st)
	case sdk.FileDirectory:
		return w.directory(l.fd, name, &st)
	case sdk.FileSymlink:
		return w.symlink(l.fd, name, &st)
	case sdk.FileSocket:
		w.s.notes.add(noteSockets, w.raw(name))
	case sdk.FileFifo:
		w.s.notes.add(noteFifos, w.raw(name))
	default:
		w.s.notes.add(noteDevices, w.raw(name))
	}
	return nil
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
	return w.emit(w.raw(name), st, sdk.Raw(w.link[:n]))
}

// file hands out a regular file, which at the top is the path itself.
func (w *walker) file(parent int, name string, st *unix.Stat_t) error {
	p := sdk.Raw(name)
	if w.s.isDir {
		p = w.raw(name)
	}
	if st.Nlink > 1 {
		w.s.notes.add(noteHardLinks, p)
	}
	w.attributes(unix.Llistxattr, fdPath(parent)+"/"+name, p)
	if st.Size <= w.s.fills && st.Blocks*512 < st.Size && w.s.hasHole(parent, name, st) {
		w.s.notes.add(noteHoles, p)
	}
	return w.emit(p, st, "")
}

// emit hands out an entry.
func (w *walker) emit(p sdk.Raw, st *unix.Stat_t, link sdk.Raw) error {
	e := manifest.Entry{
		Path: p, Type: typeOf(st), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid,
		Owner: w.s.names.user(st.Uid), Group: w.s.names.group(st.Gid),
		MTimeSec: st.Mtim.Sec, MTimeNsec: uint32(st.Mtim.Nsec), Link: link,
	}
	if e.Type == sdk.FileRegular {
		e.Size = st.Size
	}
	return w.fn(e, identOf(st))
}

// Package tree turns a tree on disk into entries and entries into a tree on
// disk. All work is done relative to directory descriptors and without
// following symlinks, so a tree that its owner changes meanwhile can neither
// lead the source out of it nor a sink out of the staging directory; names
// are bytes, and paths may be longer than PATH_MAX.
package tree

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Source is a regular file or a directory tree that is read. Its methods may
// be called from several goroutines at once.
type Source struct {
	dir   sdk.Raw // the directory that holds the top-level name
	top   string
	isDir bool
	// fd is the top-level directory itself, else the directory that holds
	// the file.
	fd    int
	dirs  *dirs
	names *names
	notes notes
	euid  uint32
}

// OpenSource opens the regular file or directory at an absolute path. Its
// top-level name is the path's last component, which may not be a symlink;
// the components before it may. The caller closes the Source.
func OpenSource(name sdk.Raw) (*Source, error) {
	clean := path.Clean(string(name))
	if !path.IsAbs(clean) || clean == "/" || strings.IndexByte(clean, 0) >= 0 {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: "cannot read " + name.Display() + ": not the absolute path of a file or directory below /"}
	}
	parentPath, top := path.Split(clean)
	parent, err := retry(func() (int, error) {
		return unix.Open(parentPath, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, diskerr.New("cannot open", sdk.Raw(parentPath), err)
	}
	s := &Source{dir: sdk.Raw(parentPath), top: top, fd: parent, names: newNames(), euid: uint32(os.Geteuid())}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, top, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		unix.Close(parent)
		return nil, diskerr.New("cannot read", name, err)
	}
	switch TypeOf(st.Mode) {
	case sdk.FileRegular:
	case sdk.FileDirectory:
		s.isDir = true
		s.fd, err = s.openDirToRead(parent, top, &st)
		unix.Close(parent)
		if err != nil {
			return nil, diskerr.New("cannot read", name, err)
		}
	default:
		unix.Close(parent)
		return nil, &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: "cannot read " + name.Display() + ": it is a " + string(TypeOf(st.Mode)),
			Hint:    "name a regular file or a directory",
		}
	}
	where := s.dir
	if s.isDir {
		where += sdk.Raw(top) + "/"
	}
	s.dirs = newDirs(s.fd, where)
	return s, nil
}

// Open opens the regular file of an entry for reading and says what it is
// now: compare it with what Walk said. The caller closes the file.
func (s *Source) Open(e *manifest.Entry) (*os.File, manifest.Ident, error) {
	parentPath, name := split(s.below(e.Path))
	parent, err := s.dirs.acquire(parentPath)
	if err != nil {
		return nil, manifest.Ident{}, err
	}
	defer s.dirs.release(parent)
	// A fifo that took the file's place must not make us wait for a writer.
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := s.openQuietly(parent.fd, name, flags, e.UID)
	if err != nil {
		return nil, manifest.Ident{}, diskerr.New("cannot read", s.full(e.Path), err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, manifest.Ident{}, diskerr.New("cannot read", s.full(e.Path), err)
	}
	if t := TypeOf(st.Mode); t != sdk.FileRegular {
		unix.Close(fd)
		return nil, manifest.Ident{}, &sdk.Error{
			Kind:    sdk.KindChanged,
			Message: "cannot read " + s.full(e.Path).Display() + ": it was a regular file and is a " + string(t) + " now",
		}
	}
	return os.NewFile(uintptr(fd), string(s.full(e.Path))), identOf(&st), nil
}

// openQuietly opens without changing the access time, where the file's owner
// or root asks; others may not.
func (s *Source) openQuietly(parent int, name string, flags int, uid uint32) (int, error) {
	if s.euid == 0 || s.euid == uid {
		fd, err := retry(func() (int, error) { return unix.Openat(parent, name, flags|unix.O_NOATIME, 0) })
		if !errors.Is(err, unix.EPERM) {
			return fd, err
		}
	}
	return retry(func() (int, error) { return unix.Openat(parent, name, flags, 0) })
}

func (s *Source) openDirToRead(parent int, name string, st *unix.Stat_t) (int, error) {
	return s.openQuietly(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, st.Uid)
}

// below returns an entry's path relative to s.fd.
func (s *Source) below(p sdk.Raw) string {
	if !s.isDir {
		return s.top
	}
	return strings.TrimPrefix(strings.TrimPrefix(string(p), s.top), "/")
}

// full returns an entry's path as the operator would write it.
func (s *Source) full(p sdk.Raw) sdk.Raw { return s.dir + p }

// Warnings returns what the walk met that is not copied or not preserved,
// each with a count and one example (an entry's path).
func (s *Source) Warnings() []control.Warning { return s.notes.list() }

// Close closes the source. No other method is in use or used any more.
func (s *Source) Close() error {
	s.dirs.close()
	if err := unix.Close(s.fd); err != nil {
		return diskerr.New("cannot close", s.full(sdk.Raw(s.top)), err)
	}
	return nil
}

// TypeOf is the type that a mode of stat(2) tells.
func TypeOf(mode uint32) sdk.FileType {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return sdk.FileRegular
	case unix.S_IFDIR:
		return sdk.FileDirectory
	case unix.S_IFLNK:
		return sdk.FileSymlink
	case unix.S_IFIFO:
		return sdk.FileFifo
	case unix.S_IFSOCK:
		return sdk.FileSocket
	case unix.S_IFCHR:
		return sdk.FileCharDev
	}
	return sdk.FileBlockDev
}

// identOf returns what tells whether a file is still the same.
func identOf(st *unix.Stat_t) manifest.Ident {
	return manifest.Ident{
		Dev: st.Dev, Ino: st.Ino, Size: st.Size,
		MTimeSec: st.Mtim.Sec, MTimeNsec: uint32(st.Mtim.Nsec),
		CTimeSec: st.Ctim.Sec, CTimeNsec: uint32(st.Ctim.Nsec),
	}
}

package tree

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// fdPath is a path to an open directory, for the calls that have no form
// with a descriptor.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// attributes counts the extended attributes and ACLs that list finds at a
// path through /proc; p is the entry's path.
func (w *walker) attributes(list func(string, []byte) (int, error), path string, p sdk.Raw) {
	var buf [1024]byte
	n, err := list(path, buf[:])
	switch {
	case errors.Is(err, unix.ERANGE):
		// More than ACLs and a label would take.
		w.s.notes.add(noteXattrs, p)
	case errors.Is(err, unix.ENOENT):
		if _, err := os.Stat("/proc/self/fd"); err != nil {
			w.s.notes.add(noteNoProc, p)
		}
	}
	if err != nil || n <= 0 {
		return
	}
	var acl, other bool
	for _, name := range bytes.Split(buf[:n-1], []byte{0}) {
		switch string(name) {
		case "system.posix_acl_access", "system.posix_acl_default":
			acl = true
		case "security.selinux", "system.nfs4_acl":
		default:
			other = true
		}
	}
	if acl {
		w.s.notes.add(noteACLs, p)
	}
	if other {
		w.s.notes.add(noteXattrs, p)
	}
}

// hasHole tells a sparse file from one that the file system compresses.
func (s *Source) hasHole(parent int, name string, st *unix.Stat_t) bool {
	fd, err := s.openQuietly(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, st.Uid)
	if err != nil {
		return false // who opens it to read it will say why
	}
	defer unix.Close(fd)
	at, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
	return err == nil && at < st.Size
}

// Extents calls fn for each run of data and each hole of the first size
// bytes of f, in order and without gaps. Where the file system knows no
// holes, all is one run of data. It moves f's offset.
func Extents(f *os.File, size int64, fn func(off, length int64, hole bool) error) error {
	seek := func(off int64, whence int) (int64, error) { return unix.Seek(int(f.Fd()), off, whence) }
	for off := int64(0); off < size; {
		data, err := seek(off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			data = size // no data up to the end
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return fn(off, size-off, false)
		case err != nil:
			return diskerr.New("cannot find holes of", sdk.Raw(f.Name()), err)
		}
		data = min(data, size)
		if data > off {
			if err := fn(off, data-off, true); err != nil {
				return err
			}
		}
		if data == size {
			return nil
		}
		hole, err := seek(data, unix.SEEK_HOLE)
		if err != nil || hole <= data {
			hole = size // cut short meanwhile; reading will tell
		}
		hole = min(hole, size)
		if err := fn(data, hole-data, false); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

package tree

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Names of the attributes that have rules of their own.
const (
	xattrACL        = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"
	xattrCapability = "security.capability"
	xattrSELinux    = "security.selinux"
)

// isACL reports whether an attribute is a POSIX ACL.
func isACL(name string) bool { return name == xattrACL || name == xattrDefaultACL }

// wanted reports whether an attribute is one that is copied: those of users,
// and by root those of the administrator and of security modules too, as
// rsync does; of the system's own only ACLs.
func wanted(name string, root bool) bool {
	switch {
	case isACL(name), strings.HasPrefix(name, "user."), name == xattrCapability:
		return true
	case strings.HasPrefix(name, "trusted."), strings.HasPrefix(name, "security."):
		return root
	}
	return false
}

// fdPath is a path to an open file or directory, for the calls that have no
// form with a descriptor.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// at is a path to a name in an open directory, for the same calls; "" is the
// directory itself.
func at(dir int, name string) string {
	if name == "" {
		return fdPath(dir) + "/."
	}
	return fdPath(dir) + "/" + name
}

// noListxattrat is set when the kernel does not know the call (before 6.13).
var noListxattrat atomic.Bool

// listXattrs lists the attributes of a name in an open directory without
// following it; "" is the directory itself. The kernel's own call for that
// takes a third of the time of the way through /proc.
func listXattrs(dir int, name string, buf []byte) (int, error) {
	if name == "" {
		return unix.Flistxattr(dir, buf)
	}
	if noListxattrat.Load() {
		return unix.Llistxattr(at(dir, name), buf)
	}
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(path)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS, unix.EPERM: // EPERM: a filter of system calls older than this one
		noListxattrat.Store(true)
		return unix.Llistxattr(at(dir, name), buf)
	}
	return 0, errno
}

// xattrs reads what is to be copied of the attributes of a name in an open
// directory ("": of the directory itself); p is the entry's path.
func (w *walker) xattrs(dir int, name string, p sdk.Raw) []manifest.Xattr {
	buf := w.list[:]
	n, err := listXattrs(dir, name, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, manifest.MaxXattrLen) // the kernel's own limit
		n, err = listXattrs(dir, name, buf)
	}
	if n == 0 || err != nil {
		w.missed(err, p)
		return nil
	}
	var all []manifest.Xattr
	left := manifest.MaxXattrsLen
	for x := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if !wanted(x, w.s.euid == 0) {
			continue
		}
		value, err := w.xattr(dir, name, x)
		if err != nil {
			w.missed(err, p)
			continue
		}
		read := manifest.Xattr{Name: x, Value: value}
		if read.EncodedLen() > left {
			w.s.notes.add(noteXattrsLarge, p)
			continue
		}
		left -= read.EncodedLen()
		all = append(all, read)
	}
	slices.SortFunc(all, func(a, b manifest.Xattr) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// xattr reads one attribute.
func (w *walker) xattr(dir int, name, x string) (string, error) {
	if w.value == nil {
		w.value = make([]byte, manifest.MaxXattrLen)
	}
	n, err := unix.Lgetxattr(at(dir, name), x, w.value)
	if err != nil {
		return "", err
	}
	return string(w.value[:n]), nil
}

// missed says why attributes were not read. That the file, or the attribute,
// is gone meanwhile, and that the file system has none, needs no word.
func (w *walker) missed(err error, p sdk.Raw) {
	switch {
	case err == nil, errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
	case errors.Is(err, unix.ENOENT):
		if _, err := os.Stat("/proc/self/fd"); err != nil {
			w.s.notes.add(noteNoProc, p)
		}
	default:
		w.s.notes.add(noteXattrsClosed, p)
	}
}

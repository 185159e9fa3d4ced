package staging

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserved is the mode of an empty directory that keeps a name for the
// directory about to be renamed over it. Nobody else makes such a one, so a
// crash between the two leaves something that is known as ours.
const reserved = unix.S_ISVTX

// rename moves a name from one directory to the other without replacing
// anything: EEXIST or ENOTEMPTY if the name is taken there.
func (s *Staging) rename(from, to *os.File, c *committed) error {
	name := string(c.Name)
	if !s.noFlags {
		err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), name, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	if c.Dir {
		return renameDir(from, to, name)
	}
	return renameFile(from, to, c)
}

// renameFile moves anything but a directory by a second link, which is never
// made over a name that is taken.
func renameFile(from, to *os.File, c *committed) error {
	name := string(c.Name)
	err := unix.Linkat(int(from.Fd()), name, int(to.Fd()), name, 0)
	if errors.Is(err, unix.EEXIST) && same(to, c) {
		err = nil // a crash came between the two
	}
	if err != nil {
		return err
	}
	return unix.Unlinkat(int(from.Fd()), name, 0)
}

// renameDir moves a directory over an empty one that reserves its name: the
// kernel replaces no other.
func renameDir(from, to *os.File, name string) error {
	err := unix.Mkdirat(int(to.Fd()), name, 0)
	if err == nil {
		// mkdir leaves special bits out on some file systems.
		err = chmod(to, name, reserved)
	} else if errors.Is(err, unix.EEXIST) && isReserved(to, name) {
		err = nil // a crash came between the two
	}
	if err != nil {
		return err
	}
	if err := unix.Renameat(int(from.Fd()), name, int(to.Fd()), name); err != nil {
		if isReserved(to, name) {
			err = errors.Join(err, unix.Unlinkat(int(to.Fd()), name, unix.AT_REMOVEDIR))
		}
		return err
	}
	return nil
}

// isReserved reports whether a name is kept for us. The kernel sees to it
// that it is empty when it is renamed over.
func isReserved(in *os.File, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(in.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		isDir(&st) && st.Mode&0o7777 == reserved && int(st.Uid) == os.Geteuid()
}

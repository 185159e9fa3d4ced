package tree

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Adopt moves the regular file of an entry here from where an earlier attempt
// has staged it, and takes from it what that attempt's Finish may have given
// it: so it is as Create would have made it, but for its content and its owner.
// It reports false, and has done nothing, where no regular file of the entry's
// size lies there, or something lies here already.
func (k *Sink) Adopt(from *Sink, e *manifest.Entry) (bool, error) {
	adopted := false
	err := from.in(e.Path, func(old int, oldName string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(old, oldName, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if TypeOf(st.Mode) != sdk.FileRegular || st.Size != e.Size {
			return unix.ENOENT
		}
		return k.in(e.Path, func(parent int, name string) error {
			err := unix.Renameat2(old, oldName, parent, name, unix.RENAME_NOREPLACE)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
				// No such flag here. Nothing but this agent makes names in
				// the staging directory.
				if err = isRegular(parent, name); err == nil {
					return unix.EEXIST
				} else if errors.Is(err, unix.ENOENT) {
					err = unix.Renameat(old, oldName, parent, name)
				}
			}
			if err == nil {
				adopted = true
				err = plain(parent, name, e.Mode)
			}
			return err
		})
	})
	switch {
	case adopted:
		return true, diskerr.New("cannot take over", k.full(e.Path), err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOENT), errors.Is(err, sdk.ErrNotFound),
		errors.Is(err, sdk.ErrChanged), errors.Is(err, sdk.ErrPermission):
		return false, nil // a directory that is closed to its owner, perhaps: the content comes again
	}
	return false, diskerr.New("cannot take over", k.full(e.Path), err)
}

// Discard removes what is no directory from where an entry would be; best
// effort.
func (k *Sink) Discard(e *manifest.Entry) {
	_ = k.in(e.Path, func(parent int, name string) error { return unix.Unlinkat(parent, name, 0) })
}

// plain makes a file that was finished like one that was just made.
func plain(parent int, name string, mode uint32) error {
	// A file may be closed to its owner, who opens it by this.
	if err := unix.Fchmodat(parent, name, mode&0o777|0o600, 0); err != nil {
		return err
	}
	fd, err := openRegular(parent, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(fd, list)
	if err != nil {
		return nil // none are kept here
	}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" || name == "security.selinux" {
			continue // the host's own
		}
		if err := unix.Fremovexattr(fd, name); err != nil && !refused(err) && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	return nil
}

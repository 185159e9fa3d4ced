package tree

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// makeSpecial makes a fifo or a device node. What rights or the file system
// do not allow is left out.
func (k *Sink) makeSpecial(parent int, name string, e *manifest.Entry) error {
	kind, note := uint32(unix.S_IFIFO), noteFifos
	switch e.Type {
	case sdk.FileCharDev:
		kind, note = unix.S_IFCHR, noteDevices
	case sdk.FileBlockDev:
		kind, note = unix.S_IFBLK, noteDevices
	}
	err := unix.Mknodat(parent, name, kind|0o600, int(e.Rdev))
	if refused(err) {
		k.notes.add(note, e.Path)
		k.unmade.Store(true)
		return nil
	}
	if err == nil && kind != unix.S_IFIFO {
		k.devices.Store(true)
	}
	return err
}

// isSpecial reports whether a type is one that makeSpecial makes.
func isSpecial(t sdk.FileType) bool {
	return t == sdk.FileFifo || t == sdk.FileCharDev || t == sdk.FileBlockDev
}

// isRegular looks before something is opened.
func isRegular(parent int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if TypeOf(st.Mode) != sdk.FileRegular {
		return unix.ELOOP // says: something else stands there
	}
	return nil
}

// refused reports whether an error is a refusal by rights or file system that
// no repeat would mend.
func refused(err error) bool {
	for _, no := range [...]error{unix.EPERM, unix.EACCES, unix.EINVAL, unix.EOPNOTSUPP} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

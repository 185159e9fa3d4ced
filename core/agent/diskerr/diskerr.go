// Package diskerr turns the kernel's refusals on paths into the project's
// typed errors: kind, path and what to do about it.
package diskerr

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/transferpy/transferpy/sdk"
)

// New says that op ("cannot create", "cannot read") failed on path with err.
// An err that is an *sdk.Error already is returned as it is. It returns nil
// for a nil err.
func New(op string, path sdk.Raw, err error) error {
	if err == nil {
		return nil
	}
	var typed *sdk.Error
	if errors.As(err, &typed) {
		return err
	}
	kind, hint := classify(err)
	return &sdk.Error{Kind: kind, Message: fmt.Sprintf("%s %s: %v", op, path.Display(), cause(err)), Hint: hint}
}

// cause is the errno inside err, whose text does not repeat the path.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// classify gives the kind of an error by its errno, and the advice that
// goes with it.
func classify(err error) (sdk.ErrorKind, string) {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return sdk.KindInternal, ""
	}
	switch errno {
	case syscall.EACCES, syscall.EPERM:
		return sdk.KindPermission, "run as a user who may, or as root"
	case syscall.EROFS:
		return sdk.KindPermission, "the file system is mounted read-only"
	case syscall.ENOENT, syscall.ENOTDIR:
		return sdk.KindNotFound, ""
	case syscall.EEXIST, syscall.ENOTEMPTY:
		return sdk.KindExists, "move it away or choose another target"
	case syscall.ENOSPC:
		return sdk.KindNoSpace, "free bytes or inodes on the file system"
	case syscall.EDQUOT:
		return sdk.KindNoSpace, "the user's quota is used up"
	case syscall.EFBIG:
		return sdk.KindNoSpace, "the file system or a limit (ulimit -f) does not allow files of this size"
	case syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EINVAL, syscall.EXDEV:
		return sdk.KindUnsupported, ""
	case syscall.ELOOP:
		return sdk.KindChanged, "a symbolic link stands where a file or directory was"
	case syscall.ESTALE:
		return sdk.KindChanged, ""
	case syscall.EMFILE, syscall.ENFILE:
		return sdk.KindInternal, "raise the limit of open files (ulimit -n)"
	}
	return sdk.KindInternal, ""
}

package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/transferpy/transferpy/sdk"
)

// put writes a new file and leaves nothing behind when it fails.
func put(file sdk.File) *sdk.Error {
	path := string(file.Path)
	if !filepath.IsAbs(path) || file.Mode&^0o777 != 0 {
		return &sdk.Error{Kind: sdk.KindConfig, Message: "a file to be placed needs an absolute path and a mode of permission bits: " + file.Path.Display()}
	}
	// Closed to others until it is whole. O_NOFOLLOW goes with O_EXCL.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return putError(file.Path, err)
	}
	if err := fill(f, file); err != nil {
		os.Remove(path)
		return putError(file.Path, err)
	}
	return nil
}

// fill writes the content, sets the mode whatever the umask, flushes and
// closes.
func fill(f *os.File, file sdk.File) error {
	_, err := f.Write(file.Content)
	if err == nil {
		err = f.Chmod(fs.FileMode(file.Mode))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func putError(path sdk.Raw, err error) *sdk.Error {
	e := &sdk.Error{Kind: sdk.KindInternal, Message: "cannot write " + path.Display() + ": " + reason(err)}
	switch {
	case errors.Is(err, fs.ErrExist):
		e.Kind, e.Hint = sdk.KindExists, "something is there already; nothing was overwritten"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		e.Kind, e.Hint = sdk.KindNotFound, "its directory must exist"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind, e.Hint = sdk.KindNoSpace, "free some space in "+sdk.Raw(filepath.Dir(string(path))).Display()
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Kind, e.Hint = sdk.KindPermission, "run as a user who may write there"
	}
	return e
}

// reason returns what the kernel said, without the path that the message has
// already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

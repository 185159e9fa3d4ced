package transfer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
)

// newFile is a file that gets its name when it is complete, and never takes
// the place of another.
type newFile struct {
	file *os.File
	path string // that it is to have
	temp string // that it has; empty when it has gone or been published
}

// createNew makes the file beside its place, closed to others, or refuses
// because its name is taken. That it can be made there is known from here on.
func createNew(path, id string) (*newFile, error) {
	if err := free(path); err != nil {
		return nil, err
	}
	temp := tempName(path, id)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, cannotCreate(path, err)
	}
	return &newFile{file: f, path: path, temp: temp}, nil
}

// tempName is the name of a transfer's file before it has its own.
func tempName(path, id string) string {
	dir, name := filepath.Split(path)
	return filepath.Join(dir, "."+name[:min(len(name), 100)]+".transferpy-"+id)
}

// removeRests removes what a process that was killed has left on this host of
// a transfer that nobody runs.
func removeRests(req *Request, id string) {
	if req.Manifest != "" {
		os.Remove(tempName(req.Manifest, id))
	}
}

// isManifestOf reports whether a file is the manifest of a transfer, by its
// first lines.
func isManifestOf(path, id string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return err == nil && bytes.HasPrefix(head, []byte("# transferpy manifest ")) && bytes.Contains(head, []byte("\n# transfer: "+id+"\n"))
}

// free refuses a path that is taken, or whose directory is not there.
func free(path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return taken(path)
	case !errors.Is(err, os.ErrNotExist):
		return cannotCreate(path, err)
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil {
		return cannotCreate(path, err)
	} else if !st.IsDir() {
		return cannotCreate(path, unix.ENOTDIR)
	}
	return nil
}

func taken(path string) error {
	return &sdk.Error{Kind: sdk.KindExists, Message: sdk.Raw(path).Display() + " exists already; nothing is overwritten", Hint: "name another file, or move that one away"}
}

func cannotCreate(path string, err error) error {
	e := &sdk.Error{Kind: sdk.KindInternal, Message: fmt.Sprintf("cannot create %s: %v", sdk.Raw(path).Display(), err), Hint: "name a file in a directory where you may write"}
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		e.Kind = sdk.KindPermission
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		e.Kind = sdk.KindNotFound
	}
	return e
}

// sync has the disk keep what was written.
func (n *newFile) sync() error { return n.file.Sync() }

// publish gives the file its name, unless it was taken meanwhile.
func (n *newFile) publish() error {
	err := unix.Renameat2(unix.AT_FDCWD, n.temp, unix.AT_FDCWD, n.path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // the file system cannot
		if err = os.Link(n.temp, n.path); err == nil {
			err = os.Remove(n.temp)
		}
	}
	switch {
	case errors.Is(err, os.ErrExist):
		return taken(n.path)
	case err != nil:
		return cannotCreate(n.path, err)
	}
	n.temp = ""
	dir, err := os.Open(filepath.Dir(n.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// discard closes the file and removes it unless it was published. It may be
// called again.
func (n *newFile) discard() {
	n.file.Close()
	if n.temp != "" {
		os.Remove(n.temp)
		n.temp = ""
	}
}

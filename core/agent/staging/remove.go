package staging

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// RemoveAll removes name in dir with all below it; it succeeds when nothing
// is there. It never follows a symlink, opens directories that their modes
// close to their owner, keeps two descriptors open however deep the tree is,
// and bounded memory for each level. It stops at the first thing that cannot
// be removed.
func RemoveAll(dir *os.File, name string) error {
	top, err := openDir(dir, ".")
	if err != nil {
		return err
	}
	r := remover{cur: top, root: pathIn(dir, name)}
	defer func() { _ = r.cur.Close() }()
	gone, err := r.remove(name)
	if err != nil || gone {
		return err
	}
	if err := r.down(name); err != nil {
		return err
	}
	for len(r.above) > 0 {
		if err := r.step(); err != nil {
			return err
		}
	}
	return nil
}

// remover is one removal: the current directory and how to go back from it.
type remover struct {
	cur   *os.File
	above []parent
	root  sdk.Raw // for messages
}

// parent is a directory above the current one.
type parent struct {
	dev, ino uint64
	child    string // the name by which it was left downwards
}

func (r *remover) fail(name string, err error) error {
	return diskerr.New("cannot remove "+sdk.Raw(name).Display()+" in", r.root, err)
}

// remove removes a name unless it is a directory with something in it. A
// mount point is an error: what is mounted there is not ours.
func (r *remover) remove(name string) (gone bool, err error) {
	fd := int(r.cur.Fd())
	err = unix.Unlinkat(fd, name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		if e := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); !errors.Is(e, unix.ENOTDIR) {
			err = e
		}
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return true, nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return false, nil
	}
	return false, r.fail(name, err)
}

// errDown ends the reading of a directory, to go down from it.
var errDown = errors.New("go down")

// step removes what the current directory holds, up to the first directory
// that is not empty, which becomes the current one; without such a one it
// goes back up. What was removed does not come up again when a directory is
// read anew, so nothing has to be remembered.
func (r *remover) step() error {
	var into string
	err := eachName(r.cur, func(name string) error {
		gone, err := r.remove(name)
		if err == nil && !gone {
			into, err = name, errDown
		}
		return err
	})
	if errors.Is(err, errDown) {
		return r.down(into)
	}
	if err != nil {
		return err
	}
	return r.up()
}

// down makes a directory in the current one the current one.
func (r *remover) down(name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(r.cur.Fd()), &st); err != nil {
		return r.fail(name, err)
	}
	next, err := openDir(r.cur, name)
	if errors.Is(err, sdk.ErrPermission) {
		if err := chmod(r.cur, name, 0o700); err != nil {
			return r.fail(name, err)
		}
		next, err = openDir(r.cur, name)
	}
	if err != nil {
		return err
	}
	r.above = append(r.above, parent{dev: st.Dev, ino: st.Ino, child: name})
	old := r.cur
	r.cur = next
	if err := old.Close(); err != nil {
		return r.fail(name, err)
	}
	if err := unix.Fstat(int(next.Fd()), &st); err != nil {
		return r.fail(name, err)
	}
	if st.Mode&0o700 != 0o700 {
		if err := unix.Fchmod(int(next.Fd()), 0o700); err != nil {
			return r.fail(name, err)
		}
	}
	return nil
}

// up goes back to the directory above and removes the one left, which is
// empty now.
func (r *remover) up() error {
	back := r.above[len(r.above)-1]
	fd, err := unix.Openat(int(r.cur.Fd()), "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return r.fail(back.child, err)
	}
	above := os.NewFile(uintptr(fd), string(r.root))
	old := r.cur
	r.cur = above
	if err := old.Close(); err != nil {
		return r.fail(back.child, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return r.fail(back.child, err)
	}
	if st.Dev != back.dev || st.Ino != back.ino {
		return &sdk.Error{Kind: sdk.KindChanged, Message: "directories below " + r.root.Display() + " were moved while they were removed"}
	}
	gone, err := r.remove(back.child)
	if err == nil && !gone {
		err = r.fail(back.child, unix.ENOTEMPTY) // something still writes there
	}
	r.above = r.above[:len(r.above)-1]
	return err
}

// chmod changes the mode of a directory in an open one, never through a
// symlink. A descriptor that its mode does not keep us from getting leads to
// it; only /proc changes the mode behind such a one on every kernel.
func chmod(dir *os.File, name string, mode uint32) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

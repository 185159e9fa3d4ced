package staging

import (
	"errors"
	"io"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/durable"
	"github.com/transferpy/transferpy/sdk"
)

const (
	// maxRecord bounds spec and commit files: 64 Ki names of average length.
	maxRecord = 4 << 20

	// lockWait is how long a lock that should be free is waited for: an
	// agent that was told to stop may take a moment to go.
	lockWait  = 2 * time.Second
	lockRetry = 20 * time.Millisecond
)

// pathIn is the path of a name in an open directory, for messages.
func pathIn(dir *os.File, name string) sdk.Raw { return sdk.Raw(path.Join(dir.Name(), name)) }

// openDir opens a directory in an open one, never through a symlink.
func openDir(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, diskerr.New("cannot open", pathIn(dir, name), err)
	}
	return os.NewFile(uintptr(fd), string(pathIn(dir, name))), nil
}

// openRegular opens a regular file in an open directory, never through a
// symlink and never waiting for a fifo's other end.
func openRegular(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, diskerr.New("cannot open", pathIn(dir, name), err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.ELOOP
	}
	if err != nil {
		unix.Close(fd)
		return nil, diskerr.New("cannot open", pathIn(dir, name), err)
	}
	return os.NewFile(uintptr(fd), string(pathIn(dir, name))), nil
}

// readFile reads a small file whole.
func readFile(dir *os.File, name string) ([]byte, error) {
	f, err := openRegular(dir, name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(b) > maxRecord {
		err = unix.EFBIG
	}
	if err != nil {
		return nil, diskerr.New("cannot read", pathIn(dir, name), err)
	}
	return b, nil
}

// writeFile makes or replaces a small file so that after a crash it is there
// whole or as before.
func writeFile(dir *os.File, name string, content []byte) error {
	tmp := name + ".new"
	f, err := openRegular(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = unix.Renameat(int(dir.Fd()), tmp, int(dir.Fd()), name)
	}
	if err != nil {
		return diskerr.New("cannot write", pathIn(dir, name), err)
	}
	return syncDir(dir)
}

// removeFile removes a file, which need not be there.
func removeFile(dir *os.File, name string) error {
	if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return diskerr.New("cannot remove", pathIn(dir, name), err)
	}
	return nil
}

// syncDir has the disk keep a directory's names.
func syncDir(dir *os.File) error {
	return diskerr.New("cannot flush", sdk.Raw(dir.Name()), durable.Names(dir))
}

// eachName calls fn for every name in a directory, in no order, with bounded
// memory. It reads through a descriptor of its own.
func eachName(dir *os.File, fn func(name string) error) error {
	d, err := openDir(dir, ".")
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(512)
		for _, name := range names {
			if err := fn(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return diskerr.New("cannot read", sdk.Raw(dir.Name()), err)
		}
	}
}

// openLock opens the lock file, which is made if it is not there.
func openLock(self *os.File) (*os.File, error) {
	return openRegular(self, nameLock, unix.O_RDWR|unix.O_CREAT)
}

// tryLock takes a lock if it is free.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, diskerr.New("cannot lock", sdk.Raw(f.Name()), err)
}

// waitLock takes a lock, waiting a moment for it.
func waitLock(f *os.File) (bool, error) {
	for end := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		if got, err := tryLock(f); got || err != nil || time.Now().After(end) {
			return got, err
		}
	}
}

// lockBriefly locks a target directory for the time of one Create. Where
// directories cannot be locked (NFS), two that create at once may refuse each
// other, or meet at the rename.
func lockBriefly(dir *os.File) error {
	got, err := waitLock(dir)
	if got || err != nil {
		return nil
	}
	return &sdk.Error{
		Kind:    sdk.KindTimeout,
		Message: "the target directory " + sdk.Raw(dir.Name()).Display() + " is locked by another process",
		Hint:    "see who holds it: lslocks, fuser",
	}
}

func unlock(dir *os.File) error {
	err := unix.Flock(int(dir.Fd()), unix.LOCK_UN)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOLCK) {
		return nil
	}
	return diskerr.New("cannot unlock", sdk.Raw(dir.Name()), err)
}

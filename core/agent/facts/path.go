package facts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// Path answers one question. What the transfer resume, if any, has staged in
// a directory counts as free there. ctx bounds the counting; the rest is not
// interruptible.
func Path(ctx context.Context, q sdk.PathQuestion, resume string) sdk.PathFacts {
	began := time.Now()
	var f sdk.PathFacts
	if err := look(ctx, q, resume, &f); err != nil {
		f.Err = pathError(q.Path, err)
	}
	f.Took = time.Since(began)
	return f
}

func look(ctx context.Context, q sdk.PathQuestion, resume string, f *sdk.PathFacts) error {
	fd, err := unix.Open(string(q.Path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	f.Exists = true
	f.Type = tree.TypeOf(st.Mode)
	f.Mode = st.Mode & 0o7777
	f.UID, f.GID = st.Uid, st.Gid
	if f.Type == sdk.FileRegular {
		f.Size = st.Size
	}
	f.Readable, f.Writable = access(fd, f.Type)
	if err := fileSystem(fd, f); err != nil {
		return err
	}
	if f.Type == sdk.FileDirectory && f.Readable {
		if f.Empty, err = empty(fd); err != nil {
			return err
		}
		if resume != "" {
			if err := discountStaged(ctx, fd, resume, f); err != nil {
				return err
			}
		}
	}
	if q.Count {
		return count(ctx, fd, &st, f)
	}
	return nil
}

// access asks the kernel, which knows of ACLs, capabilities and read-only
// mounts. A directory must also be entered to be read or written.
func access(fd int, t sdk.FileType) (readable, writable bool) {
	if t == sdk.FileSymlink {
		return true, false // a link has no rights of its own
	}
	var enter uint32
	if t == sdk.FileDirectory {
		enter = unix.X_OK
	}
	path := fdPath(fd)
	return unix.Access(path, unix.R_OK|enter) == nil, unix.Access(path, unix.W_OK|enter) == nil
}

// fdPath names an open descriptor, for calls that take no O_PATH one.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// fileSystem tells what is free to everybody: what is kept back for root is
// not counted, not even for root.
func fileSystem(fd int, f *sdk.PathFacts) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	f.FreeBytes = int64(min(fs.Bavail, uint64(1<<62)/uint64(max(fs.Bsize, 1)))) * fs.Bsize
	f.FreeInodes = -1
	if fs.Files > 0 { // btrfs and the like make inodes as they need them
		f.FreeInodes = int64(min(fs.Ffree, 1<<62))
	}
	f.FileSystem = mountType(fd)
	if f.FileSystem == "" {
		f.FileSystem = fmt.Sprintf("%#x", fs.Type)
	}
	return nil
}

// mountType is the name of the file system that fd lies on, by the number of
// its mount: the magic number is the same for ext2, ext3 and ext4.
func mountType(fd int) string {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return ""
	}
	var id string
	for line := range strings.Lines(string(info)) {
		if rest, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id = strings.TrimSpace(rest)
		}
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer mounts.Close()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		number, rest, _ := strings.Cut(lines.Text(), " ")
		if number != id {
			continue
		}
		if _, tail, ok := strings.Cut(rest, " - "); ok {
			name, _, _ := strings.Cut(tail, " ")
			return name
		}
	}
	return ""
}

// empty reports whether the directory holds nothing, or nothing but root's
// own empty lost+found, as on a file system just made.
func empty(fd int) (bool, error) {
	names, err := readNames(fd, ".", 3)
	if err != nil {
		return false, err
	}
	switch {
	case len(names) == 0:
		return true, nil
	case len(names) > 1 || names[0] != lostFound:
		return false, nil
	}
	return emptyLostFound(fd)
}

// lostFound is root's own directory at the top of a file system.
const lostFound = "lost+found"

func emptyLostFound(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, lostFound, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if st.Uid != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, nil
	}
	inside, err := readNames(fd, lostFound, 1)
	if errors.Is(err, unix.EACCES) {
		return true, nil // 0700 root: what fsck finds later is no data of ours
	}
	return len(inside) == 0, err
}

// readNames returns up to n names in the directory name below fd.
func readNames(fd int, name string, n int) ([]string, error) {
	dir, err := openDir(fd, name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(n)
	if len(names) == 0 && err != nil && !isEOF(err) {
		return nil, err
	}
	return names, nil
}

// openDir opens a directory below fd without following a link.
func openDir(fd int, name string) (*os.File, error) {
	sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(sub), name), nil
}

// pathError says what went wrong and what can be done.
func pathError(path sdk.Raw, err error) *sdk.Error {
	e := &sdk.Error{Kind: sdk.KindInternal, Message: fmt.Sprintf("%s: %v", path.Display(), err)}
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		e.Kind = sdk.KindPermission
		e.Hint = fmt.Sprintf("the agent runs with uid %d", os.Getuid())
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ELOOP):
		e.Kind = sdk.KindConfig
	}
	return e
}

// Package treetest makes trees with everything that a file system can hold,
// and describes trees so that two can be compared. It serves tests only.
package treetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Tree is a tree as it lies on a disk: for each path below its top, in a
// line, all that a copy should preserve.
type Tree struct {
	Lines  map[string]string
	Blocks map[string]int64  // of 512 bytes, of regular files
	Data   map[string]string // where regular files have data, not holes
}

// Describe describes the tree at top: type, mode, owner, group, time of
// modification to the nanosecond, target of symlinks, device numbers, names
// of the same inode, extended attributes with ACLs, size and content.
func Describe(t testing.TB, top string) *Tree {
	t.Helper()
	d := &Tree{Lines: map[string]string{}, Blocks: map[string]int64{}, Data: map[string]string{}}
	firsts := map[uint64]string{}
	err := filepath.WalkDir(top, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		return d.add(path, name, firsts)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *Tree) add(path, name string, firsts map[uint64]string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	line := fmt.Sprintf("mode %o owner %d:%d mtime %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR {
		if firsts[st.Ino] == "" { // WalkDir goes in the order of names, so all trees agree
			firsts[st.Ino] = name
		}
		line += fmt.Sprintf(" is %q", firsts[st.Ino])
	}
	switch kind {
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		line += fmt.Sprintf(" to %q", to)
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" device %d", st.Rdev)
	case unix.S_IFREG:
		sum, data, err := content(path, st.Size)
		if err != nil {
			return err
		}
		line += fmt.Sprintf(" size %d sum %s", st.Size, sum)
		d.Blocks[name], d.Data[name] = st.Blocks, data
	}
	attributes, err := xattrs(path)
	if err != nil {
		return err
	}
	d.Lines[name] = line + attributes
	return nil
}

// content returns a digest of a file and where it has data.
func content(path string, size int64) (sum, data string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", "", err
	}
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return "", "", err
		}
		if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			return "", "", err
		}
		data += fmt.Sprintf("[%d,%d)", from, at)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), data, nil
}

// xattrs lists the attributes of a path, sorted, with their values.
func xattrs(path string) (string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 && err == nil {
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var all strings.Builder
	for _, x := range names {
		n, err := unix.Lgetxattr(path, x, buf)
		if err != nil {
			return "", &os.PathError{Op: "getxattr", Path: path, Err: err}
		}
		sum := sha256.Sum256(buf[:n])
		fmt.Fprintf(&all, " %q=%x/%d", x, sum[:6], n)
	}
	return all.String(), nil
}

// Same fails the test for each path that differs, but for those in without,
// which got may not have.
func Same(t testing.TB, want, got *Tree, without ...string) {
	t.Helper()
	for path, line := range want.Lines {
		if slices.Contains(without, path) {
			if _, ok := got.Lines[path]; ok {
				t.Errorf("%q is there", path)
			}
			continue
		}
		if got.Lines[path] != line {
			t.Errorf("%q:\n got %s\nwant %s", path, got.Lines[path], line)
		}
	}
	for path := range got.Lines {
		if _, ok := want.Lines[path]; !ok {
			t.Errorf("%q is too much", path)
		}
	}
}

// SameHoles fails the test where got's files take other places on the disk
// than want's, or clearly more.
func SameHoles(t testing.TB, want, got *Tree) {
	t.Helper()
	for path, data := range want.Data {
		if got.Data[path] != data {
			t.Errorf("%q: data at %s instead of %s", path, got.Data[path], data)
		}
		if got.Blocks[path] > want.Blocks[path]+32 {
			t.Errorf("%q: %d blocks instead of %d", path, got.Blocks[path], want.Blocks[path])
		}
	}
}

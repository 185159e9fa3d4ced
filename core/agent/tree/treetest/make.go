package treetest

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// node is one name of the tree.
type node struct {
	path   string
	kind   uint32 // S_IF...; 0: a further name of to
	mode   uint32
	owner  [2]int // given by root only
	size   int64
	data   [][2]int64 // runs of data; nil: all of size
	to     string     // of symlinks and further names
	dev    uint64
	sec    int64
	nsec   int64
	xattrs map[string]string
	root   bool // only root can make it
}

// Kinds, short, so that the tree below can be read.
const (
	file   = unix.S_IFREG
	dir    = unix.S_IFDIR
	link   = unix.S_IFLNK
	fifo   = unix.S_IFIFO
	char   = unix.S_IFCHR
	block  = unix.S_IFBLK
	socket = unix.S_IFSOCK
)

// Sockets are the paths of the tree that no copy has.
var Sockets = []string{"socket", "d/socket"}

// tree is everything; a directory stands before what is in it.
func tree() []node {
	acl, inherited := ACL(6, 4, 5, 7, 0), ACL(7, 1, 0, 5, 5)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service=ep
	type values = map[string]string
	return []node{
		{path: ".", kind: dir, mode: 0o751, sec: 1_111_111_111, nsec: 1, xattrs: values{"user.top": "yes"}},
		{path: "d", kind: dir, mode: 0o2775, owner: [2]int{7, 12345}, sec: -5, nsec: 999_999_999, xattrs: values{"system.posix_acl_access": ACL(7, 4, 5, 7, 1), "system.posix_acl_default": inherited, "user.on a directory": ""}},
		{path: "empty directory", kind: dir, mode: 0o1777, sec: 5_000_000_000, nsec: 5},
		{path: "closed", kind: dir, mode: 0o555, sec: 3},
		{path: "closed/deeper", kind: dir, mode: 0o500, sec: 2},
		{path: "closed/deeper/file", kind: file, mode: 0o400, size: 10, sec: 1, xattrs: values{"user.of one's own": "read-only"}},
		{path: "sealed", kind: dir, mode: 0, sec: 4, root: true},
		{path: "sealed/file", kind: file, mode: 0, size: 100, root: true},

		{path: "empty", kind: file, mode: 0o644},
		{path: "small", kind: file, mode: 0o640, size: 5000, owner: [2]int{65534, 65534}, sec: 1_000_000_000, nsec: 123_456_789},
		{path: "half a piece", kind: file, mode: 0o600, size: 512 << 10, sec: 1},
		{path: "more than half", kind: file, mode: 0o600, size: 512<<10 + 1, sec: -1},
		{path: "large", kind: file, mode: 0o777, size: 3<<20 + 17, sec: 4_294_967_296, nsec: 999_999_999},
		{path: "set IDs", kind: file, mode: 0o6755, size: 5},
		{path: "set IDs of others", kind: file, mode: 0o7711, size: 5, owner: [2]int{7, 8}, root: true},
		{path: "before 1970", kind: file, mode: 0o644, size: 1, sec: -2_000_000_000, nsec: 1},
		{path: "after 2106", kind: file, mode: 0o644, size: 1, sec: 9_999_999_999, nsec: 999_999_999},

		{path: "-rf", kind: file, mode: 0o644, size: 1},
		{path: "new\nline", kind: file, mode: 0o644, size: 2},
		{path: "\xff\xfe\x80", kind: file, mode: 0o644, size: 3},
		{path: " ", kind: dir, mode: 0o755},
		{path: strings.Repeat("n", 255), kind: file, mode: 0o644, size: 4},
		{path: "d/back\\slash \"'$(x)*", kind: file, mode: 0o644, size: 5},

		{path: "symlink", kind: link, to: "../nowhere\n\xff", owner: [2]int{9, 9}, sec: -7, nsec: 7},
		{path: "absolute", kind: link, to: "/etc/passwd", sec: 6_000_000_000},
		{path: "trusted symlink", kind: link, to: "x", root: true, xattrs: values{"trusted.link": "of root"}},
		{path: "pipe", kind: fifo, mode: 0o620, owner: [2]int{1, 2}, sec: 77, nsec: 7},
		{path: "d/null", kind: char, mode: 0o666, dev: unix.Mkdev(1, 3), sec: 78, root: true},
		{path: "whiteout", kind: char, mode: 0, root: true},
		{path: "disk", kind: block, mode: 0o660, dev: unix.Mkdev(259, 1<<19+3), owner: [2]int{0, 6}, sec: 79, root: true, xattrs: values{"trusted.device": "1"}},
		{path: "socket", kind: socket, mode: 0o600},
		{path: "d/socket", kind: socket, mode: 0o600},

		{path: "link of small", to: "small"},
		{path: "d/link of small", to: "small"},
		{path: "d/link of large", to: "large"},
		{path: "closed/deeper/link of empty", to: "empty"},
		{path: "d/link of symlink", to: "symlink"},
		{path: "closed/link of pipe", to: "pipe"},
		{path: "link of null", to: "d/null", root: true},
		{path: "attributes", kind: file, mode: 0o640, size: 9, xattrs: values{"user.\xff\n": "\x00\xff", "user.empty": "", "user.long": strings.Repeat("v", 2000), "system.posix_acl_access": acl}},
		{path: "closed/link of attributes", to: "attributes"},
		{path: "attributes of root", kind: file, mode: 0o4755, owner: [2]int{1, 1}, size: 700_000, root: true, xattrs: values{"trusted.secret": "x", "security.capability": capability, "user.x": "y"}},

		{path: "sparse", kind: file, mode: 0o644, size: 20<<20 + 5, data: [][2]int64{{4096, 4096}, {3 << 20, 1 << 20}, {9<<20 + 8192, 70_000}}},
		{path: "d/nothing but a hole", kind: file, mode: 0o644, size: 7 << 20, data: [][2]int64{}},
		{path: "small sparse", kind: file, mode: 0o644, size: 300_000, data: [][2]int64{{65536, 5000}, {131072, 4096}}, sec: 12},
		{path: "small sparse to the end", kind: file, mode: 0o644, size: 100_000, data: [][2]int64{{65536, 100_000 - 65536}}},
		{path: "small sparse from the beginning", kind: file, mode: 0o644, size: 512 << 10, data: [][2]int64{{0, 1}}},
		{path: "small hole", kind: file, mode: 0o644, size: 50_000, data: [][2]int64{}, sec: 13, nsec: 13},
		{path: "zeros", kind: file, mode: 0o644, size: 40_000, data: [][2]int64{{0, 0}}},
	}
}

// Make makes the tree in the new directory top, as far as the caller's rights
// allow, with one file that has another name outside.
func Make(t testing.TB, top string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root := os.Geteuid() == 0
	must(os.MkdirAll(top, 0o755))
	var made []node
	for _, n := range tree() {
		if n.root && !root {
			continue
		}
		must(n.create(top))
		made = append(made, n)
	}
	must(os.Link(filepath.Join(top, "-rf"), top+".outside"))
	// Directories last: their modes shut out, and their times change.
	for _, dirs := range []bool{false, true} {
		for i := len(made) - 1; i >= 0; i-- {
			if n := &made[i]; (n.kind == dir) == dirs && n.kind != 0 {
				must(n.dress(filepath.Join(top, n.path), root))
			}
		}
	}
	t.Cleanup(func() { Open(top) })
}

// Open gives the owner back the rights to remove a tree.
func Open(top string) {
	for _, closed := range []string{"closed", "closed/deeper", "sealed"} {
		_ = os.Chmod(filepath.Join(top, closed), 0o700)
	}
}

func (n *node) create(top string) error {
	path := filepath.Join(top, n.path)
	switch n.kind {
	case 0:
		return os.Link(filepath.Join(top, n.to), path)
	case dir:
		return os.MkdirAll(path, 0o700)
	case link:
		return os.Symlink(n.to, path)
	case file:
		return n.fill(path)
	}
	return unix.Mknod(path, n.kind|0o600, int(n.dev))
}

// fill writes a regular file: noise that is the same in every run.
func (n *node) fill(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(n.size); err != nil {
		return err
	}
	runs := n.data
	if runs == nil {
		runs = [][2]int64{{0, n.size}}
	}
	noise := rand.NewChaCha8([32]byte{byte(n.size)})
	for _, r := range runs {
		b := make([]byte, r[1])
		if r[1] == 0 { // zeros that are written
			b = make([]byte, n.size)
		} else {
			_, _ = noise.Read(b)
		}
		if _, err := f.WriteAt(b, r[0]); err != nil {
			return err
		}
	}
	return f.Sync() // so that it has its blocks
}

// dress gives a name its attributes.
func (n *node) dress(path string, root bool) error {
	if root {
		if err := unix.Lchown(path, n.owner[0], n.owner[1]); err != nil {
			return err
		}
	}
	if n.kind != link {
		if err := unix.Chmod(path, n.mode|0o200); err != nil { // attributes need the right to write
			return err
		}
	}
	for _, acls := range []bool{false, true} {
		if acls && n.kind != link {
			if err := unix.Chmod(path, n.mode); err != nil {
				return err
			}
		}
		for name, value := range n.xattrs {
			if strings.HasPrefix(name, "system.") != acls {
				continue
			}
			if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
				return &os.PathError{Op: "setxattr " + name, Path: path, Err: err}
			}
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1}, {Sec: n.sec, Nsec: n.nsec}}, unix.AT_SYMLINK_NOFOLLOW)
}

// ACL is a POSIX ACL as the kernel hands it out, with these permissions for
// the owner, user 2 (and 40000, which has no name), the group, group 3, and
// others.
func ACL(owner, user, group, named, other uint16) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		kind, perm uint16
		id         uint32
	}{{1, owner, 1<<32 - 1}, {2, user, 2}, {2, 0, 40000}, {4, group, 1<<32 - 1}, {8, named, 3}, {16, 7, 1<<32 - 1}, {32, other, 1<<32 - 1}} {
		b = binary.LittleEndian.AppendUint16(b, e.kind)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return string(b)
}

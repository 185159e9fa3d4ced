package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/test/lab"
	"golang.org/x/sys/unix"
)

// entry is one entry of a tree to make: dir/, file or link -> target.
type entry struct {
	path  string // from the tree's root; "" is the root
	kind  byte   // d, f, l
	size  int
	link  string
	mode  uint32
	owner string // name, or number as text; "": root
	when  time.Time
}

// long is a name of the longest kind.
var long = strings.Repeat("x", 255)

// odd is a small tree with something of everything that is preserved.
var odd = []entry{
	{path: "", kind: 'd', mode: 0o751, owner: lab.Service},
	{path: "empty", kind: 'f', mode: 0o600},
	{path: "one", kind: 'f', size: 1, mode: 0o644, owner: lab.Operator},
	{path: "page", kind: 'f', size: 4096, mode: 0o400, owner: lab.Service},
	{path: "frame-", kind: 'f', size: 1<<20 - 1, mode: 0o640},
	{path: "frame", kind: 'f', size: 1 << 20, mode: 0o666},
	{path: "frame+", kind: 'f', size: 1<<20 + 1, mode: 0},
	{path: "big", kind: 'f', size: 9<<20 + 4321, mode: 0o444, owner: lab.Service},
	{path: "setuid", kind: 'f', size: 10, mode: 0o4755},
	{path: "setgid", kind: 'f', size: 10, mode: 0o2755, owner: lab.Operator},
	{path: "number", kind: 'f', size: 10, mode: 0o644, owner: "54321"},
	{path: "old", kind: 'f', size: 10, mode: 0o644, when: time.Unix(-12345, 678).UTC()},
	{path: "future", kind: 'f', size: 10, mode: 0o644, when: time.Date(2200, 1, 2, 3, 4, 5, 987654321, time.UTC)},
	{path: "hollow", kind: 'd', mode: 0o700},
	{path: "sticky", kind: 'd', mode: 0o1777},
	{path: "closed", kind: 'd', mode: 0o555, owner: lab.Operator},
	{path: "closed/file", kind: 'f', size: 100, mode: 0o444, owner: lab.Operator},
	{path: "a/b/c/d/e/f", kind: 'f', size: 70000, mode: 0o644},
	{path: "a/b/" + long, kind: 'f', size: 5, mode: 0o644},
	{path: "link", kind: 'l', link: "one", owner: lab.Operator},
	{path: "dangling", kind: 'l', link: "no where"},
	{path: "absolute", kind: 'l', link: "/etc/passwd"},
	{path: "up", kind: 'l', link: "../../.."},
	{path: "name with blank", kind: 'f', size: 3, mode: 0o644},
}

// makeTree makes a tree at path of host. Entries without a time get one that
// is old, odd and their own.
func (r *rig) makeTree(host, path string, entries []entry) {
	r.t.Helper()
	root := r.path(host, path)
	check := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatalf("make a tree on %s: %v", host, err)
		}
	}
	users := r.accounts(host, "/etc/passwd")
	for _, e := range entries {
		at := join(root, e.path)
		check(os.MkdirAll(filepath.Dir(at), 0o755))
		switch e.kind {
		case 'd':
			check(os.MkdirAll(at, 0o755))
		case 'f':
			check(os.WriteFile(at, content(e.path, e.size), 0o600))
		case 'l':
			check(os.Symlink(e.link, at))
		}
		id := 0
		if e.owner != "" {
			var err error
			if id, err = strconv.Atoi(e.owner); err != nil {
				id = users[e.owner]
			}
		}
		check(os.Lchown(at, id, id))
		if e.kind != 'l' {
			check(syscall.Chmod(at, e.mode))
		}
	}
	// Times come last, from the leaves up, since every new entry touches the
	// directory that it is in.
	for i, e := range slices.Backward(entries) {
		when := e.when
		if when.IsZero() {
			when = time.Date(2021, 2, 3, 4, 5, i%60, 123456000+i, time.UTC)
		}
		stamp := unix.NsecToTimespec(when.UnixNano())
		check(unix.UtimesNanoAt(unix.AT_FDCWD, join(root, e.path), []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// join keeps every byte of a name.
func join(root, path string) string {
	if path == "" {
		return root
	}
	return root + "/" + path
}

// content is the same for the same name and size, and does not compress.
func content(name string, size int) []byte {
	seed := sha256.Sum256([]byte(name))
	data := make([]byte, size)
	rand.NewChaCha8(seed).Read(data)
	return data
}

// bulk is a tree of so many files of 1 MiB: long enough to be disturbed.
func bulk(files int) []entry {
	list := []entry{{kind: 'd', mode: 0o755}}
	for i := range files {
		list = append(list, entry{path: fmt.Sprintf("file-%03d", i), kind: 'f', size: 1 << 20, mode: 0o644})
	}
	return list
}

// accounts maps names to numbers as a host's passwd or group file does.
func (r *rig) accounts(host, file string) map[string]int {
	r.t.Helper()
	text, err := os.ReadFile(r.path(host, file))
	if err != nil {
		r.t.Fatal(err)
	}
	ids := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Split(line, ":"); len(f) > 2 {
			ids[f[0]], _ = strconv.Atoi(f[2])
		}
	}
	return ids
}

// record is all that must be the same of an entry and its copy.
type record struct {
	kind         fs.FileMode
	mode         uint32
	owner, group string
	size         int64
	mtime        time.Time
	link, digest string
}

// records reads a tree: path from its root -> record.
func (r *rig) records(host, path string) map[string]record {
	r.t.Helper()
	root := r.path(host, path)
	owner := naming(r.accounts(host, "/etc/passwd"))
	group := naming(r.accounts(host, "/etc/group"))
	all := map[string]record{}
	err := filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rec := record{kind: info.Mode().Type(), mode: st.Mode & 0o7777, owner: owner(st.Uid), group: group(st.Gid), mtime: info.ModTime()}
		switch {
		case info.Mode().IsRegular():
			rec.size = info.Size()
			rec.digest, err = digest(at)
		case rec.kind == fs.ModeSymlink:
			rec.link, err = os.Readlink(at)
		}
		all[strings.TrimPrefix(at, root)] = rec
		return err
	})
	if err != nil {
		r.t.Fatalf("read the tree %s:%s: %v", host, path, err)
	}
	return all
}

// naming gives the name for a number, or the number as text.
func naming(ids map[string]int) func(uint32) string {
	names := map[int]string{}
	for name, id := range ids {
		if old, ok := names[id]; !ok || name < old {
			names[id] = name
		}
	}
	return func(id uint32) string {
		if name, ok := names[int(id)]; ok {
			return name
		}
		return strconv.Itoa(int(id))
	}
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return string(h.Sum(nil)), err
}

// sameError lists the differences of two trees, at most ten.
func (r *rig) sameError(host1, path1, host2, path2 string) error {
	r.t.Helper()
	a, b := r.records(host1, path1), r.records(host2, path2)
	var errs []error
	for path, want := range a {
		got, ok := b[path]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s:%s has no %q", host2, path2, path))
		case got.digest != want.digest:
			errs = append(errs, fmt.Errorf("%s:%s: %q has other bytes (%d and %d of them)", host2, path2, path, got.size, want.size))
		case got != want:
			errs = append(errs, fmt.Errorf("%s:%s: %q differs: %v, source %v", host2, path2, path, got, want))
		}
	}
	for path := range b {
		if _, ok := a[path]; !ok {
			errs = append(errs, fmt.Errorf("%s:%s has %q, the source has not", host2, path2, path))
		}
	}
	return errors.Join(errs[:min(len(errs), 10)]...)
}

// same fails the test if the second tree is not a copy of the first.
func (r *rig) same(host1, path1, host2, path2 string) {
	r.t.Helper()
	if err := r.sameError(host1, path1, host2, path2); err != nil {
		r.t.Error(err)
	}
}

// String leaves out the digest, which says nothing to a reader.
func (r record) String() string {
	return fmt.Sprintf("%v %04o %s:%s %d bytes %s link %q", r.kind, r.mode, r.owner, r.group, r.size, r.mtime.Format(time.RFC3339Nano), r.link)
}

// fingerprint is a tree's whole state, inodes and change times included, so
// that "nothing was changed" can be said.
func (r *rig) fingerprint(host, path string) string {
	r.t.Helper()
	return r.sh(host, "find "+path+" -printf '%p %i %m %U %G %s %T@ %C@ %l\\n' | sort")
}

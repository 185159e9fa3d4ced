package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree/treetest"
	"github.com/transferpy/transferpy/sdk"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// copied is a tree that went from a source into a sink.
type copied struct {
	spool    *manifest.Spool
	dir      string // the sink's
	read     []control.Warning
	written  []control.Warning
	checked  []control.Warning
	checkErr error
}

// copyTree reads the tree at path and writes it, as the agents do but
// without a wire between.
func copyTree(t testing.TB, path string, o SinkOptions, change ...func(*Sink)) copied {
	t.Helper()
	src, err := OpenSource(sdk.Raw(path))
	check(t, err)
	defer src.Close()
	spool, err := manifest.Create(t.TempDir(), manifest.Header{DigestRule: manifest.RuleNone})
	check(t, err)
	t.Cleanup(func() { _ = spool.Close() })
	check(t, walkInto(src, spool))
	dir := t.TempDir()
	sink := newSink(t, dir, o)
	defer sink.Close()
	for _, f := range change {
		f(sink)
	}
	check(t, spool.Each(context.Background(), func(n uint64, e manifest.Entry, _ manifest.Digest) error {
		return copyEntry(src, sink, spool, n, &e)
	}))
	check(t, sink.CopyApart(context.Background(), spool))
	check(t, sink.Finish(context.Background(), spool))
	c := copied{spool: spool, dir: dir, read: src.Warnings(), written: sink.Warnings()}
	c.checked, c.checkErr = sink.Check(context.Background(), spool)
	return c
}

func newSink(t testing.TB, dir string, o SinkOptions) *Sink {
	t.Helper()
	o.Root = os.Geteuid() == 0
	f, err := os.Open(dir)
	check(t, err)
	defer f.Close()
	sink, err := NewSink(f, o)
	check(t, err)
	return sink
}

func walkInto(src *Source, spool *manifest.Spool) error {
	return src.Walk(context.Background(), func(e manifest.Entry, id manifest.Ident) error {
		b, err := manifest.AppendEntry(nil, &e)
		if err != nil {
			return err
		}
		n, _, err := spool.Append(b)
		return errors.Join(err, spool.SetIdent(n, id))
	})
}

func copyEntry(src *Source, sink *Sink, spool *manifest.Spool, n uint64, e *manifest.Entry) error {
	if e.HardLink != 0 {
		first, err := spool.Entry(e.HardLink - 1)
		return errors.Join(err, sink.Link(e, &first), sink.Link(e, &first))
	}
	if err := errors.Join(sink.Create(e), sink.Create(e)); err != nil {
		return err
	}
	if e.Type != sdk.FileRegular {
		return nil
	}
	in, id, err := src.Open(e)
	if err != nil {
		return err
	}
	defer in.Close()
	if was, err := spool.Ident(n); err != nil || !id.Same(was) {
		return fmt.Errorf("%s changed: %+v, was %+v (%v)", e.Path, id, was, err)
	}
	out, err := sink.OpenWrite(e)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(content), 0o600))
	check(t, os.Chmod(path, mode))
}

// TestCopy: everything arrives, as root and as a user without rights.
func TestCopy(t *testing.T) {
	treetest.Disk(t)
	top := filepath.Join(t.TempDir(), "top dir")
	treetest.Make(t, top)
	want := treetest.Describe(t, top)
	c := copyTree(t, top, SinkOptions{})
	check(t, c.checkErr)
	treetest.Same(t, want, treetest.Describe(t, filepath.Join(c.dir, "top dir")), treetest.Sockets...)
	if got := counts(c.read, c.written, c.checked); len(got) != 1 || got[noteSockets] != 2 {
		t.Errorf("warnings: %v", got)
	}
	treetest.Open(filepath.Join(c.dir, "top dir"))
	treetest.AsNobody(t)
}

// TestOldKernel: the same without the calls that older kernels do not have.
func TestOldKernel(t *testing.T) {
	treetest.Disk(t)
	noListxattrat.Store(true)
	defer noListxattrat.Store(false)
	top := filepath.Join(t.TempDir(), "top")
	treetest.Make(t, top)
	want := treetest.Describe(t, top)
	c := copyTree(t, top, SinkOptions{}, func(k *Sink) { k.noChmodAt.Store(true) })
	check(t, c.checkErr)
	treetest.Same(t, want, treetest.Describe(t, filepath.Join(c.dir, "top")), treetest.Sockets...)
	treetest.Open(filepath.Join(c.dir, "top"))
}

// TestPoorFileSystems: what a file system does not keep is said, with a
// count, and is no error.
func TestPoorFileSystems(t *testing.T) {
	treetest.Disk(t)
	top := filepath.Join(t.TempDir(), "top")
	treetest.Make(t, top)
	for name, c := range map[string]struct {
		at    string
		notes []string
	}{
		"old ext4": {treetest.Mount(t, "64M", "-I", "128"), []string{noteTimes, noteTimeRange, noteXattrs /* no room for a long one */}},
		"ramfs":    {treetest.MountRAM(t), []string{noteXattrs, noteACLs, noteCaps}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", c.at)
			done := copyTree(t, top, SinkOptions{})
			check(t, done.checkErr)
			got := counts(done.written, done.checked)
			for _, note := range c.notes {
				if got[note] == 0 {
					t.Errorf("nothing is said: %s", note)
				}
				delete(got, note)
			}
			if len(got) > 0 {
				t.Errorf("too much is said: %v", got)
			}
		})
	}
}

func TestCopyOneFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "one\nfile")
	write(t, file, "content", 0o644)
	c := copyTree(t, file+"//", SinkOptions{Owner: "numeric"})
	check(t, c.checkErr)
	got, err := os.ReadFile(filepath.Join(c.dir, "one\nfile"))
	if err != nil || string(got) != "content" || c.spool.Len() != 1 {
		t.Errorf("%q, %v, %d entries", got, err, c.spool.Len())
	}
}

// TestDeepTree: paths beyond PATH_MAX, with names that are long and names
// that make many levels.
func TestDeepTree(t *testing.T) {
	treetest.Disk(t)
	for _, name := range []string{strings.Repeat("d", 200), "d"} {
		top := filepath.Join(t.TempDir(), "top")
		check(t, os.Mkdir(top, 0o755))
		fd, err := unix.Open(top, unix.O_DIRECTORY, 0)
		check(t, err)
		for range 300 {
			check(t, unix.Mkdirat(fd, name, 0o755))
			// Two on each level, so that the walk has to come back.
			for _, file := range []string{"a", "z"} {
				f, err := unix.Openat(fd, file, unix.O_CREAT|unix.O_WRONLY, 0o644)
				check(t, err)
				check(t, unix.Close(f))
			}
			next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
			check(t, err)
			check(t, unix.Close(fd))
			fd = next
		}
		deepest(t, fd, top)
		check(t, unix.Close(fd))
		c := copyTree(t, top, SinkOptions{})
		check(t, c.checkErr)
		if c.spool.Len() != 905 {
			t.Errorf("%d entries instead of 905", c.spool.Len())
		}
		found := map[string]int{}
		check(t, c.spool.Each(context.Background(), func(_ uint64, e manifest.Entry, _ manifest.Digest) error {
			found[string(e.Type)]++
			found["links"] += int(min(e.HardLink, 1))
			found["attributes"] += len(e.Xattrs)
			return nil
		}))
		if found["links"] != 1 || found["attributes"] != 2 || found["fifo"] != 1 || found["symlink"] != 1 {
			t.Errorf("found %v", found)
		}
		if open := openFiles(t); open > 60 {
			t.Errorf("%d descriptors are open", open)
		}
		check(t, exec.Command("rm", "-rf", top, c.dir).Run())
	}
}

// deepest makes in a directory far below top what has no call of its own for
// a name in an open directory: Check finds it again, or fails.
func deepest(t *testing.T, fd int, top string) {
	t.Helper()
	check(t, unix.Linkat(unix.AT_FDCWD, top+"/a", fd, "link", 0))
	check(t, unix.Mknodat(fd, "pipe", unix.S_IFIFO|0o640, 0))
	check(t, unix.Symlinkat("x", fd, "symlink"))
	check(t, unix.Mknodat(fd, "bottom", unix.S_IFREG|0o640, 0))
	for _, name := range []string{".", "bottom"} {
		check(t, unix.Setxattr(at(fd, name), "user.deep", []byte("down"), 0))
	}
	for _, name := range []string{"bottom", "pipe", "symlink"} {
		check(t, unix.UtimesNanoAt(fd, name, []unix.Timespec{{Sec: 1}, {Sec: 5, Nsec: 5}}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func openFiles(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(names)
}

// TestWarnings: only what is not copied is told.
func TestWarnings(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	check(t, os.Mkdir(top, 0o755))
	write(t, top+"/a", "x", 0o644)
	check(t, os.Link(top+"/a", top+"/b"))
	check(t, unix.Mkfifo(top+"/fifo", 0o600))
	check(t, unix.Mknod(top+"/sock", unix.S_IFSOCK|0o600, 0))
	check(t, unix.Mknod(top+"/sock2", unix.S_IFSOCK|0o600, 0))
	_ = unix.Setxattr(top+"/a", "user.colour", []byte("red"), 0)
	c := copyTree(t, top, SinkOptions{})
	check(t, c.checkErr)
	if len(c.read) != 1 || c.read[0].What != noteSockets || c.read[0].Count != 2 || c.read[0].Example == "" || len(c.written)+len(c.checked) > 0 {
		t.Errorf("%+v, %+v, %+v", c.read, c.written, c.checked)
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	e := func(uid uint32, owner string) *manifest.Entry {
		return &manifest.Entry{Path: "f", Type: sdk.FileRegular, UID: uid, GID: uid, Owner: owner, Group: owner, Mode: 0o600}
	}
	for _, c := range []struct {
		opt      string
		e        *manifest.Entry
		uid, gid uint32
	}{
		{"", e(999, "daemon"), 1, 1},
		{"name", e(999, "daemon"), 1, 1},
		{"name", e(999, "nobody-knows-this"), 999, 999},
		{"name", e(999, "0"), 999, 999},
		{"name", e(999, "-h"), 999, 999},
		{"name", e(999, ""), 999, 999},
		{"numeric", e(999, "daemon"), 999, 999},
		{"daemon:4242", e(999, "root"), 1, 4242},
	} {
		w, err := newOwner(SinkOptions{Owner: c.opt, Root: true})
		check(t, err)
		if uid, gid := w.of(c.e); uid != c.uid || gid != c.gid {
			t.Errorf("%s, %q: %d:%d instead of %d:%d", c.opt, c.e.Owner, uid, gid, c.uid, c.gid)
		}
	}
	for _, bad := range []string{"daemon", "nobody-knows-this:1", "1:", ":", "-1:-1", "1:4294967295"} {
		if _, err := newOwner(SinkOptions{Owner: bad}); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestNotPreserved: without rights, owners are left out with a warning, and
// with them the bits that would hand rights on.
func TestNotPreserved(t *testing.T) {
	if !treetest.AsNobody(t) {
		return
	}
	spool, err := manifest.Create(t.TempDir(), manifest.Header{DigestRule: manifest.RuleNone})
	check(t, err)
	defer spool.Close()
	for _, e := range []manifest.Entry{
		{Path: "a", Type: sdk.FileRegular, Mode: 0o6755},
		{Path: "b", Type: sdk.FileRegular, Mode: 0o644},
		{Path: "d", Type: sdk.FileDirectory, Mode: 0},
		{Path: "d/x", Type: sdk.FileRegular, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())},
		{Path: "null", Type: sdk.FileCharDev, Rdev: unix.Mkdev(1, 3)},
		{Path: "null2", Type: sdk.FileCharDev, Rdev: unix.Mkdev(1, 3), HardLink: 5},
		{Path: "pipe", Type: sdk.FileFifo, Mode: 0o600, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())},
		{Path: "x", Type: sdk.FileRegular, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Xattrs: []manifest.Xattr{
			{Name: "btrfs.compression", Value: "zstd"}, {Name: "security.capability", Value: "\x01"}, {Name: "trusted.x", Value: "y"}}},
	} {
		b, err := manifest.AppendEntry(nil, &e)
		check(t, err)
		_, _, err = spool.Append(b)
		check(t, err)
	}
	dir := t.TempDir()
	sink := newSink(t, dir, SinkOptions{Owner: "numeric"})
	defer sink.Close()
	check(t, spool.Each(context.Background(), func(_ uint64, e manifest.Entry, _ manifest.Digest) error {
		if e.HardLink != 0 {
			first, err := spool.Entry(e.HardLink - 1)
			return errors.Join(err, sink.Link(&e, &first))
		}
		return sink.Create(&e)
	}))
	check(t, sink.Finish(context.Background(), spool))
	got := counts(sink.Warnings())
	want := map[string]int64{noteOwner: 4, noteGroup: 4, noteSetID: 1, noteDevices: 3, noteForeign: 1, noteCaps: 1, noteXattrs: 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	info, err := os.Stat(dir + "/a")
	check(t, err)
	if info.Mode() != 0o755 {
		t.Errorf("mode %v", info.Mode())
	}
	warned, err := sink.Check(context.Background(), spool)
	check(t, err)
	if len(warned) != 1 || warned[0].What != noteUnseen {
		t.Errorf("%+v", warned)
	}
	check(t, os.Chmod(dir+"/d", 0o700))
}

// TestSetIDBitsAreNotHandedOn: who gets all files by --owner does not get the
// right to act as somebody else with them.
func TestSetIDBitsAreNotHandedOn(t *testing.T) {
	for _, c := range []struct {
		opt  string
		kind sdk.FileType
		want uint32
	}{
		{"0:0", sdk.FileRegular, 0o755},
		{"0:0", sdk.FileDirectory, 0o6755},
		{"numeric", sdk.FileRegular, 0o6755},
	} {
		w, err := newOwner(SinkOptions{Owner: c.opt, Root: true})
		check(t, err)
		k := &Sink{owner: w, opts: SinkOptions{Root: true}, can: abilities{owners: true, modes: true}}
		if got := k.attributesOf(&manifest.Entry{Path: "f", Type: c.kind, Mode: 0o6755}).mode; got != c.want {
			t.Errorf("--owner %s, a %s: mode %o, want %o", c.opt, c.kind, got, c.want)
		}
	}
}

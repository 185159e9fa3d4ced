package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// asNobody runs the calling test again in a process without rights, where it
// runs as root; there it returns false and the caller returns. The test's
// binary is copied, since nobody cannot reach it where go test puts it.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	dir, err := os.MkdirTemp("", "nobody")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	program := filepath.Join(dir, "test")
	check(t, os.WriteFile(program, self, 0o755))
	cmd := exec.Command(program, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
	return false
}

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
func copyTree(t testing.TB, path string, o SinkOptions) copied {
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

// listing describes a tree by find: every byte of names and links, modes,
// owners, times to the nanosecond and contents' digests.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, args := range [][]string{
		{".", "!", "-name", ".", "-printf", `%p %y %m %U %G %T@ %l %s\0`},
		{".", "-type", "d", "-printf", `%p %y %m %U %G %T@\0`},
		{".", "-type", "f", "-exec", "sha256sum", "--zero", "{}", "+"},
	} {
		cmd := exec.Command("find", args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		check(t, err)
		lines := strings.Split(string(out), "\x00")
		for i, line := range lines {
			if strings.Contains(line, " d ") && args[0] == "." && args[1] == "!" {
				lines[i] = "" // a directory's size is the file system's own affair
			}
		}
		// Order differs from directory to directory.
		slices.Sort(lines)
		all.WriteString(strings.Join(lines, "\x00"))
	}
	return all.String()
}

func write(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(content), 0o600))
	check(t, os.Chmod(path, mode))
}

// makeTree makes a tree with everything that names and modes can hold.
func makeTree(t testing.TB) string {
	t.Helper()
	top := filepath.Join(t.TempDir(), "top dir")
	check(t, os.MkdirAll(filepath.Join(top, "sub", "empty"), 0o755))
	for i, name := range []string{"plain", "-rf", "new\nline", "\xff\xfe", " ", "quo'te\"", strings.Repeat("n", 255), ".hidden", "$(x)", "back\\slash"} {
		write(t, filepath.Join(top, "sub", name), strings.Repeat("x", i*1000), 0o640)
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(top, "sub", name), []unix.Timespec{{Sec: 1}, {Sec: 1_000_000_000 + int64(i), Nsec: 123456789}}, 0))
	}
	write(t, filepath.Join(top, "ro"), "secret", 0o400)
	write(t, filepath.Join(top, "suid"), "program", 0o755|os.ModeSetuid|os.ModeSetgid)
	check(t, os.Symlink("../nowhere\n", filepath.Join(top, "link")))
	check(t, os.Symlink("/etc/passwd", filepath.Join(top, "absolute")))
	check(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(top, "link"), []unix.Timespec{{Sec: 1}, {Sec: 5, Nsec: 7}}, unix.AT_SYMLINK_NOFOLLOW))
	check(t, os.Mkdir(filepath.Join(top, "closed"), 0o755))
	write(t, filepath.Join(top, "closed", "f"), "1", 0o444)
	check(t, os.Chmod(filepath.Join(top, "closed"), 0o555))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(top, "closed"), 0o755) })
	check(t, os.Mkdir(filepath.Join(top, "sticky"), 0o755))
	check(t, os.Chmod(filepath.Join(top, "sticky"), 0o777|os.ModeSticky|os.ModeSetgid))
	if os.Geteuid() == 0 {
		check(t, os.Lchown(filepath.Join(top, "ro"), 65534, 12345))
		check(t, os.Lchown(filepath.Join(top, "link"), 7, 65534))
		check(t, os.Lchown(filepath.Join(top, "suid"), 65534, 65534))
		check(t, os.Chmod(filepath.Join(top, "suid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	}
	for _, dir := range []string{"sub/empty", "sub", "closed", "sticky", "."} {
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(top, dir), []unix.Timespec{{Sec: 1}, {Sec: 999, Nsec: 5}}, 0))
	}
	return top
}

// TestCopy: everything arrives, as root and as a user without rights.
func TestCopy(t *testing.T) {
	top := makeTree(t)
	want := listing(t, top)
	c := copyTree(t, top, SinkOptions{})
	check(t, c.checkErr)
	if got := listing(t, filepath.Join(c.dir, "top dir")); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if all := append(append(c.read, c.written...), c.checked...); len(all) > 0 {
		t.Errorf("warnings: %+v", all)
	}
	if os.Geteuid() != 0 {
		check(t, os.Chmod(filepath.Join(c.dir, "top dir", "closed"), 0o755))
	}
	asNobody(t)
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
		check(t, unix.Close(fd))
		c := copyTree(t, top, SinkOptions{})
		check(t, c.checkErr)
		if c.spool.Len() != 901 {
			t.Errorf("%d entries instead of 901", c.spool.Len())
		}
		if open := openFiles(t); open > 60 {
			t.Errorf("%d descriptors are open", open)
		}
		check(t, exec.Command("rm", "-rf", top, c.dir).Run())
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
	if !asNobody(t) {
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
	} {
		b, err := manifest.AppendEntry(nil, &e)
		check(t, err)
		_, _, err = spool.Append(b)
		check(t, err)
	}
	dir := t.TempDir()
	sink := newSink(t, dir, SinkOptions{Owner: "numeric"})
	defer sink.Close()
	check(t, spool.Each(context.Background(), func(_ uint64, e manifest.Entry, _ manifest.Digest) error { return sink.Create(&e) }))
	check(t, sink.Finish(context.Background(), spool))
	got := map[string]int64{}
	for _, w := range sink.Warnings() {
		got[w.What] = w.Count
	}
	if want := map[string]int64{noteOwner: 3, noteGroup: 3, noteSetID: 1}; fmt.Sprint(got) != fmt.Sprint(want) {
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

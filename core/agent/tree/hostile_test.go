package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree/treetest"
	"github.com/transferpy/transferpy/sdk"
)

// victim is a tree beside the one under test that must stay untouched.
func victim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "secret", 0o600)
	return dir
}

func openSource(t *testing.T, path string) *Source {
	t.Helper()
	s, err := OpenSource(sdk.Raw(path))
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestSourceDirectoryBecomesSymlink: between walk and open a directory is
// replaced by a symlink to one outside.
func TestSourceDirectoryBecomesSymlink(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	check(t, os.MkdirAll(top+"/d/deeper", 0o755))
	write(t, top+"/d/f", "mine", 0o644)
	s := openSource(t, top)
	check(t, s.Walk(context.Background(), func(manifest.Entry, manifest.Ident) error { return nil }))
	check(t, os.Rename(top+"/d", top+"/away"))
	check(t, os.Symlink(victim(t), top+"/d"))
	f, _, err := s.Open(&manifest.Entry{Path: "top/d/f", Type: sdk.FileRegular})
	if !errors.Is(err, sdk.ErrChanged) || f != nil {
		t.Errorf("the symlink was followed: %v", err)
	}
	// The last component is a symlink.
	check(t, os.Symlink(victim(t)+"/f", top+"/g"))
	if _, _, err := s.Open(&manifest.Entry{Path: "top/g", Type: sdk.FileRegular}); !errors.Is(err, sdk.ErrChanged) {
		t.Errorf("the symlink was followed: %v", err)
	}
}

// TestSourceFileBecomesFifo: it must neither hang nor be read.
func TestSourceFileBecomesFifo(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	check(t, os.Mkdir(top, 0o755))
	check(t, unix.Mkfifo(top+"/f", 0o600))
	s := openSource(t, top)
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Open(&manifest.Entry{Path: "top/f", Type: sdk.FileRegular})
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, sdk.ErrChanged) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("hangs")
	}
}

// TestSourceChanges: a file that vanishes, grows, shrinks or is rewritten is
// seen by its identity.
func TestSourceChanges(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	check(t, os.Mkdir(top, 0o755))
	names := []string{"same", "grown", "cut", "replaced", "rewritten", "gone"}
	for _, name := range names {
		write(t, filepath.Join(top, name), "content", 0o644)
	}
	s := openSource(t, top)
	was := map[string]manifest.Ident{}
	check(t, s.Walk(context.Background(), func(e manifest.Entry, id manifest.Ident) error {
		was[filepath.Base(string(e.Path))] = id
		return nil
	}))
	time.Sleep(20 * time.Millisecond) // longer than the clock tick of timestamps
	write(t, top+"/grown", "content and more", 0o644)
	check(t, os.Truncate(top+"/cut", 3))
	write(t, top+"/new", "content", 0o644)
	check(t, os.Rename(top+"/new", top+"/replaced"))
	write(t, top+"/rewritten", "CONTENT", 0o644)
	check(t, os.Remove(top+"/gone"))
	for _, name := range names {
		f, id, err := s.Open(&manifest.Entry{Path: sdk.Raw("top/" + name), Type: sdk.FileRegular})
		if name == "gone" {
			if !errors.Is(err, sdk.ErrNotFound) || !strings.Contains(err.Error(), top+"/gone") {
				t.Errorf("gone: %v", err)
			}
			continue
		}
		check(t, err)
		check(t, f.Close())
		if same := id.Same(was[name]); same != (name == "same") {
			t.Errorf("%s: same is %v", name, same)
		}
	}
}

// TestSourceRefused: what cannot be a source says so with its path.
func TestSourceRefused(t *testing.T) {
	dir := t.TempDir()
	check(t, os.Symlink("/etc", dir+"/link"))
	check(t, unix.Mkfifo(dir+"/fifo", 0o600))
	for path, kind := range map[string]error{
		dir + "/none": sdk.ErrNotFound,
		dir + "/link": sdk.ErrUnsupported,
		dir + "/fifo": sdk.ErrUnsupported,
		"/":           sdk.ErrConfig,
		"relative":    sdk.ErrConfig,
		"/tmp/..":     sdk.ErrConfig,
		"/a\x00b":     sdk.ErrConfig,
	} {
		_, err := OpenSource(sdk.Raw(path))
		if !errors.Is(err, kind) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestUnreadable: a typed error with the path, for a file and a directory.
func TestUnreadable(t *testing.T) {
	if !treetest.AsNobody(t) {
		return
	}
	top := filepath.Join(t.TempDir(), "top")
	check(t, os.MkdirAll(top+"/d", 0o755))
	write(t, top+"/f", "x", 0)
	s := openSource(t, top)
	_, _, err := s.Open(&manifest.Entry{Path: "top/f", Type: sdk.FileRegular, UID: uint32(os.Geteuid())})
	if !errors.Is(err, sdk.ErrPermission) || !strings.Contains(err.Error(), top+"/f") {
		t.Errorf("file: %v", err)
	}
	check(t, os.Chmod(top+"/d", 0))
	err = s.Walk(context.Background(), func(manifest.Entry, manifest.Ident) error { return nil })
	if !errors.Is(err, sdk.ErrPermission) || !strings.Contains(err.Error(), top+"/d") {
		t.Errorf("directory: %v", err)
	}
	check(t, os.Chmod(top+"/d", 0o700))
}

// TestWalkWhileItChanges: a tree that somebody tears apart gives entries or
// an error, but ends.
func TestWalkWhileItChanges(t *testing.T) {
	top := filepath.Join(t.TempDir(), "top")
	for i := range 200 {
		check(t, os.MkdirAll(fmt.Sprintf("%s/d%d/e/f", top, i), 0o755))
		write(t, fmt.Sprintf("%s/d%d/e/file", top, i), "x", 0o644)
	}
	s := openSource(t, top)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			_ = os.RemoveAll(fmt.Sprintf("%s/d%d/e", top, 199-i))
		}
	})
	err := s.Walk(context.Background(), func(manifest.Entry, manifest.Ident) error { return nil })
	wg.Wait()
	if err != nil && !errors.Is(err, sdk.ErrChanged) {
		t.Error(err)
	}
}

func TestWalkStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := openSource(t, t.TempDir()).Walk(ctx, func(manifest.Entry, manifest.Ident) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	mine := errors.New("mine")
	if err := openSource(t, t.TempDir()).Walk(context.Background(), func(manifest.Entry, manifest.Ident) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
}

// TestSinkDirectoryBecomesSymlink: between create and write a directory is
// replaced by a symlink to one outside; nothing there is touched.
func TestSinkDirectoryBecomesSymlink(t *testing.T) {
	for _, cached := range []bool{true, false} {
		dir, outside := t.TempDir(), victim(t)
		sink := newSink(t, dir, SinkOptions{})
		d := &manifest.Entry{Path: "d", Type: sdk.FileDirectory, Mode: 0o777}
		f := &manifest.Entry{Path: "d/f", Type: sdk.FileRegular, Mode: 0o777, Size: 1}
		check(t, errors.Join(sink.Create(d), sink.Create(f)))
		if !cached {
			check(t, sink.Close())
			sink = newSink(t, dir, SinkOptions{})
		}
		check(t, os.Rename(dir+"/d", dir+"/away"))
		check(t, os.Symlink(outside, dir+"/d"))
		if w, err := sink.OpenWrite(f); err == nil {
			_, _ = w.WriteString("overwritten")
			_ = w.Close()
		} else if !errors.Is(err, sdk.ErrChanged) {
			t.Error(err)
		}
		_ = sink.Create(&manifest.Entry{Path: "d/new", Type: sdk.FileRegular})
		_ = sink.finish(f)
		_ = sink.finish(d)
		check(t, sink.Close())
		content, err := os.ReadFile(outside + "/f")
		check(t, err)
		info, err := os.Stat(outside + "/f")
		check(t, err)
		names, err := os.ReadDir(outside)
		check(t, err)
		if string(content) != "secret" || info.Mode() != 0o600 || len(names) != 1 {
			t.Errorf("outside: %q, %v, %d names", content, info.Mode(), len(names))
		}
		if info, err := os.Stat(outside); err != nil || info.Mode().Perm() == 0o777 {
			t.Errorf("outside: %v, %v", info.Mode(), err)
		}
	}
}

func TestSinkRefuses(t *testing.T) {
	dir := t.TempDir()
	sink := newSink(t, dir, SinkOptions{})
	defer sink.Close()
	file := sdk.FileRegular
	check(t, sink.Create(&manifest.Entry{Path: "f", Type: file}))
	check(t, sink.Create(&manifest.Entry{Path: "l", Type: sdk.FileSymlink, Link: "f"}))
	for _, c := range []struct {
		e    manifest.Entry
		kind error
	}{
		{manifest.Entry{Path: "none/f", Type: file}, sdk.ErrNotFound},
		{manifest.Entry{Path: "f", Type: sdk.FileDirectory}, sdk.ErrExists},
		{manifest.Entry{Path: "l", Type: sdk.FileSymlink, Link: "g"}, sdk.ErrExists},
		{manifest.Entry{Path: "l", Type: file}, sdk.ErrExists},
		{manifest.Entry{Path: "f/x", Type: file}, sdk.ErrChanged},
		{manifest.Entry{Path: "socket", Type: sdk.FileSocket}, sdk.ErrUnsupported},
		{manifest.Entry{Path: "f", Type: sdk.FileFifo}, sdk.ErrExists},
		{manifest.Entry{Path: "../x", Type: file}, nil},
		{manifest.Entry{Path: "/x", Type: file}, nil},
	} {
		err := sink.Create(&c.e)
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s %s: %v", c.e.Type, c.e.Path, err)
		}
	}
	for _, open := range []func(*manifest.Entry) (*os.File, error){sink.OpenWrite, sink.CreateWrite} {
		if _, err := open(&manifest.Entry{Path: "l", Type: file}); !errors.Is(err, sdk.ErrChanged) {
			t.Errorf("a symlink is written through: %v", err)
		}
	}
	for range 2 {
		f, err := sink.CreateWrite(&manifest.Entry{Path: "g", Type: file})
		check(t, err)
		check(t, f.Close())
	}
}

// TestCheckFinds: each way in which the disk may differ is found and named.
func TestCheckFinds(t *testing.T) {
	treetest.Disk(t)
	src := filepath.Join(t.TempDir(), "top")
	treetest.Make(t, src)
	for what, harm := range map[string]func(top string) error{
		"is missing":            func(top string) error { return os.Remove(top + "/before 1970") },
		"bytes instead of":      func(top string) error { return os.Truncate(top+"/large", 3) },
		"has mode":              func(top string) error { return os.Chmod(top+"/-rf", 0o777) },
		"the modification time": func(top string) error { return os.Chtimes(top+"/-rf", time.Now(), time.Now()) },
		"leads to": func(top string) error {
			return replace(top+"/absolute", func(p string) error { return os.Symlink("x", p) })
		},
		"a directory instead of a": func(top string) error {
			return replace(top+"/set IDs", func(p string) error { return os.Mkdir(p, 0o700) })
		},
		"another value of": func(top string) error { return unix.Setxattr(top+"/attributes", "user.empty", []byte("x"), 0) },
		"is no hard link of": func(top string) error {
			return replace(top+"/link of small", func(p string) error { return exec.Command("cp", "-a", top+"/small", p).Run() })
		},
		"belongs to": func(top string) error { return os.Lchown(top+"/pipe", 1, 1) },
		"is device 1:5": func(top string) error {
			return replace(top+"/whiteout", func(p string) error { return unix.Mknod(p, unix.S_IFCHR, int(unix.Mkdev(1, 5))) })
		},
	} {
		if os.Geteuid() != 0 && (what == "belongs to" || what == "is device 1:5") {
			continue // only root does such harm
		}
		c := copyTree(t, src, SinkOptions{})
		check(t, c.checkErr)
		top := filepath.Join(c.dir, "top")
		var was [2]unix.Stat_t
		dirs := [2]string{top, top + "/d"}
		for i, dir := range dirs {
			check(t, unix.Stat(dir, &was[i]))
		}
		check(t, harm(top))
		for i, dir := range dirs { // the harm itself shows there too
			check(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{{Sec: 1}, was[i].Mtim}, 0))
		}
		sink := newSink(t, c.dir, SinkOptions{})
		_, err := sink.Check(context.Background(), c.spool)
		if !errors.Is(err, sdk.ErrIntegrity) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		check(t, sink.Close())
		treetest.Open(top)
	}
}

// replace puts something else in the place of a file.
func replace(path string, with func(path string) error) error {
	return errors.Join(os.Remove(path), with(path))
}

// TestHostileSource: entries that a source that follows the rules never sends
// do no harm.
func TestHostileSource(t *testing.T) {
	dir, outside := t.TempDir(), victim(t)
	sink := newSink(t, dir, SinkOptions{})
	defer sink.Close()
	check(t, os.Symlink(outside, dir+"/out"))
	file := func(path sdk.Raw) *manifest.Entry { return &manifest.Entry{Path: path, Type: sdk.FileRegular} }
	check(t, errors.Join(sink.Create(file("f")), sink.Create(&manifest.Entry{Path: "d", Type: sdk.FileDirectory})))
	for what, err := range map[string]error{
		"of a file outside":   sink.Link(file("l1"), file("out/f")),
		"outside":             sink.Link(file("out/l2"), file("f")),
		"of what lies above":  sink.Link(file("l3"), file("../f")),
		"of another type":     sink.Link(&manifest.Entry{Path: "l4", Type: sdk.FileFifo}, file("f")),
		"of a link":           sink.Link(file("l5"), &manifest.Entry{Path: "f", Type: sdk.FileRegular, HardLink: 1}),
		"of a directory":      sink.Link(&manifest.Entry{Path: "l6", Type: sdk.FileDirectory}, &manifest.Entry{Path: "d", Type: sdk.FileDirectory}),
		"in place of another": sink.Link(file("d"), file("f")),
	} {
		if err == nil {
			t.Errorf("a hard link %s was made", what)
		}
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
		t.Errorf("outside are %v (%v)", names, err)
	}
	// The attributes of an entry reach nothing behind a symlink.
	evil := file("out")
	evil.Mode, evil.Xattrs = 0o777, []manifest.Xattr{{Name: "user.x", Value: "y"}}
	if err := sink.finish(evil); !errors.Is(err, sdk.ErrChanged) {
		t.Errorf("finished behind a symlink: %v", err)
	}
	var buf [64]byte
	if n, err := unix.Getxattr(outside, "user.x", buf[:]); err == nil {
		t.Errorf("outside has %q", buf[:n])
	}
	// What was made as a device is not opened as a file.
	null := &manifest.Entry{Path: "null", Type: sdk.FileCharDev, Rdev: unix.Mkdev(1, 3)}
	check(t, sink.Create(null))
	if f, err := sink.CreateWrite(file("null")); os.Geteuid() == 0 && !errors.Is(err, sdk.ErrChanged) {
		t.Errorf("a device was opened: %v, %v", f, err)
	}
	// A link to what comes later is refused before anything is made.
	spool := spoolOf(t, *file("a"))
	b, err := manifest.AppendEntry(nil, &manifest.Entry{Path: "b", Type: sdk.FileRegular, HardLink: 2})
	check(t, err)
	if _, _, err := spool.Append(b); err == nil {
		t.Error("a link to itself is taken")
	}
}

// TestWorkers: several goroutines create, write and read at once, with more
// directories than the cache holds.
func TestWorkers(t *testing.T) {
	sink := newSink(t, t.TempDir(), SinkOptions{})
	defer sink.Close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 150 {
				d := sdk.Raw(fmt.Sprintf("w%d-%d", w, i))
				e := &manifest.Entry{Path: d + "/sub/f", Type: sdk.FileRegular}
				err := errors.Join(
					sink.Create(&manifest.Entry{Path: d, Type: sdk.FileDirectory}),
					sink.Create(&manifest.Entry{Path: d + "/sub", Type: sdk.FileDirectory}),
					sink.Create(e))
				f, err2 := sink.OpenWrite(e)
				if err := errors.Join(err, err2); err != nil {
					t.Error(err)
					return
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := openFiles(t); n > maxDirs+100 {
		t.Errorf("%d descriptors are open", n)
	}
}

func TestExtents(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	check(t, err)
	defer f.Close()
	const size = 20 << 20
	check(t, f.Truncate(size))
	for _, off := range []int64{0, 8 << 20} {
		_, err := f.WriteAt(make([]byte, 1<<20), off)
		check(t, err)
	}
	for _, size := range []int64{size, 9 << 20, 5, 0} {
		end := int64(0)
		holes := 0
		check(t, Extents(f, size, func(off, n int64, hole bool) error {
			if off != end || n <= 0 {
				return fmt.Errorf("run at %d of %d bytes after %d", off, n, end)
			}
			if hole {
				holes++
			}
			end += n
			return nil
		}))
		if end != size {
			t.Errorf("%d of %d bytes", end, size)
		}
		if size == 20<<20 && holes != 2 {
			t.Errorf("%d holes", holes)
		}
	}
}

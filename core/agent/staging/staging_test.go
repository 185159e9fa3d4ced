package staging

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/tree/treetest"
	"github.com/transferpy/transferpy/sdk"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func specFor(dir string, publish ...sdk.Raw) Spec {
	return Spec{Transfer: "t1", Member: "target-1", Dest: sdk.Destination{Dir: sdk.Raw(dir), Publish: publish}}
}

func create(t testing.TB, spec Spec) *Staging {
	t.Helper()
	s, err := Create(spec)
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// put makes files below data; a name that ends in a slash is a directory.
func put(t testing.TB, s *Staging, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(s.Path(), name)
		if strings.HasSuffix(name, "/") {
			check(t, os.MkdirAll(path, 0o755))
			continue
		}
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, []byte("content of "+name), 0o600))
	}
}

// holds checks what a directory holds, hidden names included.
func holds(t testing.TB, dir string, want ...string) {
	t.Helper()
	var got []string
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q instead of %q", dir, got, want)
	}
}

func noRun(context.Context, sdk.Command) sdk.Result { panic("no command is to be run") }

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o751|os.ModeSetgid))
	check(t, os.WriteFile(dir+"/other", nil, 0o600))
	before, err := os.Stat(dir)
	check(t, err)
	s := create(t, specFor(dir, "b", "a"))
	put(t, s, "a/x/y", "b")
	if info, err := os.Stat(filepath.Dir(s.Path())); err != nil || info.Mode() != 0o700|os.ModeDir {
		t.Errorf("staging directory: %v, %v", info.Mode(), err)
	}
	got, err := s.Publish(context.Background(), noRun)
	check(t, err)
	if want := []sdk.Raw{sdk.Raw(dir + "/b"), sdk.Raw(dir + "/a")}; !slices.Equal(got, want) {
		t.Errorf("published %q", got)
	}
	holds(t, dir, "a", "b", "other")
	holds(t, dir+"/a/x", "y")
	after, err := os.Stat(dir)
	check(t, err)
	if !os.SameFile(before, after) || before.Mode() != after.Mode() {
		t.Errorf("the directory was %v and is %v", before.Mode(), after.Mode())
	}
	if res, err := Settle(context.Background(), specFor(dir, "b", "a"), noRun, false); err != nil || res.Committed || res.Removed {
		t.Errorf("Settle after Publish: %+v, %v", res, err)
	}
	holds(t, dir, "a", "b", "other")
}

func TestPublishAllNames(t *testing.T) {
	dir := t.TempDir()
	s := create(t, specFor(dir))
	put(t, s, "z", "new\nline", "\xff", "-rf/")
	got, err := s.Publish(context.Background(), noRun)
	check(t, err)
	if len(got) != 4 || got[3] != sdk.Raw(dir+"/\xff") {
		t.Errorf("%q", got)
	}
	holds(t, dir, "z", "new\nline", "\xff", "-rf")
}

// TestForeignNameTakesBack: a name that is taken while data flows takes back
// what was published before it; nothing foreign is touched.
func TestForeignNameTakesBack(t *testing.T) {
	for _, noFlags := range []bool{false, true} {
		for _, foreignDir := range []bool{false, true} {
			dir := t.TempDir()
			s := create(t, specFor(dir, "a", "b", "c", "d"))
			s.noFlags = noFlags
			put(t, s, "a/x", "b", "c/x", "d")
			if foreignDir {
				check(t, os.Mkdir(dir+"/c", 0o755))
			} else {
				check(t, os.WriteFile(dir+"/c", []byte("foreign"), 0o644))
			}
			_, err := s.Publish(context.Background(), noRun)
			if !errors.Is(err, sdk.ErrExists) || !strings.Contains(err.Error(), dir+"/c") {
				t.Errorf("%v", err)
			}
			holds(t, dir, "c", ".transferpy-t1-target-1")
			holds(t, s.Path(), "a", "b", "c", "d")
			// It can be tried again.
			check(t, os.RemoveAll(dir+"/c"))
			_, err = s.Publish(context.Background(), noRun)
			check(t, err)
			holds(t, dir, "a", "b", "c", "d")
			holds(t, dir+"/c", "x")
		}
	}
}

// TestWithoutRenameFlags: the same promises by link and by mkdir and rename.
func TestWithoutRenameFlags(t *testing.T) {
	dir := t.TempDir()
	s := create(t, specFor(dir))
	s.noFlags = true
	put(t, s, "d/x", "f")
	check(t, os.Symlink("nowhere", s.Path()+"/l"))
	check(t, os.Chmod(s.Path()+"/d", 0o555))
	_, err := s.Publish(context.Background(), noRun)
	check(t, err)
	holds(t, dir, "d", "f", "l")
	holds(t, dir+"/d", "x")
	if link, err := os.Readlink(dir + "/l"); link != "nowhere" {
		t.Error(link, err)
	}
	if info, err := os.Stat(dir + "/d"); err != nil || info.Mode().Perm() != 0o555 {
		t.Error(info.Mode(), err)
	}
	check(t, os.Chmod(dir+"/d", 0o755))
	treetest.AsNobody(t)
}

// TestClosedDirectory: a directory that its own mode closes is published
// with that mode and its modification time, also by who is not root.
func TestClosedDirectory(t *testing.T) {
	for _, mode := range []os.FileMode{0o555, 0, 0o755 | os.ModeSticky} {
		dir := t.TempDir()
		s := create(t, specFor(dir, "d"))
		put(t, s, "d/sub/f")
		when := time.Unix(1_000_000_000, 123456789)
		check(t, os.Chtimes(s.Path()+"/d", when, when))
		check(t, os.Chmod(s.Path()+"/d", mode))
		_, err := s.Publish(context.Background(), noRun)
		check(t, err)
		info, err := os.Stat(dir + "/d")
		check(t, err)
		if info.Mode() != mode|os.ModeDir || !info.ModTime().Equal(when) {
			t.Errorf("mode %v and time %v instead of %v and %v", info.Mode(), info.ModTime(), mode, when)
		}
		check(t, os.Chmod(dir+"/d", 0o755))
	}
	treetest.AsNobody(t)
}

// TestClosedDirectoryTakenBack: what is taken back has its mode again too.
func TestClosedDirectoryTakenBack(t *testing.T) {
	dir := t.TempDir()
	s := create(t, specFor(dir, "d", "e"))
	put(t, s, "d/f", "e")
	check(t, os.Chmod(s.Path()+"/d", 0o555))
	check(t, os.WriteFile(dir+"/e", nil, 0o600))
	if _, err := s.Publish(context.Background(), noRun); !errors.Is(err, sdk.ErrExists) {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.Path() + "/d"); err != nil || info.Mode().Perm() != 0o555 {
		t.Error(info, err)
	}
	check(t, s.Close())
	_, err := Settle(context.Background(), s.spec, noRun, false)
	check(t, err)
	holds(t, dir, "e")
	treetest.AsNobody(t)
}

func TestMustEmpty(t *testing.T) {
	dir := t.TempDir()
	spec := specFor(dir)
	spec.Dest.MustEmpty = true
	check(t, os.WriteFile(dir+"/there", nil, 0o600))
	if _, err := Create(spec); !errors.Is(err, sdk.ErrExists) || !strings.Contains(err.Error(), "there") {
		t.Errorf("%v", err)
	}
	holds(t, dir, "there")
	check(t, os.Remove(dir+"/there"))
	if os.Geteuid() == 0 {
		check(t, os.Mkdir(dir+"/lost+found", 0o700))
	}
	s := create(t, spec)
	put(t, s, "f")
	check(t, os.WriteFile(dir+"/late", nil, 0o600))
	if _, err := s.Publish(context.Background(), noRun); !errors.Is(err, sdk.ErrExists) {
		t.Errorf("%v", err)
	}
	check(t, os.Remove(dir+"/late"))
	_, err := s.Publish(context.Background(), noRun)
	check(t, err)
	if _, err := os.Stat(dir + "/f"); err != nil {
		t.Error(err)
	}
}

// TestCollisions: a second transfer or member into the same place is refused
// with the name of the first while it lives, and only then.
func TestCollisions(t *testing.T) {
	dir := t.TempDir()
	first := create(t, specFor(dir, "a", "b"))
	other := func(transfer, member string, publish ...sdk.Raw) Spec {
		s := specFor(dir, publish...)
		s.Transfer, s.Member = transfer, member
		return s
	}
	for _, spec := range []Spec{other("t2", "target-1", "b"), other("t1", "target-2", "c", "a")} {
		if _, err := Create(spec); !errors.Is(err, sdk.ErrExists) || !strings.Contains(err.Error(), "transfer t1 (target-1)") {
			t.Errorf("%v", err)
		}
	}
	if _, err := Create(specFor(dir, "x")); !errors.Is(err, sdk.ErrExists) || !strings.Contains(err.Error(), "cleanup t1") {
		t.Errorf("the same member twice: %v", err)
	}
	second := create(t, other("t1", "target-2", "c"))
	holds(t, dir, ".transferpy-t1-target-1", ".transferpy-t1-target-2")
	check(t, first.Close())
	third := create(t, other("t3", "target-1", "a"))
	check(t, errors.Join(second.Close(), third.Close()))
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(dir+"/f", nil, 0o600))
	check(t, os.Symlink("nowhere", dir+"/dangling"))
	for what, c := range map[string]struct {
		spec Spec
		kind error
	}{
		"missing":   {specFor(dir+"/none", "a"), sdk.ErrNotFound},
		"a file":    {specFor(dir+"/f", "a"), sdk.ErrNotFound},
		"taken":     {specFor(dir, "f"), sdk.ErrExists},
		"a symlink": {specFor(dir, "dangling"), sdk.ErrExists},
		"relative":  {specFor("x", "a"), sdk.ErrConfig},
		"up":        {specFor(dir, ".."), sdk.ErrConfig},
		"a path":    {specFor(dir, "a/b"), sdk.ErrConfig},
		"twice":     {specFor(dir, "a", "a"), sdk.ErrConfig},
		"ours":      {specFor(dir, ".transferpy-x"), sdk.ErrConfig},
		"member":    {Spec{Transfer: "t", Member: "../x", Dest: sdk.Destination{Dir: sdk.Raw(dir)}}, sdk.ErrConfig},
		"transfer":  {Spec{Transfer: "", Member: "x", Dest: sdk.Destination{Dir: sdk.Raw(dir)}}, sdk.ErrConfig},
	} {
		if _, err := Create(c.spec); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	holds(t, dir, "f", "dangling")
}

// TestNoRight: a directory that may not be written says so, and nothing is
// left.
func TestNoRight(t *testing.T) {
	if !treetest.AsNobody(t) {
		return
	}
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o555))
	if _, err := Create(specFor(dir, "a")); !errors.Is(err, sdk.ErrPermission) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
	check(t, os.Chmod(dir, 0o755))
	holds(t, dir)
}

// TestMountPoint: the target directory is a mount point with a default ACL,
// and keeps both; what is published has no ACL.
func TestMountPoint(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0750"); err != nil {
		t.Skipf("tmpfs cannot be mounted here: %v", err)
	}
	defer func() { check(t, unix.Unmount(dir, 0)) }()
	check(t, os.Chown(dir, 1, 1))
	acl := exec.Command("setfacl", "-d", "-m", "u:1:rwx", dir).Run() == nil
	before, err := os.Stat(dir)
	check(t, err)
	s := create(t, specFor(dir, "f", "d"))
	put(t, s, "f", "d/x")
	_, err = s.Publish(context.Background(), noRun)
	check(t, err)
	after, err := os.Stat(dir)
	check(t, err)
	if !os.SameFile(before, after) || before.Mode() != after.Mode() || after.Sys().(*syscall.Stat_t).Uid != 1 {
		t.Errorf("was %v, is %v", before, after)
	}
	if !acl {
		t.Log("no ACLs on this tmpfs")
		return
	}
	buf := make([]byte, 1024)
	if n, err := unix.Getxattr(dir, "system.posix_acl_default", buf); err != nil || n == 0 {
		t.Errorf("the directory's ACL is gone: %v", err)
	}
	if n, err := unix.Getxattr(dir+"/d", "system.posix_acl_default", buf); err == nil {
		t.Errorf("an ACL of %d bytes has come over what was published", n)
	}
}

func TestRemoveAll(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	check(t, os.WriteFile(outside+"/kept", nil, 0o600))
	check(t, os.MkdirAll(dir+"/top/a/b", 0o755))
	for i := range 3000 {
		check(t, os.WriteFile(dir+"/top/a/"+strings.Repeat("x", i%200)+string(rune('a'+i%26))+time.Duration(i).String(), nil, 0))
	}
	check(t, os.Symlink(outside, dir+"/top/link"))
	check(t, os.Mkdir(dir+"/top/closed", 0o755))
	check(t, os.WriteFile(dir+"/top/closed/f", nil, 0))
	check(t, os.Chmod(dir+"/top/closed", 0))
	check(t, os.Chmod(dir+"/top/a", 0o555))
	// Deeper than PATH_MAX.
	fd, err := unix.Open(dir+"/top", unix.O_DIRECTORY, 0)
	check(t, err)
	for range 200 {
		name := strings.Repeat("d", 100)
		check(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		check(t, err)
		check(t, unix.Close(fd))
		fd = next
	}
	check(t, unix.Close(fd))
	d, err := os.Open(dir)
	check(t, err)
	defer d.Close()
	check(t, RemoveAll(d, "top"))
	check(t, RemoveAll(d, "top"))
	holds(t, dir)
	holds(t, outside, "kept")
	treetest.AsNobody(t)
}

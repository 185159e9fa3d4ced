package treetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk has the test's directories lie on a file system that keeps everything:
// the one below TMPDIR if it does, else, for root, an ext4 on a loop device;
// else the test is skipped. Call it before t.TempDir.
func Disk(t testing.TB) {
	t.Helper()
	why := keeps(t)
	if why == "" {
		return
	}
	if os.Geteuid() != 0 {
		t.Skipf("the file system below %s does not keep all of a file (%s), and only root can mount another", os.TempDir(), why)
	}
	t.Setenv("TMPDIR", Mount(t, "64M"))
	if why := keeps(t); why != "" {
		t.Skipf("not even an ext4 of our own keeps all of a file: %s", why)
	}
}

// keeps tells what the file system below TMPDIR does not keep.
func keeps(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "treetest")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	values := map[string]string{"user.x": "y", "system.posix_acl_access": ACL(7, 4, 5, 7, 0)}
	if os.Geteuid() == 0 {
		values["trusted.x"] = "y"
	}
	for name, value := range values {
		if err := unix.Setxattr(dir, name, []byte(value), 0); err != nil {
			return name + ": " + err.Error()
		}
	}
	hole := filepath.Join(dir, "hole")
	if err := os.WriteFile(hole, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := os.Truncate(hole, 1<<20); err != nil || unix.Stat(hole, &st) != nil || st.Blocks != 0 {
		return "holes"
	}
	past := []unix.Timespec{{Sec: 1}, {Sec: 9_999_999_999, Nsec: 999_999_999}}
	if err := unix.UtimesNano(hole, past); err != nil || unix.Stat(hole, &st) != nil || st.Mtim != past[1] {
		return "times after 2106, or nanoseconds"
	}
	return ""
}

// Mount makes a file system of that size on a loop device, by mkfs.ext4 with
// options, and returns where it is mounted; the test's end takes it away. The
// test is skipped where that cannot be done.
func Mount(t testing.TB, size string, options ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mounted")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"truncate", "-s", size, image},
		append(append([]string{"mkfs.ext4", "-q", "-F"}, options...), image),
		{"mount", "-o", "loop", image, at},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no file system of our own: %s: %v %s", argv[0], err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return at
}

// MountRAM mounts a file system that keeps neither extended attributes nor
// ACLs, as Mount does.
func MountRAM(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts file systems")
	}
	at := t.TempDir()
	if out, err := exec.Command("mount", "-t", "ramfs", "none", at).CombinedOutput(); err != nil {
		t.Skipf("no ramfs: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return at
}

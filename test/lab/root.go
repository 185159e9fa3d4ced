package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// mount is one mount of a host's root file system.
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// buildRoot makes a root file system on c.Root and moves into it: a tmpfs,
// with the machine's /usr bound read-only and a copy of its /etc, so that
// nothing which runs here can change the machine.
func buildRoot(c initConfig) error {
	first := []mount{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE, ""},
		{"lab-" + c.Name, c.Root, "tmpfs", 0, "mode=755"},
	}
	if err := mountAll("", first); err != nil {
		return err
	}
	if err := skeleton(c.Root); err != nil {
		return err
	}
	if err := bindSystem(c.Root); err != nil {
		return err
	}
	if err := mountAll(c.Root, mounts(c)); err != nil {
		return err
	}
	for _, name := range []string{"bin", "lib", "sbin"} {
		if err := os.Mkdir(filepath.Join(c.Root, "usr/local", name), 0o755); err != nil {
			return err
		}
	}
	if err := writeEtc(c); err != nil {
		return err
	}
	return moveInto(c.Root)
}

// skeleton makes the directories that a Debian host has.
func skeleton(root string) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{"dev", 0o755}, {"etc", 0o755}, {"home", 0o755}, {"mnt", 0o755}, {"opt/transferpy/bin", 0o755},
		{"proc", 0o755}, {"root", 0o700}, {"run", 0o755}, {"srv", 0o755}, {"sys", 0o755}, {"old", 0o700},
		{"tmp", 0o777 | os.ModeSticky}, {"usr", 0o755}, {"var/tmp", 0o777 | os.ModeSticky},
		{"var/lib", 0o755}, {"var/cache", 0o755}, {"var/log", 0o755}, {"var/spool", 0o755}, {"var/mail", 0o755},
	} {
		path := filepath.Join(root, d.path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, d.mode); err != nil { // mkdir heeds the umask
			return err
		}
	}
	return os.Symlink("../run", filepath.Join(root, "var/run"))
}

// bindSystem shows the machine's programs and libraries, read-only.
func bindSystem(root string) error {
	for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		path := filepath.Join("/", name)
		info, err := os.Lstat(path)
		switch {
		case os.IsNotExist(err):
			continue
		case err != nil:
			return err
		case info.Mode()&os.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
		if err := mountAll(root, readOnly(path, path)); err != nil {
			return err
		}
	}
	return nil
}

// readOnly binds a directory; a bind takes its flags only when mounted again.
func readOnly(source, target string) []mount {
	return []mount{
		{source, target, "", syscall.MS_BIND, ""},
		{"", target, "", syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY, ""},
	}
}

// mounts are the file systems of a host below its root.
func mounts(c initConfig) []mount {
	list := []mount{
		{"proc", "/proc", "proc", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC, ""},
		{"/dev", "/dev", "", syscall.MS_BIND, ""},
		{"devpts", "/dev/pts", "devpts", syscall.MS_NOSUID | syscall.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"},
		{"shm", "/dev/shm", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=1777"},
		// What the machine's owner put below /usr/local is no part of a host.
		{"local", "/usr/local", "tmpfs", 0, "mode=755"},
		{"tmp", "/tmp", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=1777"},
		{"run", "/run", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV, "mode=755"},
		{"home", "/home", "tmpfs", syscall.MS_NODEV, "mode=755"},
	}
	if c.Disk != "" {
		list = append(list, mount{c.Disk, "/srv", "", syscall.MS_BIND, ""})
	} else {
		data := "mode=755"
		if c.SrvSize != "" {
			data += ",size=" + c.SrvSize
		}
		list = append(list, mount{"srv", "/srv", "tmpfs", 0, data})
	}
	if c.Bin != "" {
		list = append(list, readOnly(c.Bin, BinDir)...)
	}
	return list
}

func mountAll(root string, list []mount) error {
	for _, m := range list {
		target := root + m.target
		if root == "" {
			target = m.target
		}
		if err := syscall.Mount(m.source, target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s %s on %s (%s): %w", m.kind, m.source, target, m.data, err)
		}
	}
	return nil
}

// moveInto makes root the root of this mount namespace.
func moveInto(root string) error {
	if err := syscall.PivotRoot(root, filepath.Join(root, "old")); err != nil {
		return fmt.Errorf("pivot_root to %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Unmount("/old", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's root: %w", err)
	}
	return os.Remove("/old")
}

// copyEtc copies the machine's /etc; what is the host's own is written after.
func copyEtc(root string) error {
	out, err := exec.Command("cp", "-a", "/etc/.", filepath.Join(root, "etc")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy /etc: %w: %s", err, out)
	}
	return nil
}

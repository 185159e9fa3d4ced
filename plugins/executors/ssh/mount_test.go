package ssh

import "syscall"

// mount puts a tmpfs of 64 KiB on dir.
func mount(dir string) error { return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k") }

func unmount(dir string) { syscall.Unmount(dir, syscall.MNT_DETACH) }

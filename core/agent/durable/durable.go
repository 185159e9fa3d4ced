// Package durable has the disk keep what a directory's names are.
package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Dir flushes the names in the directory at path: what was made, renamed or
// removed there before survives a crash of the machine (fsync(2)).
func Dir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(Names(dir), dir.Close())
}

// Names is Dir for a directory that is open. Some network file systems keep
// names at once and refuse to be asked (EINVAL); that is no error.
func Names(dir *os.File) error {
	if err := unix.Fsync(int(dir.Fd())); err != nil && !errors.Is(err, unix.EINVAL) {
		return os.NewSyscallError("fsync", err)
	}
	return nil
}

package tree

import (
	"context"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Finish gives all entries their owner, mode and times, in this order, once
// all data is written. A directory gets its own when all below it have
// theirs: from then on its mode may shut out even its owner, and its
// modification time stays. What rights or the file system do not allow is
// left out with a warning. Finish is called once.
func (k *Sink) Finish(ctx context.Context, spool *manifest.Spool) error {
	// Entries come in walk order, so the directories that are not left yet
	// are those on the path to the current entry: their numbers are all
	// that has to be remembered.
	var open []openDirectory
	leave := func(path string) error {
		for len(open) > 0 && !below(path, open[len(open)-1]) {
			e, err := spool.Entry(open[len(open)-1].n)
			if err != nil {
				return err
			}
			if err := k.finish(&e); err != nil {
				return err
			}
			open = open[:len(open)-1]
		}
		return nil
	}
	err := spool.Each(ctx, func(n uint64, e manifest.Entry, _ manifest.Digest) error {
		if err := leave(string(e.Path)); err != nil {
			return err
		}
		if e.Type == sdk.FileDirectory {
			open = append(open, openDirectory{n: n, pathLen: len(e.Path)})
			return nil
		}
		return k.finish(&e)
	})
	if err != nil {
		return err
	}
	return leave("")
}

// openDirectory is a directory on the path to the current entry.
type openDirectory struct {
	n       uint64
	pathLen int
}

// below reports whether path lies below d. In walk order a path that is long
// enough to do so and still has its separator there does: whatever stands
// beside d closes d first, and a name as long as d's own ends there.
func below(path string, d openDirectory) bool {
	return len(path) > d.pathLen && path[d.pathLen] == '/'
}

// finish gives one entry its attributes.
func (k *Sink) finish(e *manifest.Entry) error {
	a := k.attributesOf(e)
	for _, what := range a.missing {
		k.notes.add(what, e.Path)
	}
	err := k.in(e.Path, func(parent int, name string) error {
		if e.Type == sdk.FileSymlink {
			return k.finishLink(parent, name, e, &a)
		}
		return k.finishFile(parent, name, e, &a)
	})
	return diskerr.New("cannot set owner, mode and times of", k.full(e.Path), err)
}

func (k *Sink) finishLink(parent int, name string, e *manifest.Entry, a *attributes) error {
	if a.uid != keep || a.gid != keep {
		err := unix.Fchownat(parent, name, a.uid, a.gid, unix.AT_SYMLINK_NOFOLLOW)
		if err := k.allow(err, noteNoOwners, e); err != nil {
			return err
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: e.MTimeSec, Nsec: int64(e.MTimeNsec)}}
	err := unix.UtimesNanoAt(parent, name, times, unix.AT_SYMLINK_NOFOLLOW)
	return k.allow(err, noteSymlinkOwn, e)
}

func (k *Sink) finishFile(parent int, name string, e *manifest.Entry, a *attributes) error {
	fd, err := openSame(parent, name, e.Type)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if a.uid != keep || a.gid != keep {
		if err := k.allow(unix.Fchown(fd, a.uid, a.gid), noteNoOwners, e); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, a.mode); err != nil && k.can.modes {
		return err
	}
	return setTimes(fd, e.MTimeSec, int64(e.MTimeNsec))
}

// openSame opens what Create made, which is still open to its owner.
func openSame(parent int, name string, t sdk.FileType) (int, error) {
	if t != sdk.FileDirectory {
		return openRegular(parent, name, unix.O_RDONLY)
	}
	return retry(func() (int, error) {
		return unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// allow turns a refusal that no repeat would mend into a warning.
func (k *Sink) allow(err error, note string, e *manifest.Entry) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		k.notes.add(note, e.Path)
		if note == noteNoOwners {
			k.refused.Store(true)
		}
		return nil
	}
	return err
}

// setTimes sets the modification time of an open file and leaves its access
// time. The library has no form of it for descriptors.
func setTimes(fd int, sec, nsec int64) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: nsec}}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

package tree

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// SinkOptions say how entries become files.
type SinkOptions struct {
	// Owner is "name" (also when empty): owners and groups by name, with
	// the number as fallback; "numeric": by number; "USER:GROUP": these for
	// all, each a name or a number.
	Owner string
	// Root says that the agent may give files to others (effective uid 0).
	Root bool
}

// Sink makes entries below a directory. Its methods may be called from
// several goroutines at once, except that an entry's directory must have
// been created before the entry is.
//
// Directories stay closed to others (0700) until Finish gives them their
// attributes, and with them all that is in them; files are open to their owner
// until then, since whoever is not root reads back before their modes may shut
// out the owner too.
type Sink struct {
	fd    int
	where sdk.Raw // for messages
	dirs  *dirs
	opts  SinkOptions
	owner *owner
	can   abilities
	notes notes
	// refused is set when the kernel refused an owner although the file
	// system keeps them: a user namespace that does not map it.
	refused atomic.Bool
	without atomic.Uint32 // kinds of attributes that were refused at least once
	unmade  atomic.Bool   // a fifo or a device node was refused
	devices atomic.Bool   // device nodes were made
	apart   atomic.Bool   // a hard link was refused
	copies  copies
	// noChmodAt is set when the kernel cannot change a mode without
	// following a symlink (before 6.6).
	noChmodAt atomic.Bool
}

// NewSink makes entries below dir, which belongs to this transfer alone. It
// keeps a descriptor of its own; the caller closes dir as it likes, and the
// Sink.
func NewSink(dir *os.File, o SinkOptions) (*Sink, error) {
	fd, err := unix.FcntlInt(dir.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, diskerr.New("cannot open", sdk.Raw(dir.Name()), err)
	}
	k := &Sink{fd: fd, where: sdk.Raw(dir.Name()), opts: o, dirs: newDirs(fd, sdk.Raw(dir.Name())+"/")}
	if k.owner, err = newOwner(o); err == nil {
		k.can, err = probe(fd, o.Root)
	}
	if err != nil {
		unix.Close(fd)
		return nil, diskerr.New("cannot write below", k.where, err)
	}
	return k, nil
}

// full returns an entry's path on this host.
func (k *Sink) full(p sdk.Raw) sdk.Raw { return k.where + "/" + p }

// in runs fn in the directory of an entry.
func (k *Sink) in(p sdk.Raw, fn func(parent int, name string) error) error {
	parentPath, name := split(string(p))
	parent, err := k.dirs.acquire(parentPath)
	if err != nil {
		return err
	}
	defer k.dirs.release(parent)
	return fn(parent.fd, name)
}

// Create makes an entry: a directory, an empty regular file, a symlink, a
// fifo or a device node; a refused fifo or device node is a warning. An entry
// that is there already is fine if it is of the same type (and a symlink to
// the same target), since frames may come twice.
func (k *Sink) Create(e *manifest.Entry) error {
	if err := manifest.ValidatePath(e.Path); err != nil {
		return err
	}
	err := k.in(e.Path, func(parent int, name string) error {
		err := k.create(parent, name, e)
		if errors.Is(err, unix.EEXIST) && there(parent, name, e) {
			return nil
		}
		return err
	})
	return diskerr.New("cannot create", k.full(e.Path), err)
}

func (k *Sink) create(parent int, name string, e *manifest.Entry) error {
	switch e.Type {
	case sdk.FileDirectory:
		return unix.Mkdirat(parent, name, 0o700)
	case sdk.FileSymlink:
		return unix.Symlinkat(string(e.Link), parent, name)
	case sdk.FileRegular:
		fd, err := createFile(parent, name, e.Mode)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	case sdk.FileFifo, sdk.FileCharDev, sdk.FileBlockDev:
		return k.makeSpecial(parent, name, e)
	}
	return unix.EOPNOTSUPP
}

// createFile makes a regular file, which nothing of that name may precede. It
// has the permissions that it is to have, so that Finish rarely has to change
// them; the closed directories above keep others out.
func createFile(parent int, name string, mode uint32) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(parent, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o777|0o600)
	})
}

// CreateNew makes the regular file of an entry, of whose name there must be
// nothing yet (KindExists), and opens it for writing and for reading. The caller
// closes it.
func (k *Sink) CreateNew(e *manifest.Entry) (*os.File, error) {
	if err := manifest.ValidatePath(e.Path); err != nil {
		return nil, err
	}
	var fd int
	err := k.in(e.Path, func(parent int, name string) error {
		var err error
		fd, err = createFile(parent, name, e.Mode)
		return err
	})
	if err != nil {
		return nil, diskerr.New("cannot create", k.full(e.Path), err)
	}
	return os.NewFile(uintptr(fd), string(k.full(e.Path))), nil
}

// Mkdir makes the directory of an entry, and reports false where one is there
// already.
func (k *Sink) Mkdir(e *manifest.Entry) (made bool, err error) {
	if err := manifest.ValidatePath(e.Path); err != nil {
		return false, err
	}
	err = k.in(e.Path, func(parent int, name string) error {
		err := unix.Mkdirat(parent, name, 0o700)
		made = err == nil
		if errors.Is(err, unix.EEXIST) && there(parent, name, e) {
			return nil
		}
		return err
	})
	return made, diskerr.New("cannot create", k.full(e.Path), err)
}

// CreateWrite makes the regular file of an entry and opens it for writing, and
// for reading what was written: as Create and OpenWrite, for little more than the price of one, which counts
// where files are small. The caller closes it.
func (k *Sink) CreateWrite(e *manifest.Entry) (*os.File, error) {
	f, err := k.CreateNew(e)
	if errors.Is(err, sdk.ErrExists) {
		return k.OpenWrite(e)
	}
	return f, err
}

// there reports whether name is what create would have made of e.
func there(parent int, name string, e *manifest.Entry) bool {
	var st unix.Stat_t
	if unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || TypeOf(st.Mode) != e.Type {
		return false
	}
	switch e.Type {
	case sdk.FileSymlink:
	case sdk.FileCharDev, sdk.FileBlockDev:
		return st.Rdev == e.Rdev
	default:
		return true
	}
	link := make([]byte, manifest.MaxLinkLen+1)
	n, err := unix.Readlinkat(parent, name, link)
	return err == nil && string(link[:n]) == string(e.Link)
}

// OpenWrite opens the regular file that Create made for an entry, for
// writing anywhere and for reading that. The caller closes it.
func (k *Sink) OpenWrite(e *manifest.Entry) (*os.File, error) {
	return k.open(e, unix.O_RDWR, "cannot write")
}

// OpenRead opens the regular file that Create made for an entry, for
// reading. The caller closes it.
func (k *Sink) OpenRead(e *manifest.Entry) (*os.File, error) {
	return k.open(e, unix.O_RDONLY, "cannot read")
}

// OpenDirect is OpenRead past the page cache (O_DIRECT, open(2)): offset,
// length and memory of a read must be aligned. Many file systems cannot do it
// (EINVAL).
func (k *Sink) OpenDirect(e *manifest.Entry) (*os.File, error) {
	return k.open(e, unix.O_RDONLY|unix.O_DIRECT, "cannot read")
}

func (k *Sink) open(e *manifest.Entry, flags int, op string) (*os.File, error) {
	var fd int
	err := k.in(e.Path, func(parent int, name string) error {
		var err error
		if k.devices.Load() { // to open one may do something already
			if err := isRegular(parent, name); err != nil {
				return err
			}
		}
		fd, err = openRegular(parent, name, flags)
		return err
	})
	if err != nil {
		return nil, diskerr.New(op, k.full(e.Path), err)
	}
	return os.NewFile(uintptr(fd), string(k.full(e.Path))), nil
}

// openRegular opens a regular file and nothing else.
func openRegular(parent int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(parent, name, flags, 0) })
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && TypeOf(st.Mode) != sdk.FileRegular {
		err = unix.ELOOP // says: something else stands there
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Warnings returns what Finish could not preserve, each with a count and one
// example (an entry's path).
func (k *Sink) Warnings() []control.Warning { return k.notes.list() }

// Close closes the sink. No other method is in use or used any more.
func (k *Sink) Close() error {
	k.dirs.close()
	return unix.Close(k.fd)
}

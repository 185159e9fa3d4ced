package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fuseFile is a file system of one regular file, which is its root: what is
// read and written there comes to this process and never stays in a page cache.
// It speaks as much of the kernel's protocol (linux/fuse.h) as a loop device
// needs.
type fuseFile struct {
	fd    int // of /dev/fuse
	size  int64
	read  func(b []byte, at int64) error // any error is the disk's own, EIO
	write func(b []byte, at int64)
}

// mountFuse mounts such a file over path, an existing one.
func mountFuse(path string, f fuseFile) (*fuseFile, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	f.fd = fd
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0", fd, unix.S_IFREG|0o600)
	if err := unix.Mount("bad-disk", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mount a file of FUSE on %s: %w", path, err)
	}
	return &f, nil
}

// Requests of the kernel, and the sizes that the protocol has fixed.
const (
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseWrite   = 16
	fuseRelease = 18
	fuseFsync   = 20
	fuseFlush   = 25
	fuseInit    = 26
	fuseForget  = 2
	fuseForgets = 42 // several at once

	fuseInHeader  = 40
	fuseOutHeader = 16
	fuseIOHeader  = 40       // of a read or write
	fuseMaxWrite  = 32 << 12 // as many pages as the kernel gives without being asked for more
)

// serve answers until the file is unmounted.
func (f *fuseFile) serve() error {
	in := make([]byte, fuseMaxWrite+4096)
	for {
		n, err := unix.Read(f.fd, in)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue // interrupted, or the request was taken back
		case errors.Is(err, unix.ENODEV):
			return nil
		case err != nil:
			return fmt.Errorf("read /dev/fuse: %w", err)
		case n < fuseInHeader:
			return fmt.Errorf("a request of %d bytes came from /dev/fuse", n)
		}
		opcode := binary.NativeEndian.Uint32(in[4:])
		if opcode == fuseForget || opcode == fuseForgets {
			continue // these want no answer
		}
		answer, errno := f.answer(opcode, in[fuseInHeader:n])
		out := make([]byte, fuseOutHeader, fuseOutHeader+len(answer))
		out = append(out, answer...)
		binary.NativeEndian.PutUint32(out, uint32(len(out)))
		binary.NativeEndian.PutUint32(out[4:], uint32(-int32(errno)))
		copy(out[8:16], in[8:16]) // which request this answers
		if _, err := unix.Write(f.fd, out); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("write /dev/fuse: %w", err)
		}
	}
}

// answer is what follows the header of the answer to a request.
func (f *fuseFile) answer(opcode uint32, in []byte) ([]byte, unix.Errno) {
	order := binary.NativeEndian
	switch opcode {
	case fuseInit:
		out := make([]byte, 64)
		order.PutUint32(out, 7)           // major version
		order.PutUint32(out[4:], 31)      // minor version
		order.PutUint32(out[12:], 1|1<<5) // asynchronous reads, writes of more than a page
		order.PutUint16(out[16:], 16)     // requests under way
		order.PutUint16(out[18:], 12)     // of which that is many
		order.PutUint32(out[20:], fuseMaxWrite)
		order.PutUint32(out[24:], 1) // granularity of times
		return out, 0
	case fuseGetattr:
		out := make([]byte, 104)
		attr := out[16:]
		order.PutUint64(attr, 1)                             // inode
		order.PutUint64(attr[8:], uint64(f.size))            // size
		order.PutUint64(attr[16:], uint64(f.size)/512)       // blocks
		order.PutUint32(attr[60:], unix.S_IFREG|0o600)       // mode
		order.PutUint32(attr[64:], 1)                        // links
		order.PutUint32(attr[80:], uint32(os.Getpagesize())) // block size
		return out, 0
	case fuseOpen:
		out := make([]byte, 16)
		order.PutUint32(out[8:], 1) // no page cache: every request comes here
		return out, 0
	case fuseRead, fuseWrite:
		if len(in) < fuseIOHeader {
			return nil, unix.EINVAL
		}
		at, size := int64(order.Uint64(in[8:])), int64(order.Uint32(in[16:]))
		if at < 0 || at > f.size || size > fuseMaxWrite || opcode == fuseWrite && size > int64(len(in)-fuseIOHeader) {
			return nil, unix.EINVAL
		}
		size = min(size, f.size-at)
		if opcode == fuseRead {
			out := make([]byte, size)
			if f.read(out, at) != nil {
				return nil, unix.EIO
			}
			return out, 0
		}
		f.write(in[fuseIOHeader:fuseIOHeader+size], at)
		out := make([]byte, 8)
		order.PutUint32(out, uint32(size))
		return out, 0
	case fuseRelease, fuseFsync, fuseFlush:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

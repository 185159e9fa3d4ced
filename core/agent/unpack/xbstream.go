package unpack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// The format of xbstream, as MariaDB's mbstream writes it. All numbers are
// little-endian:
//
//	magic "XBSTCK01", flags (1 byte), type (1), length of the path (4), path
//	and for type P: length (8), offset in the file (8), CRC32 (4), payload
//
// A file is any number of P in ascending order of offsets and then E; chunks of
// several files interleave. The stream has no end of its own.
const (
	xbMagic   = "XBSTCK01"
	xbPayload = 'P'
	xbEnd     = 'E'

	// xbIgnorable may be ignored by a reader that does not know the type; there
	// are none. xbRewrite marks all chunks of a file that replaces one of that
	// name which has ended before (a table that was made anew meanwhile).
	xbIgnorable = 1
	xbRewrite   = 2

	maxXbName  = 4095
	maxXbFiles = 256 // open at once: as many threads make the stream
)

// Modes of what a stream holds, which says nothing of them: as mbstream makes
// it.
const (
	xbFileMode = 0o640
	xbDirMode  = 0o700
)

// chunk is the head of a chunk.
type chunk struct {
	flags  byte
	kind   byte
	path   string
	length uint64 // of the payload that follows
	offset uint64
	sum    uint32
}

// readChunk reads the head of a chunk. Only at the end of the stream, between
// two chunks, it returns io.EOF.
func readChunk(r io.Reader) (chunk, error) {
	var c chunk
	head := make([]byte, len(xbMagic)+6)
	if n, err := io.ReadFull(r, head); err == io.EOF && n == 0 {
		return c, io.EOF
	} else if err != nil {
		return c, cut(err)
	}
	if string(head[:len(xbMagic)]) != xbMagic {
		return c, damaged("what arrived is no xbstream: a chunk begins with %q", head[:len(xbMagic)])
	}
	c.flags, c.kind = head[len(xbMagic)], head[len(xbMagic)+1]
	length := binary.LittleEndian.Uint32(head[len(xbMagic)+2:])
	if length == 0 || length > maxXbName {
		return c, damaged("a chunk of the xbstream has a name of %d bytes", length)
	}
	name := make([]byte, length)
	if _, err := io.ReadFull(r, name); err != nil {
		return c, cut(err)
	}
	c.path = string(name)
	if c.flags&^(xbIgnorable|xbRewrite) != 0 || c.kind != xbPayload && c.kind != xbEnd {
		return c, refused(sdk.Raw(c.path), "a chunk of type %q with flags %#x is not known", c.kind, c.flags)
	}
	if c.kind == xbEnd {
		return c, nil
	}
	var rest [20]byte
	if _, err := io.ReadFull(r, rest[:]); err != nil {
		return c, cut(err)
	}
	c.length, c.offset = binary.LittleEndian.Uint64(rest[:]), binary.LittleEndian.Uint64(rest[8:])
	c.sum = binary.LittleEndian.Uint32(rest[16:])
	if c.length > math.MaxInt64 || c.offset > math.MaxInt64-c.length {
		return c, damaged("a chunk of %s claims %d bytes at %d", sdk.Raw(c.path).Display(), c.length, c.offset)
	}
	return c, nil
}

// cut says that a stream ended where it must not; any other error stays.
func cut(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("the stream ends within a chunk: it was cut")
	}
	return err
}

// xbstream is a stream that is being unpacked.
type xbstream struct {
	u    *Unpacker
	in   *bufio.Reader
	open map[string]*output
	now  time.Time
	last string // the file whose end was the last chunk; empty: it was another chunk
}

// Xbstream unpacks a stream that mariadb-backup or mbstream made. It succeeds
// only if every chunk's CRC32 held, every file has ended, and the end of the
// file that is the proof was the last of all.
func (u *Unpacker) Xbstream(ctx context.Context, r io.Reader) error {
	x := &xbstream{u: u, in: bufio.NewReaderSize(r, bufferLen), open: make(map[string]*output), now: time.Now()}
	defer func() {
		for _, o := range x.open {
			o.abandon()
		}
	}()
	for {
		c, err := readChunk(x.in)
		if err == io.EOF {
			return x.end()
		}
		if err == nil {
			err = x.take(ctx, &c)
		}
		if err != nil {
			return err
		}
	}
}

// end is what must hold when the stream has ended.
func (x *xbstream) end() error {
	for path := range x.open {
		return damaged("the stream ends before the end of %s: it was cut", sdk.Raw(path).Display())
	}
	if x.u.proof.asked() && !x.u.proof.wants(x.last) && x.u.proof.found {
		return damaged("the stream's last chunk is not the end of %s", x.u.proof.names[0])
	}
	return x.u.proof.check()
}

// take unpacks one chunk.
func (x *xbstream) take(ctx context.Context, c *chunk) error {
	path, why := clean(c.path)
	if path == "" {
		if why == "" {
			why = "it has no name"
		}
		return refused(sdk.Raw(c.path), "%s", why)
	}
	o, err := x.output(path, c.flags)
	if err != nil {
		return err
	}
	x.last = ""
	if c.kind == xbEnd {
		delete(x.open, path)
		x.last = path
		return o.end()
	}
	if o.at != int64(c.offset) {
		return damaged("a chunk of %s is for offset %d, but %d bytes of it came", o.entry.Path.Display(), c.offset, o.at)
	}
	return x.payload(ctx, o, c)
}

// output finds the file of a chunk, or makes it by its first.
func (x *xbstream) output(path string, flags byte) (*output, error) {
	if o := x.open[path]; o != nil {
		return o, nil
	}
	if len(x.open) == maxXbFiles {
		return nil, damaged("the stream holds more than %d files at once", maxXbFiles)
	}
	e := manifest.Entry{Path: sdk.Raw(path), Type: sdk.FileRegular, Mode: xbFileMode,
		UID: uint32(unix.Geteuid()), GID: uint32(unix.Getegid()), MTimeSec: x.now.Unix()}
	o, err := x.u.open(e, xbDirMode)
	if err != nil && flags&xbRewrite != 0 {
		o, err = x.rewrite(e, err)
	}
	if err == nil {
		x.open[path] = o
	}
	return o, err
}

// rewrite begins a file anew that has ended before; failed is why it could not
// be made.
func (x *xbstream) rewrite(e manifest.Entry, failed error) (*output, error) {
	f, err := x.u.disk.OpenWrite(&e)
	if err != nil {
		return nil, failed
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, cannotWrite(&e, err)
	}
	x.u.files.Add(-1)
	return x.u.writer(e, f), x.u.ledger.replace(e.Path)
}

// payload writes a chunk's content and holds it against its CRC32.
func (x *xbstream) payload(ctx context.Context, o *output, c *chunk) error {
	sum := uint32(0)
	for left := c.length; left > 0; {
		b := x.u.buf[:min(left, uint64(len(x.u.buf)))]
		if _, err := io.ReadFull(x.in, b); err != nil {
			return cut(err)
		}
		sum = crc32.Update(sum, crc32.IEEETable, b)
		if err := o.write(b); err != nil {
			return err
		}
		x.u.bytes.Add(int64(len(b)))
		left -= uint64(len(b))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if sum != c.sum {
		return damaged("the checksum of a chunk of %s at offset %d does not hold", o.entry.Path.Display(), c.offset)
	}
	return nil
}

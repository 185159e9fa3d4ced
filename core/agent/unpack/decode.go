package unpack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/transferpy/transferpy/sdk"
)

// Formats in which a tar may come.
const (
	formatPlain = "tar"
	formatGzip  = "gzip"
	formatZstd  = "zstd"
)

// maxWindow is the most memory that a zstd stream may ask for: what the zstd
// tool itself accepts unless it is told otherwise.
const maxWindow = 128 << 20

// magics tell formats by their first bytes. What only has a name is not
// unpacked.
var magics = []struct {
	magic, format string
	known         bool
}{
	{"\x1f\x8b", formatGzip, true},
	{"\x28\xb5\x2f\xfd", formatZstd, true},
	{"\xfd7zXZ\x00", "xz", false},
	{"BZh", "bzip2", false},
	{"\x04\x22\x4d\x18", "lz4", false},
	{"PK\x03\x04", "zip", false},
	{"7z\xbc\xaf\x27\x1c", "7z", false},
	{xbMagic, "xbstream", false},
}

// decompress returns the tar in a stream, plain or compressed, as its first
// bytes say. The reader gives io.EOF only when the compressed stream was whole
// and nothing but zeros follows it. close ends what was started.
func decompress(in *bufio.Reader) (tar io.Reader, close func(), err error) {
	head, err := in.Peek(8)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	if len(head) == 0 {
		return nil, nil, damaged("the archive is empty")
	}
	nothing := func() {}
	for _, m := range magics {
		if !bytes.HasPrefix(head, []byte(m.magic)) {
			continue
		}
		switch m.format {
		case formatGzip:
			z, err := newGzip(in)
			return z, nothing, err
		case formatZstd:
			z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, nil, broken(formatZstd, err)
			}
			return &zstdReader{z}, z.Close, nil
		}
		return nil, nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: "the archive is " + m.format + ", which is not unpacked",
			Hint: "make a .tar.gz, .tar.zst or .tar of it"}
	}
	return in, nothing, nil
}

// broken says why a compressed stream cannot be decompressed.
func broken(format string, err error) error {
	var typed *sdk.Error
	switch {
	case err == nil || err == io.EOF:
		return err
	case errors.As(err, &typed):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("the %s stream ends before its end: it was cut", format)
	case errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, gzip.ErrHeader):
		return damaged("something that is not %s follows the compressed data", format)
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrWindowSizeTooSmall):
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: "the zstd stream wants more than 128 MiB of memory to be decompressed", Hint: "compress it without --long=28 or more"}
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return damaged("the checksum of the %s stream does not hold", format)
	case errors.Is(err, context.Canceled):
		return err
	}
	return damaged("the %s stream is corrupted: %v", format, err)
}

type zstdReader struct{ z *zstd.Decoder }

func (z *zstdReader) Read(p []byte) (int, error) {
	n, err := z.z.Read(p)
	return n, broken(formatZstd, err)
}

// gzipReader reads one or more gzip members, and zeros behind the last, as
// tape blocks have them. Anything else there is an error: it may be a member
// whose header is damaged.
type gzipReader struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func newGzip(in *bufio.Reader) (*gzipReader, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, broken(formatGzip, unexpected(err))
	}
	z.Multistream(false)
	return &gzipReader{in, z}, nil
}

// unexpected makes an end within a header what it is.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if err == io.EOF && n == 0 {
			if err = g.next(); err == nil {
				continue
			}
		} else if err == io.EOF {
			err = nil
		}
		return n, broken(formatGzip, err)
	}
}

// next begins the next member; io.EOF if there is none.
func (g *gzipReader) next() error {
	head, err := g.in.Peek(2)
	switch {
	case len(head) == 0:
		return err // io.EOF: all is read
	case head[0] == 0:
		return zeros(g.in, "the compressed data")
	case head[0] != 0x1f || len(head) == 2 && head[1] != 0x8b:
		return gzip.ErrHeader
	}
	if err := g.z.Reset(g.in); err != nil {
		return unexpected(err)
	}
	g.z.Multistream(false)
	return nil
}

// zeros reads to the end, where nothing but zeros may be, and returns io.EOF.
func zeros(in io.Reader, behind string) error {
	b := make([]byte, 32<<10)
	for {
		n, err := in.Read(b)
		if !zero(b[:n]) {
			return damaged("something follows %s: only the first part would be unpacked", behind)
		}
		if err != nil {
			return err
		}
	}
}

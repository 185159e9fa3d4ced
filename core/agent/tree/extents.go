package tree

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// Extents calls fn for each run of data and each hole of the first size
// bytes of f, in order and without gaps. Where the file system knows no
// holes, all is one run of data. It moves f's offset.
func Extents(f *os.File, size int64, fn func(off, length int64, hole bool) error) error {
	return ExtentsIn(f, 0, size, fn)
}

// ExtentsIn is Extents for the bytes from from to size.
func ExtentsIn(f *os.File, from, size int64, fn func(off, length int64, hole bool) error) error {
	seek := func(off int64, whence int) (int64, error) { return unix.Seek(int(f.Fd()), off, whence) }
	for off := from; off < size; {
		data, err := seek(off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			data = size // no data up to the end
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return fn(off, size-off, false)
		case err != nil:
			return diskerr.New("cannot find holes of", sdk.Raw(f.Name()), err)
		}
		data = min(data, size)
		if data > off {
			if err := fn(off, data-off, true); err != nil {
				return err
			}
		}
		if data == size {
			return nil
		}
		hole, err := seek(data, unix.SEEK_HOLE)
		if err != nil || hole <= data {
			hole = size // cut short meanwhile; reading will tell
		}
		hole = min(hole, size)
		if err := fn(data, hole-data, false); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

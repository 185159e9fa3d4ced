// Package lines reads files that are appended to line by line, of which the
// last may be torn and any may be hostile.
package lines

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// ErrLong is for a line that is longer than is allowed.
var ErrLong = errors.New("a line is too long")

// Next returns the next line without its newline. The error is ErrLong for a
// line of more than most bytes with its newline, which is then passed over
// whole; io.EOF where nothing is left; and io.ErrUnexpectedEOF, with what there
// is, for a last line without a newline, as a crash in the middle of a write
// leaves it. It keeps at most most bytes in memory.
func Next(in *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > most; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case long && (err == nil || errors.Is(err, io.EOF)):
			return nil, ErrLong
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

package frame

import (
	"errors"
	"fmt"
	"io"
)

// ErrCut is the error of a stream that ends within a frame, or anywhere
// before its explicit end.
var ErrCut = errors.New("the stream ends before its end mark")

// Read reads one frame from r into a buffer from alloc, which returns one of
// at least the given length. At the end of r it returns ErrCut: a stream of
// frames never just stops. The frame is checked but not trusted; that takes
// its segment's signature.
func Read(r io.Reader, alloc func(n int) []byte) (*Frame, error) {
	var head [HeaderLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, cut(err)
	}
	h, err := parseHeader(head[:])
	if err != nil {
		return nil, err
	}
	n := PayloadAt(h.Extents) + h.Sent
	buf := alloc(n)[:n]
	copy(buf, head[:])
	if _, err := io.ReadFull(r, buf[HeaderLen:]); err != nil {
		return nil, cut(err)
	}
	f := &Frame{Header: h, wire: buf}
	return f, f.check()
}

// Parse is Read over bytes that hold exactly one frame.
func Parse(b []byte) (*Frame, error) {
	if len(b) < HeaderLen {
		return nil, ErrCut
	}
	h, err := parseHeader(b[:HeaderLen])
	if err != nil {
		return nil, err
	}
	if len(b) != PayloadAt(h.Extents)+h.Sent {
		return nil, fmt.Errorf("frame: %d bytes, the header tells %d", len(b), PayloadAt(h.Extents)+h.Sent)
	}
	f := &Frame{Header: h, wire: b}
	return f, f.check()
}

func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}

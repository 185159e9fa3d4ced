// Package frame is the data plane on the wire: frames that are addressed by
// (entry, offset), each decodable alone, and segments of them that the source
// signs. It encodes, decodes and checks limits; it imports the standard
// library only and knows neither sockets nor files.
//
// All numbers are big-endian. A frame is a header of 32 bytes, its extents of
// 24 bytes each, and a payload:
//
//	 0  u8   version
//	 1  u8   type
//	 2  u8   codec of the payload; 0: stored
//	 3  u8   zero
//	 4  u32  pass: 1 is the chain's, later ones serve need-lists
//	 8  u32  number of extents
//	12  u32  length of the payload as sent
//	16  u32  length of the payload decoded
//	20       zero
//
// docs/wire-format.md tells the whole, with the reasons.
package frame

import (
	"encoding/binary"
	"fmt"
)

// Version is the version of the wire format. A reader refuses any other.
const Version = 1

// Limits of one frame. A peer chooses no allocation larger than these.
const (
	HeaderLen  = 32
	ExtentLen  = 24
	MaxExtents = 4096
	MaxPayload = 2 << 20 // as sent, and decoded
)

// Type is a frame's type.
type Type uint8

// The types. All up to TypeFailure are counted in segments.
const (
	TypeEntries    Type = 1 // manifest entries; its extent: first number, count, decoded length
	TypeData       Type = 2 // content, its extents in order
	TypeHole       Type = 3 // extents that hold nothing but zeroes; no payload
	TypeDigests    Type = 4 // digests of files, see Digests
	TypePassEnd    Type = 5 // the explicit end, see PassEnd
	TypeFailure    Type = 6 // the source has failed; the payload says why
	TypeSegmentEnd Type = 7 // the signature over the frames since the last one
	TypeHeartbeat  Type = 8 // the peer lives; carries nothing
	TypeAck        Type = 9 // against the stream: so many frames of the pass have arrived, see Ack

	// TypePieces tells the nodes of an entry's pieces, in a repair pass, so
	// that a target can tell which of them is bad; see Pieces. It counts in
	// segments.
	TypePieces Type = 10
	// TypeGap stands for frames that are kept no more, see Gap; not part of any
	// segment.
	TypeGap Type = 11
)

// Header is a frame's header.
type Header struct {
	Type    Type
	Codec   uint8
	Pass    uint32
	Extents int
	Sent    int // bytes of payload on the wire
	Decoded int // bytes of payload decoded
}

// Extent is a range of an entry's uncompressed bytes. In a data frame an
// entry's piece (see core/agent/digest) is carried whole: what no extent
// names within a piece that the frame touches is a hole.
type Extent struct {
	Entry  uint64
	Offset uint64
	Length uint64
}

// Frame is one frame over a buffer that holds it as it was or will be sent.
type Frame struct {
	Header
	wire []byte
}

// Wire is the frame as sent. The caller does not change it.
func (f *Frame) Wire() []byte { return f.wire }

// Head is the header with the extents.
func (f *Frame) Head() []byte { return f.wire[:HeaderLen+f.Header.Extents*ExtentLen] }

// Payload is the payload as sent.
func (f *Frame) Payload() []byte { return f.wire[HeaderLen+f.Header.Extents*ExtentLen:] }

// Extent returns the i-th extent.
func (f *Frame) Extent(i int) Extent {
	b := f.wire[HeaderLen+i*ExtentLen:]
	return Extent{
		Entry:  binary.BigEndian.Uint64(b),
		Offset: binary.BigEndian.Uint64(b[8:]),
		Length: binary.BigEndian.Uint64(b[16:]),
	}
}

// PayloadAt is where the payload of a frame with n extents begins. A builder
// may place it there first and call Build afterwards.
func PayloadAt(n int) int { return HeaderLen + n*ExtentLen }

// Build makes a frame in buf, whose bytes from PayloadAt(len(extents)) on are
// the payload as sent; decoded is its length after decoding. The frame keeps
// buf.
func Build(buf []byte, t Type, codec uint8, pass uint32, extents []Extent, decoded int) (*Frame, error) {
	h := Header{Type: t, Codec: codec, Pass: pass, Extents: len(extents),
		Sent: len(buf) - PayloadAt(len(extents)), Decoded: decoded}
	if h.Sent < 0 {
		return nil, fmt.Errorf("frame: a buffer of %d bytes is too short for %d extents", len(buf), len(extents))
	}
	h.put(buf)
	for i, x := range extents {
		b := buf[HeaderLen+i*ExtentLen:]
		binary.BigEndian.PutUint64(b, x.Entry)
		binary.BigEndian.PutUint64(b[8:], x.Offset)
		binary.BigEndian.PutUint64(b[16:], x.Length)
	}
	f := &Frame{Header: h, wire: buf}
	return f, f.check()
}

func (h *Header) put(b []byte) {
	b[0], b[1], b[2], b[3] = Version, uint8(h.Type), h.Codec, 0
	binary.BigEndian.PutUint32(b[4:], h.Pass)
	binary.BigEndian.PutUint32(b[8:], uint32(h.Extents))
	binary.BigEndian.PutUint32(b[12:], uint32(h.Sent))
	binary.BigEndian.PutUint32(b[16:], uint32(h.Decoded))
	clear(b[20:HeaderLen])
}

// parseHeader reads and checks a header; the lengths in it are safe to
// allocate afterwards.
func parseHeader(b []byte) (Header, error) {
	if b[0] != Version {
		return Header{}, fmt.Errorf("frame: version %d, this program speaks %d", b[0], Version)
	}
	extents, sent, decoded := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	if extents > MaxExtents || sent > MaxPayload || decoded > MaxPayload {
		return Header{}, fmt.Errorf("frame: %d extents, payload %d, decoded %d: over the limit", extents, sent, decoded)
	}
	for _, z := range append([]byte{b[3]}, b[20:HeaderLen]...) {
		if z != 0 {
			return Header{}, fmt.Errorf("frame: reserved bytes are not zero")
		}
	}
	h := Header{Type: Type(b[1]), Codec: b[2], Pass: binary.BigEndian.Uint32(b[4:]),
		Extents: int(extents), Sent: int(sent), Decoded: int(decoded)}
	if h.Type < TypeEntries || h.Type > TypeGap {
		return Header{}, fmt.Errorf("frame: unknown type %d", h.Type)
	}
	return h, nil
}

// check holds the rules that need more than the header.
func (f *Frame) check() error {
	if _, err := parseHeader(f.wire[:HeaderLen]); err != nil {
		return err
	}
	if f.Codec == 0 && f.Sent != f.Decoded {
		return fmt.Errorf("frame: stored, but %d bytes are to become %d", f.Sent, f.Decoded)
	}
	var sum uint64
	for i := range f.Header.Extents {
		x := f.Extent(i)
		if x.Offset > 1<<62 || x.Length > 1<<62 {
			return fmt.Errorf("frame: extent [%d,+%d) is out of range", x.Offset, x.Length)
		}
		sum += x.Length
		if f.Type != TypeHole && sum > MaxPayload {
			return fmt.Errorf("frame: extents are longer than a payload can be")
		}
	}
	return f.checkType(sum)
}

func (f *Frame) checkType(sum uint64) error {
	bad := false
	switch f.Type {
	case TypeEntries:
		bad = f.Header.Extents != 1 || sum != uint64(f.Decoded)
	case TypeData:
		bad = f.Header.Extents == 0 || sum != uint64(f.Decoded)
	case TypeHole:
		bad = f.Header.Extents == 0 || f.Sent != 0
	case TypeHeartbeat:
		bad = f.Header.Extents != 0 || f.Sent != 0
	default:
		bad = f.Header.Extents != 0 || f.Codec != 0
	}
	if bad {
		return fmt.Errorf("frame: type %d with %d extents of %d bytes and a payload of %d", f.Type, f.Header.Extents, sum, f.Decoded)
	}
	return nil
}

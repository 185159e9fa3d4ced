package frame

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of one segment. Those for sinks that need order are smaller, since
// such a sink gets a segment only after its signature held.
const (
	SegmentBytes         = 64 << 20
	OrderedSegmentBytes  = 16 << 20
	MaxSegmentFrames     = 32768
	OrderedSegmentFrames = 4096
)

// DigestLen is the length of a frame's digest.
const DigestLen = 32

// Digest is the digest of a frame as sent.
type Digest = [DigestLen]byte

// Hash is the hash of the wire format, BLAKE3; passed in so that this package
// needs nothing beyond the standard library.
type Hash func(data []byte) Digest

const (
	segmentHead = 8 // number, count
	domain      = "transferpy segment 1\x00"
)

// Scope is what a segment's signature is bound to.
type Scope struct {
	Transfer string
	Pass     uint32
}

// message is what is signed: nothing in it can be read in two ways.
func (s Scope) message(number, count uint32, sum Digest) []byte {
	b := append([]byte(domain), byte(len(s.Transfer)))
	b = append(b, s.Transfer...)
	b = binary.BigEndian.AppendUint32(b, s.Pass)
	b = binary.BigEndian.AppendUint32(b, number)
	b = binary.BigEndian.AppendUint32(b, count)
	return append(b, sum[:]...)
}

// Sealer closes segments on the source. Not safe for concurrent use.
type Sealer struct {
	Scope Scope
	Hash  Hash
	Sign  func(message []byte) []byte

	number  uint32
	digests []byte
	bytes   int
}

// Add takes a frame, in the order in which frames are sent.
func (s *Sealer) Add(f *Frame, d Digest) {
	s.digests = append(s.digests, d[:]...)
	s.bytes += len(f.Wire())
}

// Bytes is the size of the open segment, Frames its number of frames.

func (s *Sealer) Bytes() int  { return s.bytes }
func (s *Sealer) Frames() int { return len(s.digests) / DigestLen }

// Seal closes the segment and returns the frame that does so.
func (s *Sealer) Seal() (*Frame, error) {
	count := uint32(s.Frames())
	sig := s.Sign(s.Scope.message(s.number, count, s.Hash(s.digests)))
	buf := make([]byte, HeaderLen, HeaderLen+segmentHead+len(s.digests)+len(sig))
	buf = binary.BigEndian.AppendUint32(buf, s.number)
	buf = binary.BigEndian.AppendUint32(buf, count)
	buf = append(append(buf, s.digests...), sig...)
	s.number++
	s.digests, s.bytes = s.digests[:0], 0
	return Build(buf, TypeSegmentEnd, 0, s.Scope.Pass, nil, len(buf)-HeaderLen)
}

// AlteredError says which frame of a segment is not what the source signed.
type AlteredError struct {
	Segment uint32
	Frame   int // index in the segment; -1: the number of frames differs or the signature does not hold
}

// Error implements error.
func (e *AlteredError) Error() string {
	if e.Frame < 0 {
		return fmt.Sprintf("segment %d does not bear the source's signature", e.Segment)
	}
	return fmt.Sprintf("frame %d of segment %d is not what the source sent", e.Frame, e.Segment)
}

// Checker checks segments on a target. Not safe for concurrent use.
type Checker struct {
	Scope Scope
	Hash  Hash
	Key   ed25519.PublicKey

	number uint32
}

// Check checks the segment that end closes; digests are those of its frames
// as received, in order. The segments of a pass come once each and in order.
func (c *Checker) Check(end *Frame, digests []Digest) error {
	number, list, sig, err := splitSegmentEnd(end)
	if err != nil {
		return err
	}
	if number != c.number || end.Pass != c.Scope.Pass {
		return fmt.Errorf("segment %d of pass %d came where %d of pass %d was due: repeated or left out",
			number, end.Pass, c.number, c.Scope.Pass)
	}
	count := uint32(len(list) / DigestLen)
	if !ed25519.Verify(c.Key, c.Scope.message(number, count, c.Hash(list)), sig) {
		return &AlteredError{number, -1}
	}
	for i, d := range digests {
		if i >= int(count) || d != Digest(list[i*DigestLen:]) {
			return &AlteredError{number, i}
		}
	}
	if len(digests) != int(count) {
		return &AlteredError{number, -1}
	}
	c.number++
	return nil
}

func splitSegmentEnd(f *Frame) (number uint32, list, sig []byte, err error) {
	p := f.Payload()
	if f.Type != TypeSegmentEnd || len(p) < segmentHead+ed25519.SignatureSize {
		return 0, nil, nil, errors.New("frame: a segment end is too short")
	}
	number = binary.BigEndian.Uint32(p)
	count := binary.BigEndian.Uint32(p[4:])
	if count > MaxSegmentFrames || len(p) != segmentHead+int(count)*DigestLen+ed25519.SignatureSize {
		return 0, nil, nil, fmt.Errorf("frame: a segment end of %d frames has %d bytes", count, len(p))
	}
	cut := len(p) - ed25519.SignatureSize
	return number, p[segmentHead:cut], p[cut:], nil
}

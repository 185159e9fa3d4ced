package frame

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

// Gap stands in the place of frames that a member was not sent and that are
// kept no more: what follows begins with a segment of its own. The source signs
// it, so that nobody else can leave anything out.
type Gap struct {
	Frames  uint64 // of the pass, up to where the gap ends
	Segment uint32 // the number of the one that begins there
}

const (
	gapDomain = "transferpy gap 1\x00"
	gapLen    = 8 + 4 + ed25519.SignatureSize
)

// gap is what is signed of one.
func (s Scope) gap(g Gap) []byte {
	b := append([]byte(gapDomain), byte(len(s.Transfer)))
	b = append(b, s.Transfer...)
	b = binary.BigEndian.AppendUint32(b, s.Pass)
	b = binary.BigEndian.AppendUint64(b, g.Frames)
	return binary.BigEndian.AppendUint32(b, g.Segment)
}

// Build makes the frame of a gap.
func (g Gap) Build(scope Scope, sign func(message []byte) []byte) (*Frame, error) {
	b := binary.BigEndian.AppendUint64(make([]byte, HeaderLen, HeaderLen+gapLen), g.Frames)
	b = append(binary.BigEndian.AppendUint32(b, g.Segment), sign(scope.gap(g))...)
	return Build(b, TypeGap, 0, scope.Pass, nil, gapLen)
}

// ParseGap parses a TypeGap frame's payload. Its signature is checked by Skip.
func ParseGap(p []byte) (Gap, error) {
	if len(p) != gapLen {
		return Gap{}, fmt.Errorf("frame: a gap of %d bytes", len(p))
	}
	return Gap{Frames: binary.BigEndian.Uint64(p), Segment: binary.BigEndian.Uint32(p[8:])}, nil
}

// Skip takes a gap: the segment that it names is due next. What came since the
// last segment bears no signature and never will.
func (c *Checker) Skip(f *Frame) error {
	g, err := ParseGap(f.Payload())
	if err != nil {
		return err
	}
	if f.Pass != c.Scope.Pass || g.Segment <= c.number {
		return fmt.Errorf("a gap up to segment %d of pass %d came where %d of pass %d was due", g.Segment, f.Pass, c.number, c.Scope.Pass)
	}
	if !ed25519.Verify(c.Key, c.Scope.gap(g), f.Payload()[gapLen-ed25519.SignatureSize:]) {
		return errors.New("a gap does not bear the source's signature")
	}
	c.number = g.Segment
	return nil
}

// SegmentNumber is the number of the segment that a TypeSegmentEnd frame closes.
func SegmentNumber(end *Frame) (uint32, error) {
	number, _, _, err := splitSegmentEnd(end)
	return number, err
}

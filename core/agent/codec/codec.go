// Package codec compresses and decompresses the payload of one frame at a
// time, by the id that the frame carries. Every frame decodes alone, so no
// codec here keeps a state from one call to the next.
package codec

import (
	"fmt"
	"strings"
)

// MaxRaw bounds the uncompressed bytes of one frame that a decoder makes,
// whatever a peer asks for.
const MaxRaw = 8 << 20

// ID names a codec on the wire. An id is never given to another codec.
type ID byte

// The ids.
const (
	Stored ID = 0 // the bytes as they are
	MinLZ  ID = 1 // a MinLZ block
	Zstd   ID = 2 // a zstd frame
)

// Codec is one way of compression. Its methods may be called from several
// goroutines at once.
type Codec interface {
	// ID is what frames carry.
	ID() ID

	// Encode appends the encoded form of src to dst[:0] or to new memory,
	// and returns it. src holds at most MaxRaw bytes; the two must not
	// overlap.
	Encode(dst, src []byte) []byte

	// Decode appends the rawLen bytes that src stands for to dst[:0] or to
	// new memory, and returns them. It fails unless they are exactly rawLen,
	// at most MaxRaw, and never makes more.
	Decode(dst, src []byte, rawLen int) ([]byte, error)
}

// Names of the codecs in settings and on the command line.
const (
	NameNone  = "none"
	NameMinLZ = "minlz"
	NameZstd  = "zstd"
	NameAuto  = "auto"
)

// Names returns what ByName takes, in the order in which help shows it.
func Names() []string { return []string{NameAuto, NameZstd, NameMinLZ, NameNone} }

// Levels is how many levels of compression the codecs that have any take: 1 is
// the fastest and the default, Levels makes the fewest bytes.
const Levels = 3

// ByName returns the codec with a name, at a level from 1 to Levels; 0 is the
// default. none takes no level, and NameAuto is no codec but a choice among
// the Ladder's.
func ByName(name string, level int) (Codec, error) {
	if level < 0 || level > Levels || name == NameNone && level > 0 {
		return nil, fmt.Errorf("codec %q has no level %d", name, level)
	}
	at := max(level, 1) - 1
	switch name {
	case NameNone:
		return stored{}, nil
	case NameMinLZ:
		return minLZ{minLZLevels[at]}, nil
	case NameZstd:
		return zstandard{at}, nil
	}
	return nil, fmt.Errorf("codec %q is not known (one of %s)", name, strings.Join(Names()[1:], ", "))
}

// Ladder returns the codecs that auto steps between, each slower than the one
// before and making fewer bytes: none, minlz at two levels, zstd at two. What
// is above these costs twice the time for 3 % fewer bytes.
func Ladder() []Codec {
	return []Codec{stored{}, minLZ{minLZLevels[0]}, minLZ{minLZLevels[1]}, zstandard{0}, zstandard{1}}
}

// ByID returns the codec with an id, at its default level.
func ByID(id ID) (Codec, error) {
	switch id {
	case Stored:
		return stored{}, nil
	case MinLZ:
		return minLZ{minLZLevels[0]}, nil
	case Zstd:
		return zstandard{}, nil
	}
	return nil, fmt.Errorf("codec id %d is not known to this agent", id)
}

// Saves reports whether encoded bytes are at least 6 % fewer than raw ones: less
// costs the receiver more than the wire gains.
func Saves(raw, encoded int) bool { return encoded*100 <= raw*94 }

// Decompress returns the rawLen bytes that payload stands for, in dst's
// memory or new one; for Stored it is payload itself.
func Decompress(id ID, dst, payload []byte, rawLen int) ([]byte, error) {
	if id == Stored {
		if len(payload) != rawLen {
			return nil, fmt.Errorf("stored frame of %d bytes says that it has %d", len(payload), rawLen)
		}
		return payload, nil
	}
	c, err := ByID(id)
	if err != nil {
		return nil, err
	}
	return c.Decode(dst, payload, rawLen)
}

// checkRaw refuses lengths that no frame can have, before memory is made.
func checkRaw(rawLen int) error {
	if rawLen < 0 || rawLen > MaxRaw {
		return fmt.Errorf("frame of %d uncompressed bytes; the limit is %d", rawLen, MaxRaw)
	}
	return nil
}

// grow returns dst[:0] with room for n bytes.
func grow(dst []byte, n int) []byte {
	if cap(dst) < n {
		return make([]byte, 0, n)
	}
	return dst[:0]
}

// stored is the codec that changes nothing.
type stored struct{}

func (stored) ID() ID                        { return Stored }
func (stored) Encode(dst, src []byte) []byte { return append(dst[:0], src...) }

func (stored) Decode(dst, src []byte, rawLen int) ([]byte, error) {
	if err := checkRaw(rawLen); err != nil {
		return nil, err
	}
	if len(src) != rawLen {
		return nil, fmt.Errorf("stored frame of %d bytes says that it has %d", len(src), rawLen)
	}
	return append(dst[:0], src...), nil
}

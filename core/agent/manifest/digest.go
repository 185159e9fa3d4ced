package manifest

import (
	"encoding/binary"
	"fmt"
)

// DigestState says what is known of an entry's digest.
type DigestState byte

// The states.
const (
	DigestNone    DigestState = iota // not known (yet), or not asked for
	DigestOK                         // Size and Sum are those of the bytes
	DigestChanged                    // the file changed while it was read
	DigestFailed                     // the bytes could not be read, or were not the right ones
	DigestKept                       // an earlier attempt had a file of this digest; on a target, until the source tells its own
)

// Digest is what is known of the content of an entry.
type Digest struct {
	Size  int64 // bytes that were digested
	Sum   [32]byte
	State DigestState
}

// digestLen is a digest on disk: state, 7 bytes of zero, size, sum.
const digestLen = 48

func (d *Digest) encode(b *[digestLen]byte) {
	b[0] = byte(d.State)
	binary.LittleEndian.PutUint64(b[8:], uint64(d.Size))
	copy(b[16:], d.Sum[:])
}

func (d *Digest) decode(b *[digestLen]byte) error {
	d.State = DigestState(b[0])
	d.Size = int64(binary.LittleEndian.Uint64(b[8:]))
	copy(d.Sum[:], b[16:])
	if d.State > DigestKept || d.Size < 0 {
		return fmt.Errorf("manifest spool: malformed digest record")
	}
	return nil
}

// Ident tells whether a file is still the one that was seen before. Only the
// source keeps it.
type Ident struct {
	Dev, Ino  uint64
	Size      int64
	MTimeSec  int64
	MTimeNsec uint32
	CTimeSec  int64
	CTimeNsec uint32
}

// Same reports whether a and b are of the same file in the same state.
func (a Ident) Same(b Ident) bool { return a == b }

// identLen is an ident on disk, its fields in order.
const identLen = 48

func (a *Ident) encode(b *[identLen]byte) {
	binary.LittleEndian.PutUint64(b[0:], a.Dev)
	binary.LittleEndian.PutUint64(b[8:], a.Ino)
	binary.LittleEndian.PutUint64(b[16:], uint64(a.Size))
	binary.LittleEndian.PutUint64(b[24:], uint64(a.MTimeSec))
	binary.LittleEndian.PutUint64(b[32:], uint64(a.CTimeSec))
	binary.LittleEndian.PutUint32(b[40:], a.MTimeNsec)
	binary.LittleEndian.PutUint32(b[44:], a.CTimeNsec)
}

func (a *Ident) decode(b *[identLen]byte) {
	a.Dev = binary.LittleEndian.Uint64(b[0:])
	a.Ino = binary.LittleEndian.Uint64(b[8:])
	a.Size = int64(binary.LittleEndian.Uint64(b[16:]))
	a.MTimeSec = int64(binary.LittleEndian.Uint64(b[24:]))
	a.CTimeSec = int64(binary.LittleEndian.Uint64(b[32:]))
	a.MTimeNsec = binary.LittleEndian.Uint32(b[40:])
	a.CTimeNsec = binary.LittleEndian.Uint32(b[44:])
}

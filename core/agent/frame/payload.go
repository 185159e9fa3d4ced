package frame

import (
	"encoding/binary"
	"fmt"
)

// FileDigest is one file's digest as the source read it.
type FileDigest struct {
	Entry uint64
	Size  uint64
	Sum   [32]byte
}

const fileDigestLen = 8 + 8 + 32

// MaxFileDigests is how many one TypeDigests frame carries.
const MaxFileDigests = 16384

// AppendFileDigest appends a record of a TypeDigests payload.
func AppendFileDigest(b []byte, d FileDigest) []byte {
	b = binary.BigEndian.AppendUint64(b, d.Entry)
	b = binary.BigEndian.AppendUint64(b, d.Size)
	return append(b, d.Sum[:]...)
}

// FileDigests parses a TypeDigests payload.
func FileDigests(p []byte) ([]FileDigest, error) {
	if len(p)%fileDigestLen != 0 || len(p) > MaxFileDigests*fileDigestLen {
		return nil, fmt.Errorf("frame: digests of %d bytes", len(p))
	}
	out := make([]FileDigest, 0, len(p)/fileDigestLen)
	for ; len(p) > 0; p = p[fileDigestLen:] {
		d := FileDigest{Entry: binary.BigEndian.Uint64(p), Size: binary.BigEndian.Uint64(p[8:])}
		copy(d.Sum[:], p[16:])
		out = append(out, d)
	}
	return out, nil
}

// Pieces are the nodes (BLAKE3 chaining values) of a run of an entry's pieces,
// as the source read them.
type Pieces struct {
	Entry uint64
	First uint64 // index of the first
	Nodes [][32]byte
}

const piecesHead = 2 * 8

// MaxPieces is how many nodes one TypePieces frame carries.
const MaxPieces = 16384

// Append appends the payload of a TypePieces frame.
func (p Pieces) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.Entry)
	b = binary.BigEndian.AppendUint64(b, p.First)
	for _, n := range p.Nodes {
		b = append(b, n[:]...)
	}
	return b
}

// ParsePieces parses the payload of a TypePieces frame.
func ParsePieces(b []byte) (Pieces, error) {
	n := (len(b) - piecesHead) / 32
	if len(b) != piecesHead+n*32 || n < 1 || n > MaxPieces {
		return Pieces{}, fmt.Errorf("frame: nodes of %d bytes", len(b))
	}
	p := Pieces{Entry: binary.BigEndian.Uint64(b), First: binary.BigEndian.Uint64(b[8:]), Nodes: make([][32]byte, n)}
	for i := range p.Nodes {
		copy(p.Nodes[i][:], b[piecesHead+i*32:])
	}
	return p, nil
}

// PassEnd is the explicit end of a pass. A stream without it is cut.
type PassEnd struct {
	Entries uint64
	Files   uint64 // regular files
	Bytes   uint64 // their content
	Root    [32]byte
}

const passEndLen = 3*8 + 32

// Append appends the payload of a TypePassEnd frame.
func (e PassEnd) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Entries)
	b = binary.BigEndian.AppendUint64(b, e.Files)
	b = binary.BigEndian.AppendUint64(b, e.Bytes)
	return append(b, e.Root[:]...)
}

// ParsePassEnd parses the payload of a TypePassEnd frame.
func ParsePassEnd(p []byte) (PassEnd, error) {
	if len(p) != passEndLen {
		return PassEnd{}, fmt.Errorf("frame: a pass end of %d bytes", len(p))
	}
	e := PassEnd{
		Entries: binary.BigEndian.Uint64(p),
		Files:   binary.BigEndian.Uint64(p[8:]),
		Bytes:   binary.BigEndian.Uint64(p[16:]),
	}
	copy(e.Root[:], p[24:])
	return e, nil
}

const ackLen = 2 * 8

// Ack makes a TypeAck frame: have frames of the pass have arrived here,
// heartbeats not counted, and next of them at the member behind. It is also
// the heartbeat of a receiver.
func Ack(pass uint32, have, next uint64) *Frame {
	b := binary.BigEndian.AppendUint64(make([]byte, HeaderLen, HeaderLen+ackLen), have)
	f, err := Build(binary.BigEndian.AppendUint64(b, next), TypeAck, 0, pass, nil, ackLen)
	if err != nil {
		panic(err) // its form is fixed
	}
	return f
}

// ParseAck parses the payload of a TypeAck frame.
func ParseAck(p []byte) (have, next uint64, err error) {
	if len(p) != ackLen {
		return 0, 0, fmt.Errorf("frame: an ack of %d bytes", len(p))
	}
	have, next = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	if next > have {
		return 0, 0, fmt.Errorf("frame: %d frames are acknowledged, and %d behind", have, next)
	}
	return have, next, nil
}

// NeedRange is a run of pieces of one entry that a target lacks. A run of none
// asks for the entry's digest alone.
type NeedRange struct {
	Entry uint64 `json:"entry"`
	Piece uint64 `json:"piece"` // the first
	Count uint64 `json:"count"`
}

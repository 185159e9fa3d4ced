// Package digest computes BLAKE3 digests of files from pieces that are read
// in any order: pieces are subtrees of BLAKE3's own tree, so what comes out
// is what b3sum prints, at no cost in speed.
//
// See the BLAKE3 paper, section 2.1, for the tree: chunks of 1024 bytes,
// left subtrees always full and a power of two in size.
package digest

import (
	"encoding/binary"
	"encoding/hex"
	"sync"

	"lukechampine.com/blake3/guts"
)

// PieceSize is the unit in which files are read, sent, asked for again and
// verified. It is a power of two of BLAKE3's chunks, hence a subtree.
const PieceSize = 1 << 20

// Rule is the name of this way to compute a digest, for manifests.
const Rule = "blake3"

const chunksPerPiece = PieceSize / guts.ChunkSize

// Sum is a BLAKE3 digest.
type Sum [32]byte

// String returns the digest as b3sum prints it.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// Of returns the digest of data. It goes by the parts of the hash, whose
// convenient form costs a small file three times as much.
func Of(data []byte) Sum { return Piece(0, data).Root() }

// Node is the root of the subtree over one piece, not yet finalised: it can
// become a part of a larger tree or, if it is the only one, the digest.
type Node struct{ node guts.Node }

// Piece returns the node over the piece with the given index in its file.
// All pieces but a file's last have PieceSize bytes; none is longer, and only
// an empty file has an empty one. Safe for concurrent use.
func Piece(index uint64, data []byte) Node {
	return Node{subtree(data, index*chunksPerPiece)}
}

// Value is the node's chaining value: what identifies the piece at its place
// in a file of more than one piece.
func (n Node) Value() Sum {
	return bytesOf(guts.ChainingValue(n.node))
}

// Root is the digest of a file that consists of this piece alone.
func (n Node) Root() Sum {
	n.node.Flags |= guts.FlagRoot
	out := guts.CompressNode(n.node)
	return bytesOf([8]uint32(out[:8]))
}

// step is what the hash does at once. It wants memory of that size whatever the
// length of the data, and looks at no more than that: what else is in the
// buffer needs no clearing.
const step = guts.MaxSIMD * guts.ChunkSize

var buffers = sync.Pool{New: func() any { return new([step]byte) }}

// subtree hashes data as the subtree that begins at chunk number counter.
func subtree(data []byte, counter uint64) guts.Node {
	if len(data) <= guts.ChunkSize {
		return guts.CompressChunk(data, &guts.IV, counter, 0)
	}
	if len(data) <= step {
		buf := buffers.Get().(*[step]byte)
		defer buffers.Put(buf)
		return guts.CompressBuffer(buf, copy(buf[:], data), &guts.IV, counter, 0)
	}
	if len(data)%step == 0 && len(data)&(len(data)-1) == 0 {
		return fullSubtree(data, counter)
	}
	left := leftLen(len(data))
	l := guts.ChainingValue(subtree(data[:left], counter))
	r := guts.ChainingValue(subtree(data[left:], counter+uint64(left/guts.ChunkSize)))
	return guts.ParentNode(l, r, &guts.IV, 0)
}

// fullSubtree hashes a power of two of SIMD-wide buffers without copying.
func fullSubtree(data []byte, counter uint64) guts.Node {
	if len(data) == step {
		return guts.CompressBuffer((*[step]byte)(data), step, &guts.IV, counter, 0)
	}
	half := len(data) / 2
	l := guts.ChainingValue(fullSubtree(data[:half], counter))
	r := guts.ChainingValue(fullSubtree(data[half:], counter+uint64(half/guts.ChunkSize)))
	return guts.ParentNode(l, r, &guts.IV, 0)
}

// leftLen is the size of the left subtree of n > ChunkSize bytes: the largest
// power of two of chunks that leaves something for the right.
func leftLen(n int) int {
	left := guts.ChunkSize
	for left*2 < n {
		left *= 2
	}
	return left
}

// bytesOf is the byte form of a chaining value.
func bytesOf(cv [8]uint32) (s Sum) {
	for i, w := range cv {
		binary.LittleEndian.PutUint32(s[4*i:], w)
	}
	return s
}

// valueOf is the chaining value whose byte form s is.
func valueOf(s Sum) (cv [8]uint32) {
	for i := range cv {
		cv[i] = binary.LittleEndian.Uint32(s[4*i:])
	}
	return cv
}

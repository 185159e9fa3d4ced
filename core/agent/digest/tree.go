package digest

import (
	"fmt"
	"math/bits"

	"lukechampine.com/blake3/guts"
)

// Tree collects the nodes of one file's pieces, in any order, and merges
// neighbours as they meet. It holds about two nodes for each gap and each
// power of two in the file, not one a piece. Not safe for concurrent use.
type Tree struct {
	full  map[place]guts.Node // complete subtrees, each waiting for its sibling
	last  *guts.Node          // the final piece, if it is shorter than PieceSize
	lastN uint64              // its index
	count uint64
}

// place is a subtree's position: 2^level pieces, the index-th of its level.
type place struct {
	level int
	index uint64
}

// NewTree makes an empty Tree.
func NewTree() *Tree { return &Tree{full: make(map[place]guts.Node)} }

// Add puts a piece in its place; length is the piece's. It reports false when
// the piece was there already.
func (t *Tree) Add(index uint64, n Node, length int) bool {
	if t.Has(index) {
		return false
	}
	t.count++
	if length < PieceSize {
		node := n.node
		t.last, t.lastN = &node, index
		return true
	}
	t.merge(place{0, index}, n.node)
	return true
}

// merge adds a complete subtree and joins it with its sibling, upwards.
func (t *Tree) merge(at place, node guts.Node) {
	for {
		sibling := place{at.level, at.index ^ 1}
		other, ok := t.full[sibling]
		if !ok {
			t.full[at] = node
			return
		}
		delete(t.full, sibling)
		left, right := guts.ChainingValue(node), guts.ChainingValue(other)
		if at.index&1 == 1 {
			left, right = right, left
		}
		node = guts.ParentNode(left, right, &guts.IV, 0)
		at = place{at.level + 1, at.index >> 1}
	}
}

// Has reports whether a piece is there.
func (t *Tree) Has(index uint64) bool {
	if t.last != nil && index == t.lastN {
		return true
	}
	for level := 0; level < 64; level++ {
		if _, ok := t.full[place{level, index >> level}]; ok {
			return true
		}
	}
	return false
}

// Count is the number of pieces that are there.
func (t *Tree) Count() uint64 { return t.count }

// Sum returns the digest of the file of the given size; an error if pieces
// are missing or do not fit the size.
func (t *Tree) Sum(size int64) (Sum, error) {
	pieces := Pieces(size)
	if t.count != pieces {
		return Sum{}, fmt.Errorf("digest of %d bytes: %d of %d pieces are there", size, t.count, pieces)
	}
	if pieces == 0 {
		return Of(nil), nil
	}
	node, err := t.span(0, pieces)
	if err != nil {
		return Sum{}, err
	}
	return Node{node}.Root(), nil
}

// span returns the node over pieces [from, from+n), n at least 1.
func (t *Tree) span(from, n uint64) (guts.Node, error) {
	if n&(n-1) == 0 {
		level := bits.TrailingZeros64(n)
		if node, ok := t.full[place{level, from >> level}]; ok {
			return node, nil
		}
	}
	if n == 1 {
		if t.last != nil && t.lastN == from {
			return *t.last, nil
		}
		return guts.Node{}, fmt.Errorf("digest: piece %d is missing", from)
	}
	half := uint64(1) << (bits.Len64(n-1) - 1)
	left, err := t.span(from, half)
	if err != nil {
		return guts.Node{}, err
	}
	right, err := t.span(from+half, n-half)
	if err != nil {
		return guts.Node{}, err
	}
	return guts.ParentNode(guts.ChainingValue(left), guts.ChainingValue(right), &guts.IV, 0), nil
}

// Pieces is the number of pieces of a file of the given size.
func Pieces(size int64) uint64 {
	return (uint64(size) + PieceSize - 1) / PieceSize
}

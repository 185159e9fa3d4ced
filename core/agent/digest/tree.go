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
	full  map[place]part // complete subtrees, each waiting for its sibling
	last  *part          // the final piece, if it is shorter than PieceSize
	lastN uint64         // its index
	count uint64
}

// part is a subtree: its chaining value, and its node where it may be the whole.
type part struct {
	cv   [8]uint32
	node *guts.Node
}

func partOf(n guts.Node) part { return part{cv: guts.ChainingValue(n), node: &n} }

// place is a subtree's position: 2^level pieces, the index-th of its level.
type place struct {
	level int
	index uint64
}

// NewTree makes an empty Tree.
func NewTree() *Tree { return &Tree{full: make(map[place]part)} }

// Add puts a piece in its place; length is the piece's. It reports false when
// the piece was there already.
func (t *Tree) Add(index uint64, n Node, length int) bool {
	if t.Has(index) {
		return false
	}
	t.count++
	if length < PieceSize {
		last := partOf(n.node)
		t.last, t.lastN = &last, index
		return true
	}
	t.merge(place{0, index}, partOf(n.node))
	return true
}

// AddValue is Add for a piece whose node is known by its Value only: of a file
// of more than one piece.
func (t *Tree) AddValue(index uint64, value Sum, length int) bool {
	if t.Has(index) {
		return false
	}
	t.count++
	cv := valueOf(value)
	if length < PieceSize {
		t.last, t.lastN = &part{cv: cv}, index
		return true
	}
	t.merge(place{0, index}, part{cv: cv})
	return true
}

// merge adds a complete subtree and joins it with its sibling, upwards.
func (t *Tree) merge(at place, p part) {
	for {
		sibling := place{at.level, at.index ^ 1}
		other, ok := t.full[sibling]
		if !ok {
			t.full[at] = p
			return
		}
		delete(t.full, sibling)
		left, right := p.cv, other.cv
		if at.index&1 == 1 {
			left, right = right, left
		}
		p = partOf(guts.ParentNode(left, right, &guts.IV, 0))
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
	whole, err := t.span(0, pieces)
	if err != nil {
		return Sum{}, err
	}
	if whole.node == nil {
		return Sum{}, fmt.Errorf("digest of %d bytes: of the only piece, no more than its value is known", size)
	}
	return Node{*whole.node}.Root(), nil
}

// span returns the node over pieces [from, from+n), n at least 1.
func (t *Tree) span(from, n uint64) (part, error) {
	if n&(n-1) == 0 {
		level := bits.TrailingZeros64(n)
		if p, ok := t.full[place{level, from >> level}]; ok {
			return p, nil
		}
	}
	if n == 1 {
		if t.last != nil && t.lastN == from {
			return *t.last, nil
		}
		return part{}, fmt.Errorf("digest: piece %d is missing", from)
	}
	half := uint64(1) << (bits.Len64(n-1) - 1)
	left, err := t.span(from, half)
	if err != nil {
		return part{}, err
	}
	right, err := t.span(from+half, n-half)
	if err != nil {
		return part{}, err
	}
	return partOf(guts.ParentNode(left.cv, right.cv, &guts.IV, 0)), nil
}

// Pieces is the number of pieces of a file of the given size.
func Pieces(size int64) uint64 {
	return (uint64(size) + PieceSize - 1) / PieceSize
}

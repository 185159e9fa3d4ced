package audit

import (
	"hash/maphash"
	"slices"

	"github.com/transferpy/transferpy/sdk"
)

// index finds entries by their paths: 8 bytes each, half of it a hash of the
// path and half the number. What it finds is to be compared with the path.
type index struct {
	seed maphash.Seed
	keys []uint64
}

func newIndex() *index { return &index{seed: maphash.MakeSeed()} }

func (x *index) key(p sdk.Raw) uint64 { return maphash.String(x.seed, string(p)) &^ nowhere }

// add adds an entry; n is below 2^32, as a listing's entries are.
func (x *index) add(p sdk.Raw, n uint64) { x.keys = append(x.keys, x.key(p)|n) }

// sort makes lookup possible.
func (x *index) sort() { slices.Sort(x.keys) }

// lookup returns the numbers of the entries that may have that path: one or
// none but by a rare accident, which nobody can bring about, since the seed is
// a secret of this process.
func (x *index) lookup(p sdk.Raw) []uint64 {
	key := x.key(p)
	var found []uint64
	from, _ := slices.BinarySearch(x.keys, key)
	for _, k := range x.keys[from:] {
		if k&^nowhere != key {
			break
		}
		found = append(found, k&nowhere)
	}
	return found
}

// bits are one bit for each entry.
type bits []uint64

func newBits(n uint64) bits { return make(bits, (n+63)/64) }

func (b bits) set(n uint64)      { b[n/64] |= 1 << (n % 64) }
func (b bits) has(n uint64) bool { return b[n/64]&(1<<(n%64)) != 0 }

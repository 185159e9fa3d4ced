package manifest

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"os"

	"github.com/transferpy/transferpy/sdk"
)

// Lookup finds entries of a spool by their paths. A walk sees the names of a
// directory in the order in which the directory has them, which stays as it is
// as long as nobody makes or removes any; so the next path asked for is nearly
// always that of the next entry. Only for the others an index is made, on disk:
// memory is bounded whatever the number of entries. For one goroutine.
type Lookup struct {
	spool *Spool
	dir   string
	next  uint64 // the entry that is expected
	seed  maphash.Seed
	table *records // of slots; nil until it is needed
	slots uint64
}

// slotLen is a slot of the index: 32 bits of the path's hash, then 1 + the
// entry's number; 0 is free.
const slotLen = 8

// lookAhead is how many entries are tried before the index is: names that are
// gone.
const lookAhead = 16

// maxIndexed bounds the entries that a slot can name.
const maxIndexed = 1<<32 - 2

// NewLookup looks into a spool to which nothing is added any more; the index is
// made in dir. The caller closes it, and the spool afterwards.
func NewLookup(spool *Spool, dir string) *Lookup {
	return &Lookup{spool: spool, dir: dir, seed: maphash.MakeSeed()}
}

// Find returns the entry at a path and its number; false if there is none.
func (l *Lookup) Find(path sdk.Raw) (number uint64, e Entry, found bool, err error) {
	for n := l.next; n < min(l.next+lookAhead, l.spool.Len()); n++ {
		if e, err = l.spool.Entry(n); err != nil {
			return 0, Entry{}, false, err
		}
		if e.Path == path {
			l.next = n + 1
			return n, e, true, nil
		}
	}
	if l.table == nil {
		if err := l.index(); err != nil {
			return 0, Entry{}, false, err
		}
	}
	number, e, found, err = l.probe(path)
	if found {
		l.next = number + 1
	}
	return number, e, found, err
}

func (l *Lookup) hash(path sdk.Raw) uint64 { return maphash.String(l.seed, string(path)) }

// index makes the index, twice as large as need be, in a file that has no name
// any more.
func (l *Lookup) index() error {
	if l.spool.Len() > maxIndexed {
		return fmt.Errorf("manifest spool: %d entries are too many to be found by their paths", l.spool.Len())
	}
	f, err := os.CreateTemp(l.dir, "lookup-")
	if err != nil {
		return fmt.Errorf("manifest spool: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return fmt.Errorf("manifest spool: %w", err)
	}
	l.slots = 1
	for l.slots < 2*l.spool.Len() {
		l.slots *= 2
	}
	l.table = newRecords(f, slotLen)
	for n := range l.spool.Len() {
		e, err := l.spool.Entry(n)
		if err != nil {
			return err
		}
		if err := l.put(n, l.hash(e.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lookup) put(n, hash uint64) error {
	var b [slotLen]byte
	for at := hash & (l.slots - 1); ; at = (at + 1) & (l.slots - 1) {
		if err := l.table.get(at, b[:]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(b[:]) == 0 {
			binary.LittleEndian.PutUint64(b[:], hash&^(1<<32-1)|(n+1))
			return l.table.set(at, b[:])
		}
	}
}

// probe finds a path by the index.
func (l *Lookup) probe(path sdk.Raw) (uint64, Entry, bool, error) {
	hash := l.hash(path)
	var b [slotLen]byte
	for at := hash & (l.slots - 1); ; at = (at + 1) & (l.slots - 1) {
		if err := l.table.get(at, b[:]); err != nil {
			return 0, Entry{}, false, err
		}
		slot := binary.LittleEndian.Uint64(b[:])
		if slot == 0 {
			return 0, Entry{}, false, nil
		}
		if slot>>32 != hash>>32 {
			continue
		}
		n := slot&(1<<32-1) - 1
		if e, err := l.spool.Entry(n); err != nil || e.Path == path {
			return n, e, err == nil, err
		}
	}
}

// Close gives the index up.
func (l *Lookup) Close() error {
	if l.table == nil {
		return nil
	}
	return l.table.f.Close()
}

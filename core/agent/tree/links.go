package tree

import (
	"golang.org/x/sys/unix"
)

// maxLinked bounds the files with several names that a walk remembers. Each
// takes about 80 bytes of the heap (measured, with what waits to be collected),
// so all of them 120 MB: what an agent can spare of its 256 MiB beside the
// buffers of the data path.
const maxLinked = 1_500_000

// links finds the names of one file. It remembers a file from its first name
// to its last, so only those whose names are far from each other (or lie
// outside the tree) cost memory.
type links struct {
	limit int
	n     int
	devs  map[uint64]map[uint64]linked // by device and inode
}

// linked is a file whose names were not all met yet.
type linked struct {
	first uint32 // number of the entry
	left  uint32 // names that are still to come
	mark  uint32 // of its state
}

func newLinks() *links { return &links{limit: maxLinked, devs: make(map[uint64]map[uint64]linked)} }

// meet takes a name of a file with several and returns the number of the
// entry that was its first name; else it remembers entry number as the first.
// An inode that changed since then may be another file by now: it counts as
// new, and reading the first will tell. ok is false if there is no room to
// remember it.
func (l *links) meet(st *unix.Stat_t, number uint64) (first uint64, found, ok bool) {
	dev := l.devs[st.Dev]
	was, found := dev[st.Ino]
	mark := markOf(st)
	if found && was.mark == mark {
		if was.left--; was.left == 0 {
			delete(dev, st.Ino)
			l.n--
		} else {
			dev[st.Ino] = was
		}
		return uint64(was.first), true, true
	}
	if !found && l.n >= l.limit || number > 1<<32-1 {
		return 0, false, false
	}
	if !found {
		l.n++
	}
	if dev == nil {
		dev = make(map[uint64]linked)
		l.devs[st.Dev] = dev
	}
	dev[st.Ino] = linked{first: uint32(number), left: uint32(min(uint64(st.Nlink)-1, 1<<32-1)), mark: mark}
	return 0, false, true
}

// markOf is a short form of what changes when a file does.
func markOf(st *unix.Stat_t) uint32 {
	h := uint64(st.Mode)
	for _, v := range [...]int64{st.Size, st.Ctim.Sec, st.Ctim.Nsec} {
		h = (h ^ uint64(v)) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return uint32(h >> 32)
}

package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Nodes keeps, beside a spool, the nodes (BLAKE3 chaining values) of the pieces
// of files that have more than one: what tells which piece of such a file is
// bad, and which of them a transfer that is resumed need not read again. 32
// bytes a piece, on disk. Safe for concurrent use.
type Nodes struct {
	runs  *records // by entry: where its nodes begin, and how many they are
	nodes *records

	mu   sync.Mutex
	next uint64 // the first place that no entry has
}

// runLen is an entry's run on disk: first place, count.
const runLen = 16

const nodeLen = 32

// CreateNodes makes the files in dir, where a spool is. It fails where they
// are already. The caller closes the Nodes.
func CreateNodes(dir string) (*Nodes, error) { return openNodes(dir, os.O_RDWR|os.O_CREATE|os.O_EXCL) }

// OpenNodes opens those that are in dir, for Get.
func OpenNodes(dir string) (*Nodes, error) { return openNodes(dir, os.O_RDWR) }

func openNodes(dir string, flags int) (*Nodes, error) {
	runs, err := os.OpenFile(filepath.Join(dir, "runs"), flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	nodes, err := os.OpenFile(filepath.Join(dir, "nodes"), flags, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nodes: %w", err), runs.Close())
	}
	return &Nodes{runs: newRecords(runs, runLen), nodes: newRecords(nodes, nodeLen)}, nil
}

// Reserve makes room for an entry's nodes. It is called once for an entry, of
// a spool that was just created.
func (n *Nodes) Reserve(entry, pieces uint64) error {
	n.mu.Lock()
	first := n.next
	n.next += pieces
	n.mu.Unlock()
	var b [runLen]byte
	binary.LittleEndian.PutUint64(b[0:], first)
	binary.LittleEndian.PutUint64(b[8:], pieces)
	return n.runs.set(entry, b[:])
}

// place is where the node of a piece lies; false for one that has none.
func (n *Nodes) place(entry, piece uint64) (uint64, bool, error) {
	var b [runLen]byte
	if err := n.runs.get(entry, b[:]); err != nil {
		return 0, false, err
	}
	first, pieces := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
	return first + piece, piece < pieces && first < maxSize, nil
}

// Set keeps the node of a piece of an entry that has room.
func (n *Nodes) Set(entry, piece uint64, node [32]byte) error {
	at, ok, err := n.place(entry, piece)
	if err == nil && !ok {
		err = fmt.Errorf("nodes: entry %d has no room for piece %d", entry, piece)
	}
	if err != nil {
		return err
	}
	return n.nodes.set(at, node[:])
}

// Get returns the node of a piece; false if it is not known.
func (n *Nodes) Get(entry, piece uint64) (node [32]byte, ok bool, err error) {
	at, ok, err := n.place(entry, piece)
	if err != nil || !ok {
		return node, false, err
	}
	if err := n.nodes.get(at, node[:]); err != nil {
		return node, false, err
	}
	return node, node != [32]byte{}, nil
}

// Sync has the disk keep them.
func (n *Nodes) Sync() error { return errors.Join(n.Flush(), n.nodes.f.Sync(), n.runs.f.Sync()) }

// Flush writes all that is only in memory.
func (n *Nodes) Flush() error { return errors.Join(n.nodes.flush(), n.runs.flush()) }

// Close writes all that is only in memory and closes the files.
func (n *Nodes) Close() error {
	return errors.Join(n.Flush(), n.nodes.f.Close(), n.runs.f.Close())
}

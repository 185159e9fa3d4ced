// Package manifest keeps what was read on the source and written on a target
// as a spool on disk: one entry for each file system object, its digest, and
// on the source its identity. Memory stays bounded whatever the number of
// entries.
//
// A spool is a directory of four files: entries (a header and the encoded
// records, one after the other), index (where each record ends), digests and
// idents (records of a fixed size). Entries are numbered from 0 in walk
// order.
package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// Version of the spool's files.
const Version = 1

// Digest rules: how a file's digest is made of its bytes.
const (
	RuleBLAKE3 = "blake3" // as b3sum prints it
	RuleNone   = "none"   // no digests are kept
)

// Header says what a spool is about.
type Header struct {
	Version    int    `json:"version"` // Create fills it in
	Transfer   string `json:"transfer"`
	DigestRule string `json:"digest_rule"`
	// Attempt is the same in the spools of the source and of all targets of one
	// attempt at a transfer, and in no others.
	Attempt string `json:"attempt,omitempty"`
}

const (
	magic        = "transferpy manifest\n"
	maxHeaderLen = 4096
	indexLen     = 8

	// bufferLen is how much is appended in memory before it is written.
	bufferLen = 256 << 10
)

// Spool is an open spool. Append is for one goroutine; all else is for any
// number of them, at any time until Close.
type Spool struct {
	header  Header
	start   int64 // where the first record begins
	count   atomic.Uint64
	entries *os.File
	index   *records
	digests *records
	idents  *records

	mu      sync.RWMutex // guards what follows
	flushed int64        // the file's length
	buf     []byte       // what follows it

	place  place // of Append alone: where in the tree the last entry was
	broken error // of Append alone: a write failed, entries and index may differ
}

// Header returns the spool's header.
func (s *Spool) Header() Header { return s.header }

// Len returns the number of entries.
func (s *Spool) Len() uint64 { return s.count.Load() }

// Append adds a batch of encoded records and returns the number of the first
// and how many they were. All are checked first: each must decode, come after
// its directory, and stand in walk order (a directory's descendants follow it
// in one run). A batch with one that does not is refused as a whole. After
// an error of the disk every later Append fails too.
func (s *Spool) Append(encoded []byte) (first uint64, n int, err error) {
	if s.broken != nil {
		return 0, 0, s.broken
	}
	first = s.count.Load()
	s.mu.RLock()
	at := s.flushed + int64(len(s.buf))
	s.mu.RUnlock()
	ends, err := s.check(encoded, at)
	if err != nil || len(ends) == 0 {
		return 0, 0, err
	}
	if err := s.add(encoded, first, ends); err != nil {
		s.broken = err
		return 0, 0, err
	}
	// Only now can readers see them.
	s.count.Store(first + uint64(len(ends)))
	return first, len(ends), nil
}

// add writes a batch that was checked, and where its records end.
func (s *Spool) add(encoded []byte, first uint64, ends []int64) error {
	s.mu.Lock()
	s.buf = append(s.buf, encoded...)
	var err error
	if len(s.buf) >= bufferLen {
		err = s.flush()
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	var b [indexLen]byte
	for i, end := range ends {
		binary.LittleEndian.PutUint64(b[:], uint64(end))
		if err := s.index.set(first+uint64(i), b[:]); err != nil {
			return err
		}
	}
	return nil
}

// check decodes a batch that begins at byte at and returns where each record
// ends. The place in the tree moves on only if all records are good.
func (s *Spool) check(encoded []byte, at int64) ([]int64, error) {
	var ends []int64
	next := s.place
	for rest := encoded; len(rest) > 0; {
		e, after, err := DecodeEntry(rest)
		if err != nil {
			return nil, err
		}
		if err := next.step(&e); err != nil {
			return nil, err
		}
		if number := s.count.Load() + uint64(len(ends)); e.HardLink > number {
			return nil, fmt.Errorf("entry %s is a hard link of entry %d, which does not precede it", e.Path.Display(), e.HardLink-1)
		}
		at += int64(len(rest) - len(after))
		ends = append(ends, at)
		rest = after
	}
	s.place = next
	return ends, nil
}

// flush writes the buffer; the caller holds mu.
func (s *Spool) flush() error {
	n, err := s.entries.WriteAt(s.buf, s.flushed)
	if err != nil {
		// The buffer stays, so a repeat writes all of it again.
		return fmt.Errorf("manifest spool: %w", err)
	}
	s.flushed += int64(n)
	s.buf = s.buf[:0]
	return nil
}

// end returns the offset at which record n ends.
func (s *Spool) end(n uint64) (int64, error) {
	var b [indexLen]byte
	if err := s.index.get(n, b[:]); err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(b[:])), nil
}

// Entry returns entry n.
func (s *Spool) Entry(n uint64) (Entry, error) {
	if err := s.known(n); err != nil {
		return Entry{}, err
	}
	start, end := s.start, int64(0)
	var err error
	if n > 0 {
		if start, err = s.end(n - 1); err != nil {
			return Entry{}, err
		}
	}
	if end, err = s.end(n); err != nil {
		return Entry{}, err
	}
	if start < s.start || end <= start || end-start > MaxEntryLen {
		return Entry{}, fmt.Errorf("manifest spool: entry %d lies at bytes %d to %d", n, start, end)
	}
	b, err := s.bytes(start, int(end-start))
	if err != nil {
		return Entry{}, err
	}
	e, rest, err := DecodeEntry(b)
	if err == nil && len(rest) > 0 {
		err = errors.New("entry: record shorter than the index says")
	}
	return e, err
}

// bytes returns a copy of n bytes of the entries file, from wherever they
// are.
func (s *Spool) bytes(at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	s.mu.RLock()
	if in := at - s.flushed; in >= 0 {
		defer s.mu.RUnlock()
		if in+int64(n) > int64(len(s.buf)) {
			return nil, io.ErrUnexpectedEOF
		}
		copy(b, s.buf[in:])
		return b, nil
	}
	s.mu.RUnlock()
	// A batch is flushed as a whole, so a record never lies on both sides.
	if _, err := s.entries.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("manifest spool: %w", err)
	}
	return b, nil
}

func (s *Spool) known(n uint64) error {
	if count := s.count.Load(); n >= count {
		return fmt.Errorf("manifest spool: no entry %d; there are %d", n, count)
	}
	return nil
}

// SetDigest keeps d as the digest of entry n, in place of an earlier one.
func (s *Spool) SetDigest(n uint64, d Digest) error {
	if err := s.known(n); err != nil {
		return err
	}
	if d.Size < 0 || d.State > DigestKept {
		return fmt.Errorf("manifest spool: entry %d: malformed digest", n)
	}
	var b [digestLen]byte
	d.encode(&b)
	return s.digests.set(n, b[:])
}

// Digest returns the digest of entry n; one in DigestNone if none was set.
func (s *Spool) Digest(n uint64) (d Digest, err error) {
	if err := s.known(n); err != nil {
		return Digest{}, err
	}
	var b [digestLen]byte
	if err := s.digests.get(n, b[:]); err != nil {
		return Digest{}, err
	}
	err = d.decode(&b)
	return d, err
}

// SetIdent keeps id as the identity of entry n when it was walked.
func (s *Spool) SetIdent(n uint64, id Ident) error {
	if err := s.known(n); err != nil {
		return err
	}
	var b [identLen]byte
	id.encode(&b)
	return s.idents.set(n, b[:])
}

// Ident returns the identity of entry n; a zero one if none was set.
func (s *Spool) Ident(n uint64) (id Ident, err error) {
	if err := s.known(n); err != nil {
		return Ident{}, err
	}
	var b [identLen]byte
	if err := s.idents.get(n, b[:]); err != nil {
		return Ident{}, err
	}
	id.decode(&b)
	return id, nil
}

// Sync writes all that is only in memory and has the disk keep it. Without
// it a crash may leave a spool that Open refuses.
func (s *Spool) Sync() error {
	if err := s.flushAll(); err != nil {
		return err
	}
	for _, f := range [...]*os.File{s.entries, s.index.f, s.digests.f, s.idents.f} {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("manifest spool: %w", err)
		}
	}
	return nil
}

func (s *Spool) flushAll() error {
	s.mu.Lock()
	err := s.flush()
	s.mu.Unlock()
	return errors.Join(err, s.index.flush(), s.digests.flush(), s.idents.flush())
}

// Flush writes all that is only in memory, so that another Open of the same
// spool sees it.
func (s *Spool) Flush() error { return s.flushAll() }

// Close writes all that is only in memory and closes the files.
func (s *Spool) Close() error {
	return errors.Join(s.flushAll(), s.abandon())
}

// abandon closes the files as they are.
func (s *Spool) abandon() error {
	return errors.Join(s.entries.Close(), s.index.f.Close(), s.digests.f.Close(), s.idents.f.Close())
}

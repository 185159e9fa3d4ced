package manifest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Create makes a new spool in dir, which exists and is closed to others. It
// fails where one is already.
func Create(dir string, h Header) (*Spool, error) {
	h.Version = Version
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("manifest spool: %w", err)
	}
	if len(head) > maxHeaderLen || (h.DigestRule != RuleBLAKE3 && h.DigestRule != RuleNone) {
		return nil, fmt.Errorf("manifest spool: header %.100q is not allowed", head)
	}
	s, err := open(dir, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	s.header = h
	s.buf = append(s.buf, magic...)
	s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(len(head)))
	s.buf = append(s.buf, head...)
	s.start = int64(len(s.buf))
	if err := s.flush(); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}

// Open opens the spool in dir. One that was cut short, by a crash before
// Sync, is refused.
func Open(dir string) (*Spool, error) {
	s, err := open(dir, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := s.readHeader(); err != nil {
		return nil, errors.Join(fmt.Errorf("manifest spool %q: %w", dir, err), s.abandon())
	}
	return s, nil
}

// OpenPart opens what a process that has died has left of the spool in dir, for
// reading: the entries before the first that is not whole, limit of them at
// most.
func OpenPart(dir string, limit uint64) (*Spool, error) {
	s, err := open(dir, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err = s.readFixed(); err == nil {
		err = s.measurePart(limit)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("manifest spool %q: %w", dir, err), s.abandon())
	}
	s.broken = errors.New("manifest spool: it is open for reading only")
	return s, nil
}

// measurePart counts the entries whose records are whole by the index.
func (s *Spool) measurePart(limit uint64) error {
	info, err := s.entries.Stat()
	if err != nil {
		return err
	}
	s.flushed = info.Size()
	count, last := uint64(0), s.start
	for count < limit {
		end, err := s.end(count)
		if err != nil {
			return err
		}
		if end <= last || end > s.flushed || end-last > MaxEntryLen {
			break
		}
		count, last = count+1, end
	}
	s.count.Store(count)
	return nil
}

// open opens the four files.
func open(dir string, flags int) (*Spool, error) {
	var files [4]*os.File
	for i, name := range [...]string{"entries", "index", "digests", "idents"} {
		f, err := os.OpenFile(filepath.Join(dir, name), flags, 0o600)
		if err != nil {
			for _, f := range files[:i] {
				err = errors.Join(err, f.Close())
			}
			return nil, fmt.Errorf("manifest spool: %w", err)
		}
		files[i] = f
	}
	return &Spool{
		entries: files[0],
		index:   newRecords(files[1], indexLen),
		digests: newRecords(files[2], digestLen),
		idents:  newRecords(files[3], identLen),
	}, nil
}

// readHeader reads the header and checks that index and entries belong
// together.
func (s *Spool) readHeader() error {
	if err := s.readFixed(); err != nil {
		return err
	}
	return s.measure()
}

// readFixed reads the header.
func (s *Spool) readFixed() error {
	var fixed [len(magic) + 4]byte
	if _, err := io.ReadFull(io.NewSectionReader(s.entries, 0, int64(len(fixed))), fixed[:]); err != nil {
		return fmt.Errorf("no header: %w", err)
	}
	size := binary.LittleEndian.Uint32(fixed[len(magic):])
	if string(fixed[:len(magic)]) != magic || size > maxHeaderLen {
		return errors.New("not a manifest spool")
	}
	head := make([]byte, size)
	if _, err := s.entries.ReadAt(head, int64(len(fixed))); err != nil {
		return fmt.Errorf("no header: %w", err)
	}
	if err := json.Unmarshal(head, &s.header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if s.header.Version != Version {
		return fmt.Errorf("version %d; this agent knows %d", s.header.Version, Version)
	}
	s.start = int64(len(fixed)) + int64(size)
	return nil
}

// measure finds the number of entries of a spool that was opened.
func (s *Spool) measure() error {
	entries, err := s.entries.Stat()
	if err != nil {
		return err
	}
	count, err := s.readCount()
	if err != nil {
		return err
	}
	s.flushed = entries.Size()
	s.count.Store(count)
	end := s.start
	if count > 0 {
		if end, err = s.end(count - 1); err != nil {
			return err
		}
	}
	if end != s.flushed {
		return fmt.Errorf("cut short: records end at byte %d, the file at %d", end, s.flushed)
	}
	return s.findPlace()
}

// readCount is the number of index records: pages are written whole, so the
// file ends in zeros, which no record's end can be.
func (s *Spool) readCount() (uint64, error) {
	info, err := s.index.f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size()%indexLen != 0 {
		return 0, errors.New("cut short: the index ends within a record")
	}
	count := uint64(info.Size()) / indexLen
	for spare := 0; count > 0 && spare < pageRecords; spare++ {
		end, err := s.end(count - 1)
		if err != nil {
			return 0, err
		}
		if end != 0 {
			break
		}
		count--
	}
	return count, nil
}

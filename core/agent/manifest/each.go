package manifest

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"lukechampine.com/blake3"

	"github.com/transferpy/transferpy/sdk"
)

// Each calls fn for every entry that is there when it begins, in walk order.
// It stops at fn's first error and returns it, or at the end of ctx.
func (s *Spool) Each(ctx context.Context, fn func(n uint64, e Entry, d Digest) error) error {
	return s.each(ctx, func(n uint64, record []byte) error {
		e, _, err := DecodeEntry(record)
		if err != nil {
			return err
		}
		d, err := s.Digest(n)
		if err != nil {
			return err
		}
		return fn(n, e, d)
	})
}

// Records calls fn for the encoded records from entry from on, in walk order.
// Their memory is reused. It stops as Each does.
func (s *Spool) Records(ctx context.Context, from uint64, fn func(n uint64, record []byte) error) error {
	return s.eachFrom(ctx, from, fn)
}

// each hands out encoded records, whose memory is reused.
func (s *Spool) each(ctx context.Context, fn func(n uint64, record []byte) error) error {
	return s.eachFrom(ctx, 0, fn)
}

func (s *Spool) eachFrom(ctx context.Context, from uint64, fn func(n uint64, record []byte) error) error {
	count := s.Len()
	if from >= count {
		return nil
	}
	at := s.start
	if from > 0 {
		var err error
		if at, err = s.end(from - 1); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err := s.flush()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(s.entries, at, math.MaxInt64-at), 64<<10)
	var record []byte
	for n := from; n < count; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if record, err = readRecord(r, record[:0]); err != nil {
			return fmt.Errorf("manifest spool: entry %d: %w", n, err)
		}
		if err := fn(n, record); err != nil {
			return err
		}
	}
	return nil
}

// readRecord reads one encoded record into dst.
func readRecord(r *bufio.Reader, dst []byte) ([]byte, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if size > MaxEntryLen {
		return nil, fmt.Errorf("record of %d bytes", size)
	}
	dst = binary.AppendUvarint(dst, size)
	head := len(dst)
	if need := head + int(size); cap(dst) < need {
		dst = append(make([]byte, 0, 2*need), dst...)
	}
	dst = dst[:head+int(size)]
	_, err = io.ReadFull(r, dst[head:])
	return dst, err
}

// rootContext opens the bytes that Root digests, so that they are never
// those of another structure.
const rootContext = "transferpy manifest root 1\n"

// Root returns the digest over the whole manifest: BLAKE3 over a line that
// names the structure, the digest rule and a newline, then for each entry in
// walk order its encoded record and, for regular files that are no hard link of
// an earlier entry, its digest record
// (state, 7 bytes of zero, size and sum, as on disk). Two spools with the
// same entries and digests have the same root, whatever their transfer.
func (s *Spool) Root(ctx context.Context) ([32]byte, error) {
	h := blake3.New(32, nil)
	write := func(b []byte) {
		_, _ = h.Write(b) // a hash never fails
	}
	write([]byte(rootContext + s.header.DigestRule + "\n"))
	err := s.each(ctx, func(n uint64, record []byte) error {
		e, _, err := DecodeEntry(record)
		if err != nil {
			return err
		}
		write(record)
		if e.Type != sdk.FileRegular || e.HardLink != 0 {
			return nil
		}
		var b [digestLen]byte
		if err := s.digests.get(n, b[:]); err != nil {
			return err
		}
		write(b[:])
		return nil
	})
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h.Sum(nil)), nil
}

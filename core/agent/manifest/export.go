package manifest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"lukechampine.com/blake3"

	"github.com/transferpy/transferpy/sdk"
)

// bears reports whether an entry has a digest record of its own in a root and
// in an export.
func bears(e *Entry) bool { return HasContent(e) }

// HasContent reports whether an entry is a regular file that brings bytes of
// its own, if only none: no further name of another.
func HasContent(e *Entry) bool { return e.Type == sdk.FileRegular && e.HardLink == 0 }

// Export writes the manifest to w in the form that Import reads: for each
// entry in walk order what Root digests of it, the encoded record and, where
// it bears one, its digest record.
func (s *Spool) Export(ctx context.Context, w io.Writer) error {
	return s.each(ctx, func(n uint64, record []byte) error {
		e, _, err := DecodeEntry(record)
		if err != nil {
			return err
		}
		if _, err := w.Write(record); err != nil || !bears(&e) {
			return err
		}
		var b [digestLen]byte
		if err := s.digests.get(n, b[:]); err != nil {
			return err
		}
		_, err = w.Write(b[:])
		return err
	})
}

// Import reads what Export wrote, up to the end of r, and calls fn for each
// entry. It stops at fn's first error. Of what r says nothing is believed but
// that each entry is one: compare the Root.
func Import(r io.Reader, fn func(e Entry, d Digest) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var record []byte
	for n := 0; ; n++ {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return nil
		}
		var err error
		if record, err = readRecord(in, record[:0]); err != nil {
			return fmt.Errorf("manifest: entry %d: %w", n, cut(err))
		}
		e, _, err := DecodeEntry(record)
		if err != nil {
			return err
		}
		var d Digest
		if bears(&e) {
			var b [digestLen]byte
			if _, err := io.ReadFull(in, b[:]); err != nil {
				return fmt.Errorf("manifest: entry %d: %w", n, cut(err))
			}
			if err := d.decode(&b); err != nil {
				return err
			}
		}
		if err := fn(e, d); err != nil {
			return err
		}
	}
}

// cut says that an end is no end.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Root digests a manifest entry by entry, to the sum that Spool.Root returns
// for the same entries and digests. Not safe for concurrent use.
type Root struct {
	hash   hash.Hash
	record []byte
}

// NewRoot makes the Root of a manifest with that digest rule.
func NewRoot(rule string) *Root {
	h := blake3.New(32, nil)
	_, _ = h.Write([]byte(rootContext + rule + "\n")) // a hash never fails
	return &Root{hash: h}
}

// Add adds the next entry in walk order, and its digest.
func (r *Root) Add(e *Entry, d *Digest) error {
	record, err := AppendEntry(r.record[:0], e)
	if err != nil {
		return err
	}
	r.record = record
	_, _ = r.hash.Write(record)
	if bears(e) {
		var b [digestLen]byte
		d.encode(&b)
		_, _ = r.hash.Write(b[:])
	}
	return nil
}

// Sum returns the digest over what was added so far.
func (r *Root) Sum() [32]byte { return [32]byte(r.hash.Sum(nil)) }

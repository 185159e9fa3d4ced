package unpack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// written is something that was unpacked, whole.
type written struct {
	entry manifest.Entry
	sum   [32]byte // of a regular file, where digests are kept
}

// ledger remembers what was unpacked, in a file without a name. A manifest's
// spool could not: an archive need not be in the order of a walk.
//
// A record is a length of 4 bytes, an encoded manifest entry of that length,
// and 32 bytes of digest.
type ledger struct {
	f     *os.File
	w     *bufio.Writer
	n     uint64
	again map[sdk.Raw]uint64 // paths written more than once: the number of the last record
}

// maxAgain bounds the files that an archive writes again.
const maxAgain = 100_000

func newLedger(dir string) (*ledger, error) {
	f, err := os.CreateTemp(dir, "unpacked-")
	if err == nil {
		if err = os.Remove(f.Name()); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot note what is unpacked: %w", err)
	}
	return &ledger{f: f, w: bufio.NewWriterSize(f, 64<<10), again: make(map[sdk.Raw]uint64)}, nil
}

func (l *ledger) add(r *written) error {
	b, err := manifest.AppendEntry(make([]byte, 4, 256), &r.entry)
	if err != nil {
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: "the archive holds what cannot be unpacked: " + err.Error()}
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	if _, ok := l.again[r.entry.Path]; ok {
		l.again[r.entry.Path] = l.n
	}
	l.n++
	if _, err := l.w.Write(append(b, r.sum[:]...)); err != nil {
		return fmt.Errorf("cannot note what is unpacked: %w", err)
	}
	return nil
}

// replace says that a path's record is to be superseded by a later one.
func (l *ledger) replace(path sdk.Raw) error {
	if len(l.again) >= maxAgain {
		return damaged("the archive writes more than %d files again", maxAgain)
	}
	l.again[path] = math.MaxUint64
	return nil
}

// each calls fn for all records that are not superseded, in their order.
func (l *ledger) each(ctx context.Context, fn func(*written) error) error {
	if err := l.w.Flush(); err != nil {
		return fmt.Errorf("cannot note what is unpacked: %w", err)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(l.f, 0, math.MaxInt64), 64<<10)
	for n := range l.n {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r, err := readWritten(in)
		if err != nil {
			return fmt.Errorf("what was noted of unpacked files cannot be read: %w", err)
		}
		if last, ok := l.again[r.entry.Path]; ok && n != last {
			continue
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func readWritten(in io.Reader) (*written, error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > manifest.MaxEntryLen {
		return nil, errors.New("a record is too long")
	}
	b := make([]byte, n+32)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, err
	}
	r := &written{sum: [32]byte(b[n:])}
	var err error
	r.entry, _, err = manifest.DecodeEntry(b[:n])
	return r, err
}

func (l *ledger) close() error { return l.f.Close() }

package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"lukechampine.com/blake3"

	"github.com/transferpy/transferpy/core/agent/digest"
)

// A checkpoint is a file beside a target's spool that says how much of what it
// was sent is on the disk: the entries before a number, all of whose content is
// there, but for the files that the checkpoint lists with the pieces that they
// have. So it is small, whatever the number of entries. It is a hint that saves
// work: a resumed transfer reads back all that it takes over.
//
// All numbers are big-endian: the magic; the number of entries, that of files
// listed; for each, in ascending order, its entry, its number of pieces and
// where its bits begin in what follows; the bits, a word for 64 pieces; BLAKE3
// of all before.
const (
	checkpointName  = "checkpoint"
	checkpointMagic = "transferpy checkpoint 1\n"
	checkpointHead  = len(checkpointMagic) + 2*8
	partLen         = 3 * 8
	maxCheckpoint   = 1 << 30 // bytes of one
)

// partial is a file that a target has in part.
type partial struct {
	entry  uint64
	pieces uint64
	have   []uint64 // a bit for each
}

// writeCheckpoint writes a checkpoint, its files in ascending order.
func writeCheckpoint(w io.Writer, entries uint64, files []partial) error {
	h := blake3.New(32, nil)
	out := bufio.NewWriterSize(io.MultiWriter(w, h), 64<<10)
	put := func(n uint64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], n)
		_, _ = out.Write(b[:]) // told by Flush
	}
	_, _ = out.WriteString(checkpointMagic)
	put(entries)
	put(uint64(len(files)))
	at := uint64(0)
	for _, p := range files {
		put(p.entry)
		put(p.pieces)
		put(at)
		at += words(p.pieces)
	}
	for _, p := range files {
		for _, word := range p.have {
			put(word)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := w.Write(h.Sum(nil))
	return err
}

func words(pieces uint64) uint64 { return pieces/64 + min(pieces%64, 1) }

// saveCheckpoint puts a checkpoint into dir, in place of the one before, and
// has the disk keep it.
func saveCheckpoint(dir string, entries uint64, files []partial) (err error) {
	name := filepath.Join(dir, checkpointName)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	err = errors.Join(writeCheckpoint(f, entries, files), f.Sync())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer d.Close()
	return d.Sync()
}

// checkpoint is one that is read, from wherever it lies.
type checkpoint struct {
	r       io.ReaderAt
	entries uint64 // those before it are known
	files   uint64 // listed
	bits    int64  // where they begin
	words   uint64 // of bits
}

// readCheckpoint checks a checkpoint of so many bytes. One that is damaged is
// an error: it proves nothing.
func readCheckpoint(r io.ReaderAt, size int64) (*checkpoint, error) {
	c := &checkpoint{r: r}
	if size < int64(checkpointHead)+digestSize || size > maxCheckpoint {
		return nil, fmt.Errorf("checkpoint: %d bytes", size)
	}
	h := blake3.New(32, nil)
	in := bufio.NewReaderSize(io.TeeReader(io.NewSectionReader(r, 0, size-digestSize), h), 64<<10)
	if err := c.scan(in, size); err != nil {
		return nil, err
	}
	sum := make([]byte, digestSize)
	if _, err := r.ReadAt(sum, size-digestSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if !bytes.Equal(sum, h.Sum(nil)) {
		return nil, errors.New("checkpoint: it is damaged")
	}
	return c, nil
}

const digestSize = int64(len(digest.Sum{}))

// scan reads all but the digest.
func (c *checkpoint) scan(in *bufio.Reader, size int64) error {
	broken := func(what string) error { return errors.New("checkpoint: " + what) }
	head := make([]byte, checkpointHead)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(checkpointMagic)]) != checkpointMagic {
		return broken("it is none")
	}
	c.entries = binary.BigEndian.Uint64(head[len(checkpointMagic):])
	c.files = binary.BigEndian.Uint64(head[len(checkpointMagic)+8:])
	rest := uint64(size) - uint64(checkpointHead) - uint64(digestSize)
	if c.files > rest/partLen || (rest-c.files*partLen)%8 != 0 {
		return broken("its files do not fit")
	}
	c.bits, c.words = int64(checkpointHead)+int64(c.files*partLen), (rest-c.files*partLen)/8
	next, at := uint64(0), uint64(0)
	b := make([]byte, partLen)
	for range c.files {
		if _, err := io.ReadFull(in, b); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		p, begin := parsePart(b)
		if p.entry < next || p.entry >= c.entries || begin != at || words(p.pieces) > c.words-at {
			return broken("a file in it makes no sense")
		}
		next, at = p.entry+1, at+words(p.pieces)
	}
	if at != c.words {
		return broken("it has more pieces than files")
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

func parsePart(b []byte) (p partial, begin uint64) {
	return partial{entry: binary.BigEndian.Uint64(b), pieces: binary.BigEndian.Uint64(b[8:])}, binary.BigEndian.Uint64(b[16:])
}

// part returns the i-th file listed, without its bits, and where these begin.
func (c *checkpoint) part(i uint64) (partial, uint64, error) {
	b := make([]byte, partLen)
	if _, err := c.r.ReadAt(b, int64(checkpointHead)+int64(i*partLen)); err != nil {
		return partial{}, 0, fmt.Errorf("checkpoint: %w", err)
	}
	p, begin := parsePart(b)
	return p, begin, nil
}

// find returns a file that is listed; false for one that is not.
func (c *checkpoint) find(entry uint64) (partial, bool, error) {
	from, to := uint64(0), c.files
	for from < to {
		mid := from + (to-from)/2
		p, begin, err := c.part(mid)
		switch {
		case err != nil:
			return partial{}, false, err
		case p.entry == entry:
			return p, true, c.load(&p, begin)
		case p.entry < entry:
			from = mid + 1
		default:
			to = mid
		}
	}
	return partial{}, false, nil
}

// load reads a file's bits.
func (c *checkpoint) load(p *partial, begin uint64) error {
	b := make([]byte, 8*words(p.pieces)) // no more than the file has
	if _, err := c.r.ReadAt(b, c.bits+int64(8*begin)); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	p.have = make([]uint64, 0, len(b)/8)
	for word := range slices.Chunk(b, 8) {
		p.have = append(p.have, binary.BigEndian.Uint64(word))
	}
	return nil
}

package agent

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/relay"
)

// testPacker is a packer for a codec, with a budget that would show a leak.
func testPacker(t *testing.T, name string) (*packer, *relay.Budget) {
	t.Helper()
	comp, err := newCompressor(control.Settings{Codec: name})
	if err != nil {
		t.Fatal(err)
	}
	budget := relay.NewBudget(4 << 20)
	return newPacker(budget, comp, true), budget
}

// contents of pieces, compressible and not, whole and short.
func contents() map[string][]byte {
	random := make([]byte, digest.PieceSize)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(random)
	text := bytes.Repeat([]byte("all work and no play "), digest.PieceSize/20)[:digest.PieceSize]
	return map[string][]byte{
		"random": random, "text": text, "half": append(text[:digest.PieceSize/2:digest.PieceSize/2], random[:digest.PieceSize/2]...),
		"short random": random[:5000], "short text": text[:5000], "byte": text[:1], "nearly all": text[:digest.PieceSize-1],
	}
}

// TestPieces: whatever the codec does with a piece, what the frame carries is
// what was read, the node is that of the content, and all memory comes back.
func TestPieces(t *testing.T) {
	for _, name := range codec.Names() {
		k, budget := testPacker(t, name)
		for round := range 3 { // the second one in memory that was used
			for what, content := range contents() {
				s, node, err := k.piece(t.Context(), 7, 2, len(content), func(b []byte) error { copy(b, content); return nil })
				if err != nil {
					t.Fatal(err)
				}
				where := fmt.Sprintf("%s, %s, round %d", name, what, round)
				got, err := codec.Decompress(codec.ID(s.Codec), nil, s.Payload(), s.Decoded)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s: %v, %d bytes", where, err, len(got))
				}
				if node != digest.Piece(2, content) {
					t.Errorf("%s: the node is not the content's", where)
				}
				if sum, _ := frameSum(s.Frame, true); sum != s.sum {
					t.Errorf("%s: the frame's digest is not the frame's", where)
				}
				// auto may take a file for one that does not compress.
				if stored := s.Codec == 0; name != codec.NameAuto && stored != (name == codec.NameNone || what == "random" || what == "short random" || what == "byte") {
					t.Errorf("%s: stored: %v", where, stored)
				}
				s.Release()
			}
		}
		if buf, err := budget.Get(t.Context(), 4<<20); err != nil {
			t.Fatal(err)
		} else {
			buf.Release()
		}
	}
}

// TestPack is TestPieces for frames of many files, which are gathered first.
func TestPack(t *testing.T) {
	for _, name := range codec.Names() {
		k, _ := testPacker(t, name)
		for what, content := range contents() {
			for _, n := range []int{1, 900} {
				extents := make([]frame.Extent, n)
				for i := range extents {
					extents[i] = frame.Extent{Entry: uint64(i), Length: 1}
				}
				extents[0].Length = uint64(len(content) - n + 1)
				if n > len(content) {
					continue
				}
				s, err := k.pack(t.Context(), frame.TypeData, extents, content, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := codec.Decompress(codec.ID(s.Codec), nil, s.Payload(), s.Decoded); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s, %s: %v, %d bytes", name, what, err, len(got))
				}
				s.Release()
			}
		}
	}
}

// TestWhatDoesNotCompressIsHardlyTried: the cost of auto where it gains
// nothing.
func TestWhatDoesNotCompressIsHardlyTried(t *testing.T) {
	c, err := newCompressor(control.Settings{Codec: codec.NameAuto})
	if err != nil {
		t.Fatal(err)
	}
	random := contents()["random"]
	tried := 0
	for range 4000 {
		a := c.of(1)
		if with := c.choose(a); with != nil {
			tried++
			if _, saved := c.encode(with, a, nil, random); saved {
				t.Fatal("random bytes are worth compressing")
			}
		}
	}
	if tried > 80 {
		t.Errorf("%d of 4000 frames were tried", tried)
	}
	// The next file is another matter, and so are small files.
	if c.choose(c.of(2)) == nil || c.choose(c.small) == nil {
		t.Error("others pay for it")
	}
}

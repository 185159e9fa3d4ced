package digest

import (
	"math/rand/v2"
	"testing"

	"lukechampine.com/blake3"
)

func TestSumIsBlake3(t *testing.T) {
	sizes := []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 16383, 16384, 16385, 100_000, PieceSize - 1, PieceSize,
		PieceSize + 1, 2 * PieceSize, 2*PieceSize + 5, 3 * PieceSize, 4 * PieceSize, 5*PieceSize - 7, 8 * PieceSize, 11*PieceSize + 1024}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range sizes {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		want := Sum(blake3.Sum256(data))
		for round := range 3 {
			tree := NewTree()
			order := rng.Perm(int(Pieces(int64(size))))
			if round == 0 { // in order
				for i := range order {
					order[i] = i
				}
			}
			for i, p := range order {
				if i%2 == 1 && size > PieceSize { // as a transfer that is resumed knows some
					piece := data[p*PieceSize : min((p+1)*PieceSize, size)]
					if !tree.AddValue(uint64(p), Piece(uint64(p), piece).Value(), len(piece)) {
						t.Fatalf("size %d: piece %d was there already", size, p)
					}
					continue
				}
				piece := data[p*PieceSize : min((p+1)*PieceSize, size)]
				if !tree.Add(uint64(p), Piece(uint64(p), piece), len(piece)) {
					t.Fatalf("size %d: piece %d was there already", size, p)
				}
				if tree.Add(uint64(p), Piece(uint64(p), piece), len(piece)) {
					t.Fatalf("size %d: piece %d was taken twice", size, p)
				}
			}
			got, err := tree.Sum(int64(size))
			if err != nil || got != want {
				t.Errorf("size %d round %d: got %v (%v), want %v", size, round, got, err, want)
			}
		}
	}
}

func TestSumWithAGap(t *testing.T) {
	tree := NewTree()
	piece := make([]byte, PieceSize)
	for _, p := range []uint64{0, 1, 3} {
		tree.Add(p, Piece(p, piece), PieceSize)
	}
	if _, err := tree.Sum(4 * PieceSize); err == nil {
		t.Error("a digest came out although a piece is missing")
	}
	if !tree.Has(1) || tree.Has(2) {
		t.Error("Has is wrong about pieces 1 and 2")
	}
}

func BenchmarkPiece(b *testing.B) {
	data := make([]byte, PieceSize)
	b.SetBytes(PieceSize)
	for i := 0; b.Loop(); i++ {
		Piece(uint64(i), data)
	}
}

package agent

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// rig is a target's files below a directory of the test's.
type fileRig struct {
	*files
	t       *testing.T
	path    string // of the one file, number 7
	content []byte
	entry   manifest.Entry
}

func newFileRig(t *testing.T, level control.VerifyLevel, p proof, size int) *fileRig {
	t.Helper()
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	disk, err := tree.NewSink(root, tree.SinkOptions{Root: os.Geteuid() == 0})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	r := &fileRig{files: newFiles(disk, &meter{}, level, false), t: t, path: filepath.Join(dir, "f"), content: make([]byte, size)}
	r.proof, r.spare = p, p != proveNow
	t.Cleanup(r.close)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(r.content)
	r.entry = manifest.Entry{Path: "f", Type: sdk.FileRegular, Mode: 0o600, Size: int64(size)}
	if err := r.expect(7, r.entry); err != nil {
		t.Fatal(err)
	}
	return r
}

// send writes one piece, as a frame that carries it stored would.
func (r *fileRig) send(index uint64) {
	r.t.Helper()
	from := index * digest.PieceSize
	content := r.content[from:min(from+digest.PieceSize, uint64(len(r.content)))]
	buf := append(make([]byte, frame.PayloadAt(1)), content...)
	f, err := frame.Build(buf, frame.TypeData, 0, 1, []frame.Extent{{Entry: 7, Offset: from, Length: uint64(len(content))}}, len(content))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.write(f, content, []digest.Node{digest.Piece(index, content)}, make([]byte, digest.PieceSize)); err != nil {
		r.t.Fatal(err)
	}
}

// damageDisk alters a byte of what was written.
func (r *fileRig) damageDisk(off int64) {
	r.t.Helper()
	f, err := os.OpenFile(r.path, os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{r.content[off] ^ 1}, off); err != nil {
		r.t.Fatal(err)
	}
}

func (r *fileRig) prove() {
	r.t.Helper()
	if err := r.proveAhead(0, make([]byte, digest.PieceSize)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *fileRig) tell(sum digest.Sum) {
	r.t.Helper()
	if err := r.told(frame.FileDigest{Entry: 7, Size: uint64(len(r.content)), Sum: sum}, func() sdk.Raw { return "f" }); err != nil {
		r.t.Fatal(err)
	}
}

// TestDamagedPieceIsMissingAgain: what is not read back as it was written is
// on the need-list, and nothing else; when it has come once more the file is
// proven.
func TestDamagedPieceIsMissingAgain(t *testing.T) {
	r := newFileRig(t, control.VerifyReadBack, proveSoon, 3*digest.PieceSize+1000)
	for i := range uint64(4) {
		r.send(i)
	}
	if need := r.missing(maxNeed); need != nil {
		t.Fatalf("all has arrived, and %v is missing", need)
	}
	r.damageDisk(digest.PieceSize + 17)
	r.prove()
	if diff := cmp.Diff([]frame.NeedRange{{Entry: 7, Piece: 1, Count: 1}}, r.missing(maxNeed)); diff != "" {
		t.Fatal("need-list:", diff)
	}
	r.tell(digest.Of(r.content))
	if r.proven.has(7) {
		t.Fatal("a file that lacks a piece is proven")
	}
	r.send(1)
	r.send(1) // frames may come twice
	r.prove()
	if need := r.missing(maxNeed); need != nil || !r.proven.has(7) {
		t.Fatalf("after the repair %v is missing, proven: %v", need, r.proven.has(7))
	}
	if got, err := os.ReadFile(r.path); err != nil || !bytes.Equal(got, r.content) {
		t.Fatal("the file is not what was sent", err)
	}
	if r.meter.files.Load() != 1 || r.meter.bytes.Load() != int64(len(r.content)) {
		t.Errorf("booked %d files and %d bytes", r.meter.files.Load(), r.meter.bytes.Load())
	}
}

// TestProofByLevel: when a file counts as proven, by when it is read back.
func TestProofByLevel(t *testing.T) {
	const small, large = 1000, digest.PieceSize + 1
	for _, c := range []struct {
		name      string
		level     control.VerifyLevel
		proof     proof
		size      int
		onArrival bool
		proven    bool // once the window was read back
	}{
		{"in memory, small", control.VerifyReadBack, proveNow, small, true, true},
		{"in memory, large", control.VerifyReadBack, proveNow, large, true, true},
		{"on disk, small: with the others at the end", control.VerifyReadBack, proveSoon, small, false, false},
		{"on disk, large", control.VerifyReadBack, proveSoon, large, false, true},
		{"received", control.VerifyReceived, proveNever, large, true, true},
		{"signed", control.VerifySigned, proveNever, large, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newFileRig(t, c.level, c.proof, c.size)
			r.tell(digest.Of(r.content))
			for i := range digest.Pieces(int64(c.size)) {
				r.send(i)
			}
			if got := r.proven.has(7); got != c.onArrival {
				t.Errorf("proven on arrival: %v", got)
			}
			r.prove()
			if got := r.proven.has(7); got != c.proven {
				t.Errorf("proven: %v", got)
			}
		})
	}
}

// TestOtherDigestIsSuspect: a file that is read back as it was written, and
// is not what the source read, was altered before.
func TestOtherDigestIsSuspect(t *testing.T) {
	for _, p := range []proof{proveNow, proveSoon} {
		r := newFileRig(t, control.VerifyReadBack, p, 2*digest.PieceSize)
		r.send(0)
		r.send(1)
		r.prove()
		r.tell(digest.Of(r.content[1:]))
		if len(r.suspects) != 1 || r.suspects[0].number != 7 || r.proven.has(7) {
			t.Errorf("suspects: %v, proven: %v", r.suspects, r.proven.has(7))
		}
	}
}

// TestWindow: the oldest first, and only what lies behind it.
func TestWindow(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var w window
	for i := range uint64(5) {
		w.add(piece{index: i, length: 10}, f)
	}
	var got []uint64
	for p, ok := w.next(20); ok; p, ok = w.next(20) {
		got = append(got, p.index)
	}
	if diff := cmp.Diff([]uint64{0, 1, 2}, got); diff != "" {
		t.Error(diff)
	}
}

// TestNumbers: a set of numbers far apart.
func TestNumbers(t *testing.T) {
	var s numbers
	for _, n := range []uint64{0, 63, 64, 1 << 20, 64} {
		s.add(n)
	}
	s.remove(63)
	s.remove(5)
	if s.count != 3 || !s.has(0) || s.has(63) || !s.has(64) || !s.has(1<<20) || s.has(1<<30) {
		t.Errorf("%d numbers", s.count)
	}
}

package agent

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// TestUncached: whatever the size, by both ways, the bytes are the file's and
// the page cache holds none of them afterwards.
func TestUncached(t *testing.T) {
	dir := t.TempDir()
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	disk, err := tree.NewSink(root, tree.SinkOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	inMemory, _ := cacheOnly(root)
	random := rand.NewChaCha8([32]byte{2})
	buf := alignedMemory(digest.PieceSize)
	for _, size := range []int{1, 511, 4096, 5000, digest.PieceSize - 1, digest.PieceSize, digest.PieceSize + 4097} {
		content := make([]byte, size)
		_, _ = random.Read(content)
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := exec.Command("sync", path).Run(); err != nil {
			t.Fatal(err)
		}
		for _, direct := range []bool{true, false} {
			u, err := openUncached(disk, &manifest.Entry{Path: "f", Type: sdk.FileRegular})
			if err != nil {
				t.Fatal(err)
			}
			if !direct {
				u.indirect()
			}
			for off := 0; off < size; off += digest.PieceSize {
				want := content[off:min(off+digest.PieceSize, size)]
				if err := u.read(buf[:len(want)], int64(off)); err != nil || !bytes.Equal(buf[:len(want)], want) {
					t.Errorf("size %d at %d, direct %v: %v, or other bytes", size, off, direct, err)
				}
			}
			if size < digest.PieceSize {
				if err := u.read(buf[:size+1], 0); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("size %d, direct %v: a byte more is read: %v", size, direct, err)
				}
			}
			u.close()
			if out, err := exec.Command("fincore", "--noheadings", "--output", "PAGES", path).Output(); !inMemory && (err != nil || strings.TrimSpace(string(out)) != "0") {
				t.Errorf("size %d, direct %v: %s pages are in the cache, %v", size, direct, out, err)
			}
		}
	}
}

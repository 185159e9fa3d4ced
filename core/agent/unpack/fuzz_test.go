package unpack

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzReadChunk: what is read as the head of a chunk is written as the bytes
// that were read.
func FuzzReadChunk(f *testing.F) {
	f.Add(payload("d/t.ibd", "content", 10, xbRewrite))
	f.Add(end("xtrabackup_info", 0))
	f.Add([]byte(xbMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		c, err := readChunk(in)
		if err != nil {
			return
		}
		took := len(b) - in.Len()
		if !bytes.Equal(appendChunk(nil, c), b[:took]) {
			t.Errorf("%+v was read from %q", c, b[:took])
		}
	})
}

// FuzzXbstream: whatever arrives, nothing is written beside the directory, and
// what is told of it lies there. What is taken as whole is no longer so
// without its last byte.
func FuzzXbstream(f *testing.F) {
	f.Add(backup())
	f.Add(join(payload("d/t", "old", 0, 0), end("d/t", 0), payload("d/t", "new", 0, xbRewrite), end("d/t", xbRewrite), infoFile("xtrabackup_info")))
	f.Add(join(end("../f", 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRoom(t, proofOptions())
		if r.xbstream(t.Context(), b) == nil {
			r.holds(t)
			again := newRoom(t, proofOptions())
			if again.xbstream(t.Context(), b[:len(b)-1]) == nil {
				t.Error("a stream without its last byte is taken as whole")
			}
		}
		r.confined(t)
	})
}

// FuzzTar: whatever arrives, nothing is written beside the directory, what is
// told of it lies there, and no link leads out. What is taken as whole has the
// members that the standard library sees.
func FuzzTar(f *testing.F) {
	plain := archiveOf(f, info("end_time = now"), member{name: "s/d", kind: tar.TypeDir}, member{name: "s/d/f", content: "x"},
		member{name: "s/l", link: "d/f", kind: tar.TypeSymlink}, member{name: "s/h", link: "s/d/f", kind: tar.TypeLink})
	f.Add(plain)
	f.Add(gzipped(plain))
	f.Add(zstandard(plain))
	f.Add(archiveOf(f, member{name: "s/../../x", content: "x"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRoom(t, Options{Digests: true})
		if r.tar(t.Context(), b) == nil {
			r.holds(t)
			if !bytes.HasPrefix(b, []byte("\x1f\x8b")) && !bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) {
				countFiles(t, r, b)
			}
		}
		r.confined(t)
		_ = filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type()&os.ModeSymlink != 0 {
				to, _ := os.Readlink(path)
				rel, _ := filepath.Rel(r.dir, path)
				if why := outside(rel, to); why != "" {
					t.Errorf("%s -> %s %s", rel, to, why)
				}
			}
			return nil
		})
	})
}

// countFiles compares the number of files with the archive's.
func countFiles(t *testing.T, r *room, b []byte) {
	t.Helper()
	files := int64(0)
	for in := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("it was unpacked, but cannot be read: %v", err)
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink:
			files++
		}
	}
	if files != r.Files() {
		t.Errorf("%d files of %d", r.Files(), files)
	}
}

package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/core/agent/digest"
)

var someParts = []partial{
	{entry: 3, pieces: 1, have: []uint64{0}},
	{entry: 5, pieces: 64, have: []uint64{7}},
	{entry: 900, pieces: 130, have: []uint64{1<<64 - 1, 5, 2}},
}

func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // in place of the one before
		if err := saveCheckpoint(dir, 1000, someParts); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(filepath.Join(dir, checkpointName))
	if err != nil {
		t.Fatal(err)
	}
	c, err := readCheckpoint(bytes.NewReader(content), int64(len(content)))
	if err != nil || c.entries != 1000 {
		t.Fatalf("%+v %v", c, err)
	}
	for _, want := range someParts {
		got, ok, err := c.find(want.entry)
		if err != nil || !ok {
			t.Fatalf("entry %d: %v %v", want.entry, ok, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(partial{})); diff != "" {
			t.Error(diff)
		}
	}
	for _, entry := range []uint64{0, 4, 6, 899, 901, 5000} {
		if _, ok, err := c.find(entry); ok || err != nil {
			t.Errorf("entry %d: %v %v", entry, ok, err)
		}
	}
	// Whatever is damaged, it proves nothing.
	for i := range content {
		bad := bytes.Clone(content)
		bad[i] ^= 0x20
		if _, err := readCheckpoint(bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Fatalf("taken with byte %d altered", i)
		}
		if _, err := readCheckpoint(bytes.NewReader(content[:i]), int64(i)); err == nil {
			t.Fatalf("taken when cut after %d bytes", i)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	for _, parts := range [][]partial{nil, someParts[:1], someParts} {
		var b bytes.Buffer
		if err := writeCheckpoint(&b, 1000, parts); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes()[:b.Len()-int(digestSize)])
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		content = append(content, sealOf(content)...) // else it would not get beyond the digest
		c, err := readCheckpoint(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		var parts []partial
		for i := range c.files {
			p, begin, err := c.part(i)
			if err != nil || c.load(&p, begin) != nil {
				t.Fatal(err)
			}
			if found, ok, err := c.find(p.entry); !ok || err != nil || !cmp.Equal(found, p, cmp.AllowUnexported(partial{})) {
				t.Fatalf("file %d is found as %+v, %v, %v", i, found, ok, err)
			}
			parts = append(parts, p)
		}
		var again bytes.Buffer
		if err := writeCheckpoint(&again, c.entries, parts); err != nil || !bytes.Equal(again.Bytes(), content) {
			t.Fatalf("read and written again it is another: %v", err)
		}
	})
}

func sealOf(content []byte) []byte {
	sum := digest.Of(content)
	return sum[:]
}

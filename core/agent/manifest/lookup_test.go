package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// spoolOf makes a spool of n files, in a directory of their own.
func spoolOf(t *testing.T, n int) (*Spool, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Create(dir, Header{Transfer: "t", DigestRule: RuleBLAKE3, Attempt: "a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var batch []byte
	for i := range n {
		e := Entry{Path: sdk.Raw(fmt.Sprintf("f%d", i)), Type: sdk.FileRegular, Size: int64(i)}
		if batch, err = AppendEntry(batch, &e); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Append(batch); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// TestLookup finds entries in their order, out of it, and not those that are
// not there.
func TestLookup(t *testing.T) {
	const n = 5000
	s, dir := spoolOf(t, n)
	l := NewLookup(s, dir)
	defer l.Close()
	find := func(i int) {
		t.Helper()
		at, e, found, err := l.Find(sdk.Raw(fmt.Sprintf("f%d", i)))
		if err != nil || found != (i >= 0 && i < n) || found && (at != uint64(i) || e.Size != int64(i)) {
			t.Fatalf("%d: %d %+v %v %v", i, at, e, found, err)
		}
	}
	for i := 0; i < 300; i += 1 + i%(lookAhead-1) {
		find(i)
	}
	if l.table != nil {
		t.Error("an index was made for what comes in order")
	}
	for i := n - 1; i >= 0; i -= 7 {
		find(i)
		find(-i - 1)
		find(n + i)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "lookup-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestOpenPart: what a crash has left of a spool is as much of it as is whole.
func TestOpenPart(t *testing.T) {
	s, dir := spoolOf(t, 3000)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	open := func(limit, want uint64) {
		t.Helper()
		p, err := OpenPart(dir, limit)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if p.Len() != want || p.Header().Attempt != "a" {
			t.Fatalf("%d entries of %+v, want %d", p.Len(), p.Header(), want)
		}
		for n := range p.Len() {
			if e, err := p.Entry(n); err != nil || e.Size != int64(n) {
				t.Fatalf("entry %d: %+v %v", n, e, err)
			}
		}
		if _, _, err := p.Append([]byte{1}); err == nil {
			t.Error("something was added")
		}
	}
	open(1<<62, 3000)
	open(7, 7)
	entries := filepath.Join(dir, "entries")
	end, err := s.end(1999)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(entries, end+3); err != nil { // within a record
		t.Fatal(err)
	}
	open(1<<62, 2000)
	if err := os.Truncate(filepath.Join(dir, "index"), 8*500+1); err != nil {
		t.Fatal(err)
	}
	open(1<<62, 500)
	if err := os.Truncate(entries, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPart(dir, 1); err == nil {
		t.Error("opened without a header")
	}
}

// TestNodes: nodes of files that have room, and of no others.
func TestNodes(t *testing.T) {
	dir := t.TempDir()
	n, err := CreateNodes(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, entry := range []uint64{5, 2, 70000} {
		if err := n.Reserve(entry, uint64(i+2)); err != nil {
			t.Fatal(err)
		}
		if err := n.Set(entry, 1, [32]byte{byte(entry)}); err != nil {
			t.Fatal(err)
		}
		if err := n.Set(entry, uint64(i+2), [32]byte{1}); err == nil {
			t.Error("a piece beyond the end was kept")
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err = OpenNodes(dir); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, entry := range []uint64{5, 2, 70000} {
		if node, ok, err := n.Get(entry, 1); !ok || err != nil || node != [32]byte{byte(entry)} {
			t.Errorf("entry %d: %v %v %v", entry, node, ok, err)
		}
		if _, ok, err := n.Get(entry, 0); ok || err != nil {
			t.Errorf("entry %d: a node that was never set: %v", entry, err)
		}
	}
	if _, ok, err := n.Get(9, 0); ok || err != nil {
		t.Error("a file that has none", err)
	}
}

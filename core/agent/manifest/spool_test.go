package manifest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

func newSpool(t testing.TB) (*Spool, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Create(dir, Header{Transfer: "t1", DigestRule: RuleBLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// fill appends a directory with n files, in batches, and returns the number
// of entries.
func fill(t testing.TB, s *Spool, n int) uint64 {
	t.Helper()
	batch, err := AppendEntry(nil, &Entry{Path: "top", Type: sdk.FileDirectory})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e := Entry{Path: sdk.Raw(fmt.Sprintf("top/file%07d", i)), Type: sdk.FileRegular, Size: int64(i), Owner: "mysql"}
		if batch, err = AppendEntry(batch, &e); err != nil {
			t.Fatal(err)
		}
		if len(batch) > 60000 || i == n-1 {
			if _, _, err := s.Append(batch); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	return s.Len()
}

func TestSpool(t *testing.T) {
	s, dir := newSpool(t)
	count := fill(t, s, 20000)
	if count != 20001 {
		t.Fatalf("%d entries", count)
	}
	for n := uint64(1); n < count; n += 97 {
		d := Digest{Size: int64(n), Sum: [32]byte{byte(n)}, State: DigestOK}
		id := Ident{Dev: 1, Ino: n, Size: int64(n), MTimeSec: -1, CTimeNsec: 5}
		if err := errors.Join(s.SetDigest(n, d), s.SetIdent(n, id)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(s *Spool) [32]byte {
		t.Helper()
		for n := uint64(1); n < count; n += 97 {
			e, err := s.Entry(n)
			d, err2 := s.Digest(n)
			id, err3 := s.Ident(n)
			if err := errors.Join(err, err2, err3); err != nil {
				t.Fatal(err)
			}
			if e.Size != int64(n-1) || d.Sum[0] != byte(n) || d.State != DigestOK || !id.Same(Ident{Dev: 1, Ino: n, Size: int64(n), MTimeSec: -1, CTimeNsec: 5}) {
				t.Fatalf("entry %d: %+v %+v %+v", n, e, d, id)
			}
		}
		if d, err := s.Digest(2); err != nil || d != (Digest{}) {
			t.Fatalf("a digest that was never set: %+v, %v", d, err)
		}
		seen := uint64(0)
		err := s.Each(context.Background(), func(n uint64, e Entry, d Digest) error {
			if n != seen || (n > 0 && e.Size != int64(n-1)) || (d.State == DigestOK) != (n%97 == 1) {
				return fmt.Errorf("entry %d (of %d seen): %+v %+v", n, seen, e, d)
			}
			seen++
			return nil
		})
		if err != nil || seen != count {
			t.Fatalf("%v after %d", err, seen)
		}
		root, err := s.Root(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	root := check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != count || s.Header().Transfer != "t1" || check(s) != root {
		t.Fatalf("another spool after opening: %d entries", s.Len())
	}
	// It goes on where it ended.
	b, _ := AppendEntry(nil, &Entry{Path: "top/z", Type: sdk.FileRegular})
	if n, _, err := s.Append(b); err != nil || n != count {
		t.Fatalf("entry %d, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRootCoversEverything(t *testing.T) {
	root := func(rule string, digest byte, change func(*Entry)) [32]byte {
		s, err := Create(t.TempDir(), Header{Transfer: t.Name() + fmt.Sprint(digest), DigestRule: rule})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := Entry{Path: "f", Type: sdk.FileRegular, Size: 3, Owner: "a"}
		change(&e)
		b, _ := AppendEntry(nil, &e)
		if _, _, err := s.Append(b); err != nil {
			t.Fatal(err)
		}
		if err := s.SetDigest(0, Digest{State: DigestOK, Sum: [32]byte{digest}}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Root(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	same := func(*Entry) {}
	base := root(RuleBLAKE3, 1, same)
	if root(RuleBLAKE3, 1, same) != base {
		t.Error("equal manifests have different roots")
	}
	for what, other := range map[string][32]byte{
		"rule":   root(RuleNone, 1, same),
		"digest": root(RuleBLAKE3, 2, same),
		"path":   root(RuleBLAKE3, 1, func(e *Entry) { e.Path = "g" }),
		"mode":   root(RuleBLAKE3, 1, func(e *Entry) { e.Mode = 1 }),
		"owner":  root(RuleBLAKE3, 1, func(e *Entry) { e.Owner = "b" }),
		"gid":    root(RuleBLAKE3, 1, func(e *Entry) { e.GID = 1 }),
		"mtime":  root(RuleBLAKE3, 1, func(e *Entry) { e.MTimeNsec = 1 }),
	} {
		if other == base {
			t.Errorf("the root does not cover %s", what)
		}
	}
}

func TestAppendOrder(t *testing.T) {
	dir, file := sdk.FileDirectory, sdk.FileRegular
	type step struct {
		path sdk.Raw
		typ  sdk.FileType
		ok   bool
	}
	for what, steps := range map[string][]step{
		"a tree":                     {{"a", dir, true}, {"a/b", dir, true}, {"a/b/c", file, true}, {"a/d", file, true}, {"e", file, true}},
		"no parent":                  {{"a/b", file, false}},
		"below a file":               {{"a", file, true}, {"a/b", file, false}},
		"below a symlink's name":     {{"a", dir, true}, {"ab/c", file, false}},
		"back into a directory left": {{"a", dir, true}, {"a/b", dir, true}, {"a/c", file, true}, {"a/b/d", file, false}},
		"after another top":          {{"a", dir, true}, {"b", dir, true}, {"a/c", file, false}},
	} {
		s, _ := newSpool(t)
		for _, st := range steps {
			b, _ := AppendEntry(nil, &Entry{Path: st.path, Type: st.typ})
			if _, _, err := s.Append(b); (err == nil) != st.ok {
				t.Errorf("%s: %s: %v", what, st.path, err)
			}
		}
		s.Close()
	}
}

func TestAppendRefusesWholeBatch(t *testing.T) {
	s, _ := newSpool(t)
	defer s.Close()
	b, _ := AppendEntry(nil, &Entry{Path: "d", Type: sdk.FileDirectory})
	if _, _, err := s.Append(append(b, 3, 1, 1)); err == nil || s.Len() != 0 {
		t.Fatalf("torn batch: %v, %d entries", err, s.Len())
	}
	// The place has not moved either.
	c, _ := AppendEntry(nil, &Entry{Path: "d/f", Type: sdk.FileRegular})
	if _, _, err := s.Append(c); err == nil {
		t.Fatal("the refused batch left its directory")
	}
	if n, got, err := s.Append(append(b, c...)); err != nil || n != 0 || got != 2 {
		t.Fatalf("%d %d %v", n, got, err)
	}
	if _, err := s.Entry(2); err == nil {
		t.Error("an entry beyond the end")
	}
	if err := s.SetDigest(2, Digest{}); err == nil {
		t.Error("a digest beyond the end")
	}
}

func TestCreateRefusesExisting(t *testing.T) {
	s, dir := newSpool(t)
	defer s.Close()
	if _, err := Create(dir, Header{DigestRule: RuleNone}); err == nil {
		t.Error("a second spool in the same directory")
	}
}

// TestOpenCutShort: a spool whose files a crash has cut errs, or reads as
// fewer entries; it never panics.
func TestOpenCutShort(t *testing.T) {
	s, dir := newSpool(t)
	fill(t, s, 300)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"entries", "index", "digests", "idents"} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(whole); n += 1 + len(whole)/100 {
			if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir)
			if err != nil {
				continue
			}
			if name == "entries" {
				t.Errorf("entries cut at %d of %d are taken", n, len(whole))
			}
			_ = s.Each(context.Background(), func(uint64, Entry, Digest) error { return nil })
			_ = s.Close()
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConcurrent: one appends while others read and set, under -race.
func TestConcurrent(t *testing.T) {
	s, _ := newSpool(t)
	defer s.Close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := uint64(w); n < 6000; n += 4 {
				for s.Len() <= n {
					runtime.Gosched()
				}
				e, err := s.Entry(n)
				if err == nil {
					err = s.SetDigest(n, Digest{Size: e.Size, State: DigestOK})
				}
				if err != nil {
					t.Errorf("entry %d: %v", n, err)
					return
				}
			}
		})
	}
	fill(t, s, 6000)
	wg.Wait()
	err := s.Each(context.Background(), func(n uint64, e Entry, d Digest) error {
		if n < 6000 && (d.State != DigestOK || d.Size != e.Size) {
			return fmt.Errorf("entry %d: %+v", n, d)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMemoryIsBounded: a million entries take no more memory than their
// caches.
func TestMemoryIsBounded(t *testing.T) {
	s, _ := newSpool(t)
	defer s.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	count := fill(t, s, 1_000_000)
	for n := range count {
		if err := s.SetDigest(n, Digest{State: DigestOK}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d bytes of heap for %d entries", grown, count)
	}
}

func BenchmarkSpool(b *testing.B) {
	s, _ := newSpool(b)
	defer s.Close()
	fill(b, s, 100_000)
	b.Run("entry", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Entry(uint64(i % 100_000)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("set-digest", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if err := s.SetDigest(uint64(i%100_000), Digest{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestRootHardLink: a hard link has no digest of its own, whoever sets one.
func TestRootHardLink(t *testing.T) {
	var roots [2][32]byte
	for i := range roots {
		s, err := Create(t.TempDir(), Header{DigestRule: RuleBLAKE3})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, e := range []Entry{{Path: "a", Type: sdk.FileRegular, Size: 1}, {Path: "b", Type: sdk.FileRegular, Size: 1, HardLink: 1}} {
			b, err := AppendEntry(nil, &e)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Append(b); err != nil {
				t.Fatal(err)
			}
		}
		if i == 1 {
			if err := s.SetDigest(1, Digest{Size: 1, State: DigestOK}); err != nil {
				t.Fatal(err)
			}
		}
		if roots[i], err = s.Root(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if roots[0] != roots[1] {
		t.Error("the digest of a hard link counts in the root")
	}
	s, err := Create(t.TempDir(), Header{DigestRule: RuleNone})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := AppendEntry(nil, &Entry{Path: "a", Type: sdk.FileRegular, HardLink: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Append(b); err == nil {
		t.Error("a link to itself is taken")
	}
}

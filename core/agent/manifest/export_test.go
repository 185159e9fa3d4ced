package manifest

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/sdk"
)

// TestExport: what is exported comes back as it was, with the same root.
func TestExport(t *testing.T) {
	spool, err := Create(t.TempDir(), Header{Transfer: "t", DigestRule: RuleBLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	type item struct {
		E Entry
		D Digest
	}
	want := []item{
		{E: Entry{Path: "d", Type: sdk.FileDirectory}},
		{Entry{Path: "d/f", Type: sdk.FileRegular, Size: 3}, Digest{Size: 3, Sum: [32]byte{1}, State: DigestOK}},
		{E: Entry{Path: "d/g", Type: sdk.FileRegular, Size: 3, HardLink: 2}},
	}
	for i := range want {
		record, err := AppendEntry(nil, &want[i].E)
		if err == nil {
			_, _, err = spool.Append(record)
		}
		if err == nil && want[i].D.State == DigestOK {
			err = spool.SetDigest(uint64(i), want[i].D)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := spool.Export(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	root := NewRoot(RuleBLAKE3)
	var got []item
	if err := Import(bytes.NewReader(out.Bytes()), func(e Entry, d Digest) error {
		got = append(got, item{e, d})
		return root.Add(&e, &d)
	}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if sum, err := spool.Root(t.Context()); err != nil || sum != root.Sum() {
		t.Errorf("the roots differ: %x and %x (%v)", sum, root.Sum(), err)
	}
	for end := 1; end < out.Len(); end++ {
		n := 0
		err := Import(bytes.NewReader(out.Bytes()[:end]), func(Entry, Digest) error { n++; return nil })
		if err == nil && n == len(want) {
			t.Errorf("%d of %d bytes were taken for all", end, out.Len())
		}
	}
}

// FuzzImport: what is imported from anything is made of entries that encode
// again.
func FuzzImport(f *testing.F) {
	record, err := AppendEntry(nil, &Entry{Path: "f", Type: sdk.FileRegular, Size: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Add(append(record, make([]byte, digestLen)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = Import(bytes.NewReader(data), func(e Entry, _ Digest) error {
			if _, err := AppendEntry(nil, &e); err != nil {
				t.Error(err)
			}
			return nil
		})
	})
}

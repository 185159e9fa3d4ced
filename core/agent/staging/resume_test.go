package staging

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// TestResume takes over what attempts have left, puts it aside, the newest
// first, and removes it when it is told to, or with the rest.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	spec := Spec{Transfer: "t", Member: "m", Dest: sdk.Destination{Dir: sdk.Raw(dir), Publish: []sdk.Raw{"x"}}}
	for i := range maxKept + 3 {
		s, err := Resume(spec) // the first time there is nothing
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 { // it is waited for
			if _, err := Resume(spec); !errors.Is(err, sdk.ErrTimeout) {
				t.Errorf("a living one was taken over: %v", err)
			}
		}
		kept, err := s.Kept()
		if err != nil || len(kept) != min(i, maxKept) {
			t.Fatalf("attempt %d: %d kept, %v", i, len(kept), err)
		}
		for n, k := range kept {
			if _, err := os.Stat(filepath.Join(k.Data.Name(), string(rune('a'+i-1-n)))); err != nil {
				t.Errorf("attempt %d, kept %d: %v", i, n, err)
			}
			if _, err := os.Stat(k.MetaPath); err != nil {
				t.Error(err)
			}
			k.Data.Close()
		}
		if err := os.WriteFile(filepath.Join(s.Path(), string(rune('a'+i))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Resume(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DropKept(); err != nil {
		t.Fatal(err)
	}
	if kept, err := s.Kept(); err != nil || len(kept) > 0 {
		t.Errorf("left: %v %v", kept, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if res, err := Settle(t.Context(), spec, nil, false); err != nil || !res.Removed {
		t.Fatalf("%+v %v", res, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestResumeAfterACrash in the middle of putting aside: what is half aside is
// not lost, and not mistaken for what comes.
func TestResumeAfterACrash(t *testing.T) {
	spec := Spec{Transfer: "t", Member: "m", Dest: sdk.Destination{Dir: sdk.Raw(t.TempDir())}}
	s, err := Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Path(), "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := os.Mkdir(filepath.Join(spec.Path(), keptName(1)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(spec.DataPath(), filepath.Join(spec.Path(), keptName(1), nameData)); err != nil {
		t.Fatal(err)
	}
	if s, err = Resume(spec); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kept, err := s.Kept()
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v %v", kept, err)
	}
	for _, k := range kept {
		k.Data.Close()
	}
	if _, err := os.Stat(filepath.Join(spec.Path(), keptName(1), nameData, "old")); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(s.Path()); err != nil || len(names) > 0 {
		t.Errorf("%v %v", names, err)
	}
}

package undo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/sdk"
)

func record(id string, when sdk.When) Record {
	return Record{Undo: sdk.Undo{ID: id, What: "undo " + id, When: when, Commands: []sdk.Command{{Argv: []sdk.Raw{"echo", "\xff\n"}}}}}
}

func mustOpen(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func always(Record) bool { return true }

// replay runs what is due and returns the ids in their order.
func replay(t *testing.T, l *Log, due func(Record) bool, failing ...string) ([]string, error) {
	t.Helper()
	var ids []string
	err := l.Run(t.Context(), due, func(_ context.Context, r Record) error {
		ids = append(ids, r.ID)
		if slices.Contains(failing, r.ID) {
			return sdk.ErrTimeout
		}
		return nil
	})
	return ids, err
}

func TestLastInFirstOut(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for _, r := range []Record{record("a", sdk.WhenEnd), record("b", sdk.WhenSourceDone), record("c", sdk.WhenEnd), record("a", sdk.WhenEnd)} {
		if err := l.Defer(r); err != nil {
			t.Fatal(err)
		}
	}
	if l.Pending() != 3 {
		t.Fatalf("%d pending", l.Pending())
	}
	ids, err := replay(t, l, func(r Record) bool { return r.When == sdk.WhenSourceDone })
	if err != nil || !slices.Equal(ids, []string{"b"}) {
		t.Errorf("source-done: %v %v", ids, err)
	}
	if err := l.Defer(record("b", sdk.WhenSourceDone)); !errors.Is(err, sdk.ErrExists) {
		t.Errorf("an undo that has run was deferred again: %v", err)
	}
	ids, err = replay(t, l, always, "c")
	if !slices.Equal(ids, []string{"c", "a"}) || !errors.Is(err, sdk.ErrTimeout) || !strings.Contains(err.Error(), "undo c") {
		t.Errorf("end: %v %v", ids, err)
	}
	// Another process goes on where this one stopped.
	l.Close()
	l = mustOpen(t, dir)
	if s := l.Status(); len(s) != 3 || !s[0].Done || !s[1].Done || s[2].Done {
		t.Errorf("status: %+v", s)
	}
	if ids, err = replay(t, l, always); err != nil || !slices.Equal(ids, []string{"c"}) {
		t.Errorf("again: %v %v", ids, err)
	}
	if ids, _ = replay(t, l, always); len(ids) != 0 || l.Pending() != 0 {
		t.Errorf("a third time: %v", ids)
	}
}

func TestRecordsSurvive(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	want := record("a", sdk.WhenEnd)
	want.Settle = &staging.Spec{Transfer: "t", Member: "m", Dest: sdk.Destination{Dir: "/srv/\xfe"}}
	if err := l.Defer(want); err != nil {
		t.Fatal(err)
	}
	l.Close()
	err := mustOpen(t, dir).Run(t.Context(), always, func(_ context.Context, r Record) error {
		if r.Settle == nil || r.Settle.Dest.Dir != want.Settle.Dest.Dir || r.Commands[0].Argv[1] != want.Commands[0].Argv[1] {
			t.Errorf("read back: %+v", r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRefusedRecords(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	for name, r := range map[string]Record{"no id": record("", sdk.WhenEnd), "no moment": record("a", "")} {
		if err := l.Defer(r); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.MarkDone("nobody"); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	for _, id := range []string{"a", "b"} {
		if err := l.Defer(record(id, sdk.WhenEnd)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Run(ctx, always, func(context.Context, Record) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || l.Pending() != 1 {
		t.Errorf("%v, %d pending", err, l.Pending())
	}
}

// whole is a log with two records, one of them done.
func whole(t testing.TB) []byte {
	dir := t.TempDir()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, id := range []string{"a", "b"} {
		if err := l.Defer(record(id, sdk.WhenEnd)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.MarkDone("b"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Whatever a crash leaves of the last line, the lines before it count, and
// the log can be written on.
func TestTornLastLine(t *testing.T) {
	data := whole(t)
	for cut := 0; cut < len(data); cut += 23 {
		for _, tail := range []string{"", "\x00\x00\x00", "\x00\x00\n"} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, FileName), append(bytes.Clone(data[:cut]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Open(dir)
			if err != nil {
				t.Fatalf("cut at %d, tail %q: %v", cut, tail, err)
			}
			if got, want := len(l.entries), bytes.Count(data[:cut], []byte(`{"defer"`)); got > want {
				t.Errorf("cut at %d: %d records, want at most %d", cut, got, want)
			}
			if err := l.Defer(record("new", sdk.WhenEnd)); err != nil {
				t.Errorf("cut at %d: %v", cut, err)
			}
			n := len(l.entries)
			l.Close()
			if l, err = Open(dir); err != nil || len(l.entries) != n {
				t.Fatalf("cut at %d, reopened: %v", cut, err)
			}
			l.Close()
		}
	}
}

func TestDamageInTheMiddleIsTold(t *testing.T) {
	data := bytes.Replace(whole(t), []byte(`{"defer"`), []byte(`x"defer"`), 1)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v", err)
	}
	other := []byte("{\"transferpy_undo\":9}\n")
	if err := os.WriteFile(filepath.Join(dir, FileName), other, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, sdk.ErrUnsupported) {
		t.Errorf("another version: %v", err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, FileName)); !bytes.Equal(got, other) {
		t.Error("a log of another version was touched")
	}
}

// What is kept of a log reads as the whole did.
func FuzzParse(f *testing.F) {
	f.Add(whole(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		first := &Log{byID: map[string]*entry{}}
		good, err := first.parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		second := &Log{byID: map[string]*entry{}}
		again, err := second.parse(bytes.NewReader(data[:good]))
		if err != nil || again != good || !slices.Equal(first.Status(), second.Status()) {
			t.Fatalf("%d bytes, then %d, %v: %+v became %+v", good, again, err, first.Status(), second.Status())
		}
	})
}

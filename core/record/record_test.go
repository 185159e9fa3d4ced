package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/printable"
	"github.com/transferpy/transferpy/sdk"
)

// newDir is a state directory.
func newDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// line is one as a transfer leaves it.
func line(id string) Line {
	at := time.Date(2026, 11, 23, 15, 30, 42, 0, time.UTC)
	end := End{Executor: "ssh", Host: "db1", Path: "/srv/data"}
	return Line{Transfer: id, Time: at.Add(time.Minute), Began: at, Seconds: 60, EndedBy: ByRun, Reason: "a test", Mode: "file", Source: end,
		Targets: []Target{{End: end, Bytes: 10, Digest: "aa"}}, Bytes: 10, Digest: "aa", Versions: map[string]string{"transferpy": "1.0"}}
}

// told is what the file in dir tells.
func told(t *testing.T, dir string) ([]Line, Skipped) {
	t.Helper()
	var list []Line
	skipped, err := Read(dir, func(l Line) error { list = append(list, l); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return list, skipped
}

func appendLine(t *testing.T, dir, id string) {
	t.Helper()
	if err := Append(dir, line(id)); err != nil {
		t.Fatal(err)
	}
}

const (
	idA = "20261123-153042-aaaaaaaa"
	idB = "20261123-153042-bbbbbbbb"
)

func TestAppendAndRead(t *testing.T) {
	dir := newDir(t)
	if list, skipped := told(t, dir); len(list) != 0 || skipped != (Skipped{}) {
		t.Errorf("no file: %v, %v", list, skipped)
	}
	want := line(idA)
	want.Error = &sdk.Error{Kind: sdk.KindNoSpace, Host: "db2", Message: "full\x1b[2J\u009b" + strings.Repeat("x", maxMessage), Hint: "make room", Stderr: "noise"}
	if err := Append(dir, want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(text, "\x1b\u009b") || bytes.Count(text, []byte("\n")) != 1 {
		t.Errorf("not a safe line: %q", text)
	}
	if info, err := os.Stat(filepath.Join(dir, Name)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	list, _ := told(t, dir)
	if len(list) != 1 {
		t.Fatalf("%d lines", len(list))
	}
	got := list[0]
	if got.User.UID != os.Getuid() || got.Host == "" || got.V != Version {
		t.Errorf("by %+v on %q, version %d", got.User, got.Host, got.V)
	}
	want.V, want.User, want.Host = got.V, got.User, got.Host
	want.Error = &sdk.Error{Kind: sdk.KindNoSpace, Host: "db2", Message: want.Error.Message[:maxMessage] + "..."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestTogether appends from many at once, each with an open file of its own as
// processes have it.
func TestTogether(t *testing.T) {
	dir := newDir(t)
	const writers, each = 8, 20
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				l := line(idA)
				l.Reason = strings.Repeat(fmt.Sprintf("%d/%d ", w, i), 500)
				if err := Append(dir, l); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	list, skipped := told(t, dir)
	seen := map[string]bool{}
	for _, l := range list {
		seen[l.Reason] = true
	}
	if len(list) != writers*each || len(seen) != len(list) || skipped != (Skipped{}) {
		t.Errorf("%d lines, %d different, skipped %+v", len(list), len(seen), skipped)
	}
}

func TestTornLine(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, Name)
	appendLine(t, dir, idA)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, text[:len(text)/2]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, skipped := told(t, dir); len(list) != 1 || skipped.Lines != 1 {
		t.Errorf("torn: %d lines, skipped %+v", len(list), skipped)
	}
	appendLine(t, dir, idB)
	if list, skipped := told(t, dir); len(list) != 2 || list[1].Transfer != idB || skipped.Lines != 1 {
		t.Errorf("after the torn line: %v, skipped %+v", list, skipped)
	}
}

// TestRenamedAway: what has taken another name is written to no more.
func TestRenamedAway(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, Name)
	appendLine(t, dir, idA)
	held, err := openLocked(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- Append(dir, line(idB)) }()
	time.Sleep(20 * time.Millisecond) // it waits for the lock, or comes later: both must do
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	held.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if list, _ := told(t, dir); len(list) != 1 || list[0].Transfer != idB {
		t.Errorf("%v", list)
	}
}

func TestRefused(t *testing.T) {
	tests := map[string]func(dir, path string) error{
		"a link": func(dir, path string) error { return os.Symlink(filepath.Join(dir, "elsewhere"), path) },
		"writable by others": func(_, path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o622)
		},
		"no file":        func(_, path string) error { return os.Mkdir(path, 0o700) },
		"open directory": func(dir, _ string) error { return os.Chmod(dir, 0o755) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			if err := spoil(dir, filepath.Join(dir, Name)); err != nil {
				t.Fatal(err)
			}
			if err := Append(dir, line(idA)); err == nil {
				t.Error("it was written")
			}
			if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
				t.Error("the link was followed")
			}
		})
	}
}

func TestReadEndsWithItsTaker(t *testing.T) {
	dir := newDir(t)
	appendLine(t, dir, idA)
	enough := errors.New("enough")
	if _, err := Read(dir, func(Line) error { return enough }); err != enough {
		t.Error(err)
	}
}

func TestParseLoginUID(t *testing.T) {
	tests := []struct {
		text string
		id   int
		ok   bool
	}{{"0", 0, true}, {"1000\n", 1000, true}, {"4294967295", 0, false}, {"", 0, false}, {"-1", 0, false}, {"4294967296", 0, false}, {"x", 0, false}}
	for _, tt := range tests {
		if id, ok := parseLoginUID(tt.text); id != tt.id || ok != tt.ok {
			t.Errorf("%q: %d, %v", tt.text, id, ok)
		}
	}
}

// FuzzRead: no file stops the reading, and what is understood of one is the
// same when it is written and read again.
func FuzzRead(f *testing.F) {
	whole, err := printable.JSON(Line{V: Version, Transfer: idA, Targets: []Target{}, Versions: map[string]string{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(whole, whole[:20]...))
	f.Add([]byte("\n\n{}\nnull\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		decodeAll := func(data []byte) (list []Line) {
			_, err := read(bufio.NewReaderSize(bytes.NewReader(data), 16), func(l Line) error { list = append(list, l); return nil })
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		first := decodeAll(data)
		var again []byte
		for _, l := range first {
			if !journal.ValidID(l.Transfer) {
				t.Fatalf("took the id %q", l.Transfer)
			}
			text, err := printable.JSON(l)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, text...)
		}
		if diff := cmp.Diff(first, decodeAll(again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

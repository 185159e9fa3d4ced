package runlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/transferpy/transferpy/core/journal"
)

const id = "20261123-153042-k3mq7xwa"

func newState(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "state")
}

func content(t *testing.T, dir, id string) string {
	t.Helper()
	text, err := os.ReadFile(Path(dir, id))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLog: everything reaches the file, of every level and from before there
// was one, safe to print; the terminal gets what it asked for.
func TestLog(t *testing.T) {
	dir, l := newState(t), New()
	defer l.Close()
	var terminal bytes.Buffer
	plugins := l.Logger("plugin", hclog.Warn, &terminal)
	plugins.Debug("early", "name", "a\x1b[2Jb", "text", "two\nlines\u009b")
	if err := l.Begin(dir, id); err != nil {
		t.Fatal(err)
	}
	plugins.Named("ssh").Warn("both")
	slog.New(l.Handler()).With("transfer", "x").WithGroup("g").Debug("do", "command", "rm\x07")
	l.Text("view", hclog.Info, "one\n\ntwo\n")
	if err := l.Begin(dir, id); err != nil {
		t.Fatal(err)
	}
	got := content(t, dir, id)
	for _, want := range []string{"[DEBUG] plugin: early:", `a\x1b[2Jb`, "[WARN]  plugin.ssh: both", `core: do: transfer=x g.command=`, "view: one", "view: two"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if strings.ContainsAny(got, "\x1b\x07\u009b") {
		t.Errorf("not safe: %q", got)
	}
	if said := terminal.String(); strings.Contains(said, "early") || !strings.Contains(said, "both") {
		t.Errorf("the terminal got %q", said)
	}
	for _, path := range []string{dir, filepath.Join(dir, Dir), Path(dir, id)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// TestBounds: a log that is full takes warnings, then nothing, and nobody
// notices.
func TestBounds(t *testing.T) {
	dir, l := newState(t), New()
	defer l.Close()
	for range 40 {
		l.Accept("p", hclog.Debug, strings.Repeat("h", maxLine))
	}
	if n := len(l.held); n > 2*maxHeld {
		t.Errorf("%d bytes are held", n)
	}
	if err := l.Begin(dir, id); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		l.Accept("p", hclog.Debug, strings.Repeat("d", 2*maxLine))
	}
	l.Accept("p", hclog.Error, "an error")
	if got := content(t, dir, id); !strings.HasSuffix(got, "[ERROR] p: an error\n") || strings.Count(got, "warnings and errors only") != 1 {
		t.Errorf("it ends in %q", got[max(0, len(got)-200):])
	}
	for range 300 {
		l.Accept("p", hclog.Error, strings.Repeat("e", maxLine))
	}
	if n := len(content(t, dir, id)); n > maxAll+2*maxLine {
		t.Errorf("%d bytes", n)
	}
}

// TestTogether: lines of several logs of one transfer, as processes have
// them, stay whole.
func TestTogether(t *testing.T) {
	dir := newState(t)
	var all sync.WaitGroup
	for p := range 4 {
		all.Go(func() {
			l := New()
			defer l.Close()
			if err := l.Begin(dir, id); err != nil {
				t.Error(err)
			}
			for range 50 {
				l.Accept("p", hclog.Info, strings.Repeat(fmt.Sprint(p), 1000))
			}
		})
	}
	all.Wait()
	n := 0
	for line := range strings.Lines(content(t, dir, id)) {
		_, digits, ok := strings.Cut(strings.TrimSpace(line), "p: ")
		if !ok || digits != strings.Repeat(digits[:1], 1000) {
			t.Fatalf("mixed: %.80q", line)
		}
		n++
	}
	if n != 200 {
		t.Errorf("%d lines", n)
	}
}

func TestPrune(t *testing.T) {
	dir := newState(t)
	now := time.Now()
	old, kept, young := journal.NewID(now.Add(-journal.Keep-2*time.Hour)), journal.NewID(now.Add(-journal.Keep-time.Hour)), journal.NewID(now)
	for _, name := range []string{old, kept} {
		l := New()
		if err := l.Begin(dir, name); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	j, err := journal.Create(dir, kept, "test", []byte("{}")) // nobody has cleaned it up yet
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	if _, err := os.Create(filepath.Join(dir, Dir, "a-note.log")); err != nil {
		t.Fatal(err)
	}
	l := New()
	defer l.Close()
	if err := l.Begin(dir, young); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{old: false, kept: true, young: true, "a-note": true} {
		if _, err := os.Stat(Path(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoLog(t *testing.T) {
	dir, l := newState(t), New()
	defer l.Close()
	if err := journal.MakeDir(filepath.Join(dir, Dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", Path(dir, id)); err != nil {
		t.Fatal(err)
	}
	l.Accept("p", hclog.Info, "x")
	if err := l.Begin(dir, id); err == nil {
		t.Error("a link was followed")
	}
	l.Accept("p", hclog.Info, "nowhere") // and no harm is done
	if err := l.Begin(dir, "../x"); err == nil {
		t.Error("it left the directory")
	}
}

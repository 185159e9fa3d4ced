package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/test/terminal"
)

// shows waits until the screen shows want, a part of each line.
func shows(t *testing.T, s *terminal.Screen, want ...string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got := s.Lines()
		if len(got) == len(want) && !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(got[slices.Index(want, w)], w) }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the screen shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestLive draws on a pseudo-terminal: a line a target, what is written
// meanwhile above them, and nothing of them afterwards.
func TestLive(t *testing.T) {
	defer goleak.VerifyNone(t)
	file, shown := terminal.Open(t, 10, 100)
	defer shown.Wait()
	defer file.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	a := &app{stdout: io.Discard, stderr: &screen{w: file}, terminal: int(file.Fd())}
	v := a.newView(&config.Settings{Progress: "auto"})
	tell := func(done int64) {
		var members []progress.Member
		for i, name := range []string{transfer.SourceName, "target-1", "target-2"} {
			members = append(members, sample(fmt.Sprintf("db%d", i+1), func(m *progress.Member) {
				m.Status.Name, m.At, m.Done, m.Left = name, time.Now(), done, -1
			}))
		}
		v.event(transfer.Event{Type: transfer.EventProgress, Time: time.Now(), Members: members})
	}
	v.event(transfer.Event{Type: transfer.EventPhase, Phase: "move"})
	tell(31_000_000)
	shows(t, shown, "move", "db2:/srv  sending  31.0 MB of 3.10 GB (1 %)", "db3:/srv  sending  31.0 MB of 3.10 GB (1 %)")
	if line, column := shown.Cursor(); line != 3 || column != 0 {
		t.Errorf("the cursor is at %d,%d", line, column)
	}
	tell(1_550_000_000)
	v.event(transfer.Event{Type: transfer.EventWarning, Host: "db2", Message: "no luck\x1b[2J"})
	fmt.Fprint(a.stderr, "half ")
	fmt.Fprint(a.stderr, "a line\n")
	shows(t, shown, "move", `warning: db2: no luck\x1b[2J`, "half a line", "db2:/srv  sending  1.55 GB of 3.10 GB (50 %)", "db3:/srv  sending  1.55 GB of 3.10 GB (50 %)")
	fmt.Fprint(a.stderr, "the last line\nand no end")
	v.close()
	v.close()
	shows(t, shown, "move", "warning", "half a line", "the last line", "and no end")
	fmt.Fprint(a.stderr, " of it\n")
	shows(t, shown, "move", "warning", "half a line", "the last line", "and no end of it")
	if unknown := shown.Unknown(); len(unknown) > 0 {
		t.Errorf("the terminal does not understand %q", unknown)
	}

	// The next phase that has progress gets lines of its own.
	tell(3_000_000_000)
	v.event(transfer.Event{Type: transfer.EventPhase, Phase: "commit"})
	shows(t, shown, "move", "warning", "half a line", "the last line", "and no end of it", "commit")
}

// TestLiveOnBrokenTerminal loses no line of the log with the terminal's lines.
func TestLiveOnBrokenTerminal(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := &breaking{}
	s := &screen{w: w}
	l := startLive(s, -1, []progress.Member{sample("db2", nil)})
	for deadline := time.Now().Add(10 * time.Second); w.failed() == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // mpb ends by itself
	fmt.Fprintln(s, "still here")
	l.stop()
	if got := w.String(); !strings.Contains(got, "still here\n") {
		t.Errorf("what was written is %q", got)
	}
}

// breaking fails to write what is drawn.
type breaking struct {
	mu    sync.Mutex
	fails int
	text  bytes.Buffer
}

func (b *breaking) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bytes.Contains(p, []byte("db2")) {
		b.fails++
		return 0, errors.New("the terminal has gone")
	}
	return b.text.Write(p)
}

func (b *breaking) failed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fails
}

func (b *breaking) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestWhereProgressGoes(t *testing.T) {
	cases := map[string]struct {
		progress, term, noColor string
		terminal                int
		live                    bool
		every                   time.Duration
	}{
		"a terminal":          {"auto", "xterm", "", 2, true, everyPiped},
		"always, a terminal":  {"always", "xterm", "", 2, true, everyPiped},
		"never":               {"never", "xterm", "", 2, false, 0},
		"no terminal":         {"auto", "xterm", "", -1, false, everyPiped},
		"always, no terminal": {"always", "xterm", "", -1, false, everyAlways},
		"a dumb terminal":     {"auto", "dumb", "", 2, false, everyPiped},
		"one without a name":  {"auto", "", "", 2, false, everyPiped},
		"NO_COLOR":            {"auto", "xterm", "1", 2, false, everyPiped},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TERM", c.term)
			t.Setenv("NO_COLOR", c.noColor)
			a := &app{stdout: io.Discard, stderr: &screen{}, terminal: c.terminal}
			m := a.newMeter(nil, &config.Settings{Progress: c.progress})
			if (m.terminal >= 0) != c.live || m.every != c.every {
				t.Errorf("terminal %d, every %s; want live lines: %v, every %s", m.terminal, m.every, c.live, c.every)
			}
		})
	}
}

func TestProgressLines(t *testing.T) {
	v, _, stderr := testView(&config.Settings{Progress: "auto"})
	for i := range 30 {
		done := int64(i) * 100_000_000
		at := noon.Add(time.Duration(i) * time.Second)
		member := func(name, host string, done int64) progress.Member {
			return sample(host, func(m *progress.Member) {
				m.Status.Name, m.At, m.Done, m.Left, m.Rate = name, at, done, -1, 100_000_000
			})
		}
		v.event(transfer.Event{Type: transfer.EventProgress, Time: at, Members: []progress.Member{
			member(transfer.SourceName, "db1", done-5), member("target-1", "db2", done+3), member("target-2", "db3\x1b", done)}})
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("30 seconds on a pipe give %d lines, want one in 10 s:\n%s", len(lines), stderr.String())
	}
	if want := `db3\x1b:/srv (the slowest of 2): sending 2.00 GB of 3.10 GB (64 %) in 12 files, 100 MB/s, ratio 2.48, held by link`; !strings.HasSuffix(lines[2], want) {
		t.Errorf("got  %s\nwant ... %s", lines[2], want)
	}
}

func TestSlowest(t *testing.T) {
	at := func(p control.Phase, done int64) progress.Member {
		return sample("db", func(m *progress.Member) { m.Status.Phase, m.Done = p, done })
	}
	cases := map[string]struct {
		targets []progress.Member
		done    int64 // of the slowest; -1: none
	}{
		"none":                         {nil, -1},
		"the least":                    {[]progress.Member{at("moving", 5), at("moving", 3), at("moving", 4)}, 3},
		"moving before verifying":      {[]progress.Member{at("verifying", 1), at("moving", 3)}, 3},
		"failed and verified ones not": {[]progress.Member{at("failed", 1), at("verified", 2), at("moving", 3)}, 3},
		"all are done":                 {[]progress.Member{at("failed", 1), at("verified", 2), at("committed", 3)}, -1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m, busy := slowest(c.targets)
			if !busy {
				m.Done = -1
			}
			if m.Done != c.done {
				t.Errorf("got %d, want %d", m.Done, c.done)
			}
		})
	}
}

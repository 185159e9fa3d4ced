package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
	"github.com/transferpy/transferpy/test/terminal"
)

// startOnTerminal starts transferpy with a terminal as all its streams.
func (r *rig) startOnTerminal(rows, columns int, args ...string) (*job, *terminal.Screen) {
	r.t.Helper()
	file, screen := terminal.Open(r.t, rows, columns)
	j := r.prepare([]string{"TERM=xterm"}, append([]string{"transferpy"}, args...)...)
	j.cmd.Stdin, j.cmd.Stdout, j.cmd.Stderr = file, file, file
	j.launch()
	file.Close()
	return j, screen
}

// matching are the lines that match.
func matching(lines []string, pattern string) []string {
	re := regexp.MustCompile(pattern)
	return slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return !re.MatchString(s) })
}

// moves waits until the screen has a line for each of two targets that tells
// all there is to tell.
func (r *rig) moves(j *job, screen *terminal.Screen) {
	r.t.Helper()
	r.until(func() error {
		lines := screen.Lines()
		for _, host := range []string{"db2", "db3"} {
			if len(matching(lines, `^`+host+`:/srv/in  sending +\d.* MB of 105 MB \(\d+ %\) +\d.* MB/s +\d+ s left  held by the limit +ratio 1\.\d\d`)) != 1 {
				if j.ended() {
					r.t.Fatalf("it has ended before that:\n%s", strings.Join(lines, "\n"))
				}
				return fmt.Errorf("no such line of %s:\n%s", host, strings.Join(lines, "\n"))
			}
		}
		return nil
	})
}

// tidy holds the terminal to what a program leaves that has never been there:
// the report, and the cursor below it.
func tidy(t *testing.T, screen *terminal.Screen) []string {
	t.Helper()
	screen.Wait()
	lines := screen.Lines()
	if left := matching(lines, "sending|verifying|verified +\\d"); len(left) > 0 {
		t.Errorf("of the live lines is left:\n%s", strings.Join(left, "\n"))
	}
	if line, column := screen.Cursor(); line != len(lines) || column != 0 {
		t.Errorf("the cursor is at %d,%d after %d lines", line, column, len(lines))
	}
	if unknown := screen.Unknown(); len(unknown) > 0 {
		t.Errorf("the terminal does not understand %q", unknown)
	}
	return lines
}

func progressRig(t *testing.T) *rig {
	t.Helper()
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	r := newRig(t, lab.Options{Hosts: 3})
	r.makeTree("db1", "/srv/data", bulk(100))
	r.sh("db2", "mkdir /srv/in")
	r.sh("db3", "mkdir /srv/in")
	return r
}

func TestProgressOnTerminal(t *testing.T) {
	t.Parallel()
	r := progressRig(t)
	copying := []string{"--no-compress", "--limit-rate", "20M", "db1:/srv/data", "db2:/srv/in", "db3:/srv/in"}

	j, screen := r.startOnTerminal(24, 120, copying...)
	r.moves(j, screen)
	if line, column := screen.Cursor(); line != len(screen.Lines()) || column != 0 {
		t.Errorf("the cursor is at %d,%d between two drawings", line, column)
	}
	j.signal(syscall.SIGINT)
	j.wants(130)
	lines := tidy(t, screen)
	for _, want := range []string{"^transferpy: interrupt: stopping", "^exit code 130$"} {
		if len(matching(lines, want)) != 1 {
			t.Errorf("no line %q in\n%s", want, strings.Join(lines, "\n"))
		}
	}

	j, screen = r.startOnTerminal(24, 120, copying...)
	r.moves(j, screen)
	j.wants(0)
	lines = tidy(t, screen)
	for _, want := range []string{"commit$", "^transfer .* executor calls$"} {
		if len(matching(lines, want)) != 1 {
			t.Errorf("no line %q in\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

// TestOldProgress uses an executor that may be asked each 5 s only: between two
// answers the figures are shown with their age.
func TestOldProgress(t *testing.T) {
	t.Parallel()
	r := progressRig(t)
	if err := buildExample(t.Context(), "executor-argv"); err != nil {
		t.Fatal(err)
	}
	r.sh(lab.Control, `printf '#!/bin/sh\nexec ssh "$1" "$2"\n' >/usr/local/bin/run; chmod 755 /usr/local/bin/run`)
	r.transferpy(0, "--dry-run", "db1:/srv/data", "db2:/srv/in") // places the agents, which takes that executor long
	j, screen := r.startOnTerminal(24, 150, "--plugin-dir", lab.BinDir+"/plugins", "--executor", "argv", "-o", "argv.command=/usr/local/bin/run",
		"-o", "argv.command={host}", "-o", "argv.command={script}", "--no-compress", "--limit-rate", "5M", "db1:/srv/data", "db2:/srv/in")
	r.until(func() error {
		lines := screen.Lines()
		if len(matching(lines, `^db2:/srv/in  sending .* as of [5-9] s ago$`)) != 1 && !j.ended() {
			return fmt.Errorf("no figure has become old:\n%s", strings.Join(lines, "\n"))
		}
		return nil
	})
	if j.ended() {
		t.Errorf("no figure had become old:\n%s", strings.Join(screen.Lines(), "\n"))
	}
	j.signal(syscall.SIGINT)
	j.wants(130)
	tidy(t, screen)
}

func TestProgressElsewhere(t *testing.T) {
	t.Parallel()
	r := progressRig(t)
	copying := []string{"--no-compress", "--limit-rate", "20M", "db1:/srv/data", "db2:/srv/in", "db3:/srv/in"}
	began := time.Now()
	res := r.start([]string{"TRANSFERPY_TEST_PROGRESS=2s"}, copying...).wants(0)
	took := time.Since(began)
	shown := matching(strings.Split(res.stderr, "\n"), `^\d\d:\d\d:\d\d db[23]:/srv/in \(the slowest of 2\): `)
	if n := len(shown); n < 1 || n > int(took/(2*time.Second))+1 || len(matching(shown, `sending \d.* MB of 105 MB \(\d+ %\).* ratio 1\.\d\d`)) == 0 || strings.Contains(res.stderr, "\x1b") {
		t.Errorf("%s with a line each 2 s give %d of them on a pipe:\n%s", took, n, res.stderr)
	}
	r.sh("db2", "rm -r /srv/in/*")
	r.sh("db3", "rm -r /srv/in/*")
	res = r.start(nil, append([]string{"--progress", "never"}, copying...)...).wants(0)
	if strings.Contains(res.stderr, "slowest") {
		t.Errorf("--progress never shows progress:\n%s", res.stderr)
	}
}

// TestHeldBy slows one link of a chain down, and reads of it in the events.
func TestHeldBy(t *testing.T) {
	t.Parallel()
	r := progressRig(t)
	// So slow that nothing else can be slower, on however busy a machine.
	if err := r.Cap("db3", "40mbit"); err != nil {
		t.Fatal(err)
	}
	told, held := 0, map[string]int{}
	for try := 0; try < 3 && (told < 2 || held["link db3"]*2 <= told); try++ { // other tests may hold it back more
		r.sh("db2", "rm -rf /srv/in/data")
		r.sh("db3", "rm -rf /srv/in/data")
		told, held = r.heldBy()
	}
	if told < 2 || held["link db3"]*2 <= told {
		t.Errorf("a link of 5 MB/s is not told as what holds it back: of %d events %v", told, held)
	}
}

// heldBy copies to two targets, and counts the progress events that told of the
// second one and what each says that it is held back by.
func (r *rig) heldBy() (told int, held map[string]int) {
	t := r.t
	t.Helper()
	res := r.transferpy(0, "--no-compress", "--output", "json", "db1:/srv/data", "db2:/srv/in", "db3:/srv/in")
	type member struct {
		Name, Phase    string
		Bytes, Checked int64
		Total          *int64
		Rate, Ratio    *float64
		ETA            *float64 `json:"eta_seconds"`
		Age            *float64 `json:"age_seconds"`
		HeldBy         *string  `json:"held_by"`
		HeldHost       string   `json:"held_by_host"`
	}
	held = map[string]int{}
	for line := range strings.Lines(res.stdout) {
		var e struct {
			Event   string
			Time    time.Time
			Members []member
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Event != "progress" {
			continue
		}
		if len(e.Members) != 3 || e.Members[0].Name != "source" {
			t.Fatalf("not the source and two targets: %s", line)
		}
		m := e.Members[2]
		if m.Phase != "moving" || m.Rate == nil || m.Bytes < 40<<20 { // until db2 can take no more, nothing is slow for it
			continue
		}
		told++
		if m.HeldBy != nil {
			held[*m.HeldBy+" "+m.HeldHost]++
		}
		if m.Total == nil || *m.Total != 100<<20 || m.Bytes > *m.Total || m.Ratio == nil || m.Age == nil || *m.Age > 30 ||
			*m.Rate > 0 && m.ETA == nil || *m.Rate > 10e6 {
			t.Errorf("%s", line)
		}
	}
	return told, held
}

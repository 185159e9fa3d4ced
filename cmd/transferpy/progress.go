package main

import (
	"fmt"
	"os"
	"time"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/core/transfer"
)

// How often progress is shown: on a terminal lines are drawn anew, elsewhere
// they pile up in somebody's log.
const (
	everyTerminal = time.Second / 4
	everyAlways   = time.Second
	everyPiped    = 10 * time.Second
)

// meter shows how far a transfer is: by live lines on a terminal, else by a
// line of the log from time to time, about the target that is furthest
// behind.
type meter struct {
	log      *logger
	screen   *screen
	terminal int           // file descriptor for live lines; -1: none
	every    time.Duration // between lines of the log; 0: never any

	phase string
	shown time.Time
	live  *live // nil while no live lines are shown
}

func (a *app) newMeter(log *logger, settings *config.Settings) *meter {
	m := &meter{log: log, screen: a.stderr, terminal: -1, every: pipedEvery()}
	switch {
	case settings.Progress == "never":
		m.every = 0
	case a.terminal >= 0 && capable(os.Getenv) && !(settings.JSON && terminalOf(a.stdout) >= 0):
		m.terminal = a.terminal // JSON on the same terminal would be drawn over
	case settings.Progress == "always":
		m.every = min(m.every, everyAlways)
	}
	return m
}

// capable reports whether the environment allows more than plain lines.
func capable(getenv func(string) string) bool {
	t := getenv("TERM")
	return t != "" && t != "dumb" && getenv("NO_COLOR") == ""
}

// pipedEvery is everyPiped, which a test shortens by TRANSFERPY_TEST_PROGRESS.
func pipedEvery() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("TRANSFERPY_TEST_PROGRESS")); err == nil && d > 0 {
		return d
	}
	return everyPiped
}

// enter tells that the transfer went into another phase. Live lines end with
// the phase that they are of.
func (m *meter) enter(e transfer.Event) {
	m.stop()
	if e.Phase == m.phase && e.Message == "" {
		return
	}
	m.phase = e.Phase
	text := e.Phase
	if e.Message != "" && e.Message != e.Phase {
		text += ": " + e.Message
	}
	m.log.line(e.Time, "%s", text)
}

// show takes one progress event and shows it when it is time.
func (m *meter) show(e transfer.Event) {
	targets := targetsOf(e.Members)
	switch {
	case m.every == 0 || len(targets) == 0:
	case m.terminal < 0:
		m.showLine(e.Time, targets)
	case m.live != nil:
		m.live.update(targets)
	default:
		if _, busy := slowest(targets); busy {
			m.live = startLive(m.screen, m.terminal, targets)
		}
	}
}

// stop takes live lines away. They come back with the next progress.
func (m *meter) stop() {
	if m.live != nil {
		m.live.stop()
		m.live = nil
	}
}

// showLine writes a line to the log, if it is time.
func (m *meter) showLine(now time.Time, targets []progress.Member) {
	if now.IsZero() {
		now = time.Now()
	}
	member, busy := slowest(targets)
	if !busy || now.Sub(m.shown) < m.every {
		return
	}
	m.shown = now
	l := lineOf(&member, now)
	m.log.line(now, "%s%s: %s", l.name, onlyIf(len(targets) > 1, fmt.Sprintf(" (the slowest of %d)", len(targets))), l.sentence())
}

// targetsOf leaves the source out.
func targetsOf(members []progress.Member) []progress.Member {
	if len(members) > 0 && members[0].Status.Name == transfer.SourceName {
		return members[1:]
	}
	return members
}

// slowest is the target at work that is furthest behind; false: none is at
// work.
func slowest(targets []progress.Member) (found progress.Member, busy bool) {
	behind := func(a, b *progress.Member) bool {
		if a.Verifying() != b.Verifying() {
			return b.Verifying()
		}
		return a.Done < b.Done
	}
	for i := range targets {
		if t := &targets[i]; t.AtWork() && (!busy || behind(t, &found)) {
			found, busy = *t, true
		}
	}
	return found, busy
}

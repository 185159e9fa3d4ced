package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
)

// How often progress is shown: on a terminal the line is rewritten, elsewhere
// lines pile up in somebody's log.
const (
	everyTerminal = time.Second / 4
	everyAlways   = time.Second
	everyPiped    = 10 * time.Second
)

// progress shows how far a transfer is, as often as suits the stream.
type progress struct {
	log      *logger
	targets  []transfer.Endpoint
	every    time.Duration // 0: never
	terminal int           // file descriptor; -1: the stream is no terminal

	current   string // phase
	shown     time.Time
	lastBytes int64
	lastTime  time.Time
	rate      float64 // bytes a second, smoothed
}

func newProgress(log *logger, settings *config.Settings, terminal int) *progress {
	p := &progress{log: log, targets: settings.Request.Targets, terminal: terminal}
	switch {
	case settings.Progress == "never":
	case terminal >= 0:
		p.every = everyTerminal
	case settings.Progress == "always":
		p.every = everyAlways
	default:
		p.every = everyPiped
	}
	return p
}

// phase tells that the transfer went into another phase.
func (p *progress) phase(e transfer.Event) {
	if e.Phase == p.current && e.Message == "" {
		return
	}
	p.current = e.Phase
	text := e.Phase
	if e.Message != "" && e.Message != e.Phase {
		text += ": " + e.Message
	}
	p.log.line(e.Time, "%s", text)
}

// show takes one progress event and shows it when it is time.
func (p *progress) show(e transfer.Event) {
	now := e.Time
	if now.IsZero() {
		now = time.Now()
	}
	slowest, ok := p.slowest(e.Members)
	if !ok {
		return
	}
	p.measure(now, slowest.Bytes)
	if p.every == 0 || now.Sub(p.shown) < p.every {
		return
	}
	p.shown = now
	text := p.text(e, slowest)
	if p.terminal < 0 {
		p.log.line(now, "%s", text)
		return
	}
	width := 80
	if w, _, err := term.GetSize(p.terminal); err == nil && w > 10 {
		width = w
	}
	if r := []rune(text); len(r) >= width {
		text = string(r[:width-1])
	}
	p.log.rewrite(text)
}

// slowest is the target that has written least of those that are at work.
func (p *progress) slowest(members []control.MemberStatus) (control.MemberStatus, bool) {
	var found *control.MemberStatus
	for i, m := range members {
		if strings.HasPrefix(m.Name, "target") && m.Phase != control.PhaseFailed && (found == nil || m.Bytes < found.Bytes) {
			found = &members[i]
		}
	}
	if found == nil {
		return control.MemberStatus{}, false
	}
	return *found, true
}

// measure keeps a rate that follows the last few seconds.
func (p *progress) measure(now time.Time, bytes int64) {
	elapsed := now.Sub(p.lastTime).Seconds()
	if p.lastTime.IsZero() || bytes < p.lastBytes {
		p.lastTime, p.lastBytes = now, bytes
		return
	}
	if elapsed < 0.2 {
		return
	}
	rate := float64(bytes-p.lastBytes) / elapsed
	const weight = 0.4 // of the newest sample
	if p.rate == 0 {
		p.rate = rate
	} else {
		p.rate += weight * (rate - p.rate)
	}
	p.lastTime, p.lastBytes = now, bytes
}

// text is the progress in one line: the slowest target decides.
func (p *progress) text(e transfer.Event, m control.MemberStatus) string {
	total := max(e.Total, m.Total)
	if m.Phase == control.PhaseVerifying {
		return fmt.Sprintf("%s: %s of %s read back", p.name(m), bytesText(m.Checked), bytesText(m.Bytes))
	}
	text := p.name(m) + ": " + bytesText(m.Bytes)
	if total > 0 {
		text = fmt.Sprintf("%s of %s (%d %%)", text, bytesText(total), min(100, m.Bytes*100/total))
	}
	text = fmt.Sprintf("%s in %d files", text, m.Files)
	if p.rate < 1 {
		return text // nothing was measured yet
	}
	text += ", " + rateText(int64(p.rate), 1)
	if total > m.Bytes {
		text += ", " + secondsText(float64(total-m.Bytes)/p.rate) + " left"
	}
	return text
}

// name is how the operator called a member.
func (p *progress) name(m control.MemberStatus) string {
	digits := strings.TrimPrefix(m.Name, "target-")
	if n, err := strconv.Atoi(digits); err == nil && n >= 1 && n <= len(p.targets) {
		if len(p.targets) > 1 {
			return endpoint(p.targets[n-1]) + " (the slowest)"
		}
		return endpoint(p.targets[n-1])
	}
	return m.Name
}

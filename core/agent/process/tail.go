package process

import (
	"io"
	"regexp"
	"strings"
	"sync"
)

// Bounds of what is kept of a command's stderr.
const (
	tailLines   = 40
	maxTailLine = 4 << 10
	redacted    = "[redacted]"
)

// longLine stands for a line that is too long to be kept. It is not cut,
// since a pattern that hides a secret might not match what is left of it.
const longLine = "[a line of more than 4 KiB was left out]"

// tail keeps the last lines that are written to it. A carriage return ends a
// line, too: tools draw their progress with it.
type tail struct {
	redact   []*regexp.Regexp
	progress *regexp.Regexp
	log      io.Writer // every line, redacted; nil: none is kept elsewhere

	mu      sync.Mutex
	part    []byte   // of a line that is not complete
	long    bool     // that line is too long already
	lines   []string // redacted, at most tailLines
	final   string   // the last non-empty line as it was written, for the success rule
	any     bool     // something was written
	matched string   // the last progress line, redacted
}

func newTail(redact []string, progress string) (*tail, error) {
	t := &tail{}
	for _, pattern := range redact {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, badPattern("redact", err)
		}
		t.redact = append(t.redact, re)
	}
	if progress != "" {
		var err error
		if t.progress, err = regexp.Compile(progress); err != nil {
			return nil, badPattern("progress", err)
		}
	}
	return t, nil
}

// Write takes stderr as it comes.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.any = t.any || len(p) > 0
	for _, c := range p {
		switch {
		case c == '\n' || c == '\r':
			t.endLine()
		case len(t.part) < maxTailLine:
			t.part = append(t.part, c)
		default:
			t.long = true
		}
	}
	return len(p), nil
}

// flush ends a last line that has no newline.
func (t *tail) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLine()
}

// endLine keeps the line that is complete now. mu is held.
func (t *tail) endLine() {
	line := string(t.part)
	if t.long {
		line = longLine
	}
	t.part, t.long = t.part[:0], false
	if strings.TrimSpace(line) == "" {
		return
	}
	t.final = line
	shown := line
	for _, re := range t.redact {
		shown = re.ReplaceAllLiteralString(shown, redacted)
	}
	if t.log != nil {
		_, _ = io.WriteString(t.log, shown+"\n") // a log that cannot be written stops nothing
	}
	if t.progress != nil && t.progress.MatchString(line) {
		t.matched = shown
	}
	if len(t.lines) == tailLines {
		t.lines = t.lines[:copy(t.lines, t.lines[1:])]
	}
	t.lines = append(t.lines, shown)
}

// text is what is kept, redacted.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// last returns the last non-empty line as it was written, and whether
// anything was.
func (t *tail) last() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final, t.any
}

func (t *tail) lastProgress() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.matched
}

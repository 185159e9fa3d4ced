package launch

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"sync"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of what is remembered of a plugin's stderr.
const (
	tailLines = 20
	tailLine  = 1 << 10 // bytes of one line
)

// redacted stands where a secret stood.
const redacted = "[redacted]"

// tail remembers the last lines of a plugin's stderr, for the error that
// tells how it died, and keeps secrets out of them.
type tail struct {
	done chan struct{} // closed when copy has returned

	mu      sync.Mutex
	lines   []string
	secrets *strings.Replacer
}

func newTail() *tail {
	return &tail{done: make(chan struct{}), secrets: strings.NewReplacer()}
}

// redact makes secrets unreadable from now on, as they are and as they stand
// in a JSON string.
func (t *tail) redact(secrets []string) {
	var pairs []string
	for _, s := range secrets {
		if s == "" {
			continue
		}
		pairs = append(pairs, s, redacted)
		if quoted, err := json.Marshal(s); err == nil {
			pairs = append(pairs, string(quoted[1:len(quoted)-1]), redacted)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secrets = strings.NewReplacer(pairs...)
}

func (t *tail) clean(s string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.secrets.Replace(s)
}

// cleanError is err without secrets in its texts.
func (t *tail) cleanError(err error) error {
	e, ok := err.(*sdk.Error)
	if !ok {
		return err
	}
	c := *e
	c.Message, c.Hint, c.Stderr = t.clean(e.Message), t.clean(e.Hint), t.clean(e.Stderr)
	return &c
}

// copy reads lines until the end of r, remembers them and hands them on to w.
// What is longer than 64 KiB is handed on in pieces.
func (t *tail) copy(w io.Writer, r io.Reader) {
	defer close(t.done)
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, more, err := in.ReadLine()
		if err != nil {
			return
		}
		clean := t.clean(string(line))
		t.remember(clean)
		end := "\n"
		if more {
			end = ""
		}
		io.WriteString(w, clean+end) // go-plugin reads on until we close
	}
}

// remember adds a line, with what is worth knowing of a line of log.
func (t *tail) remember(line string) {
	var entry struct {
		Level   string `json:"@level"`
		Message string `json:"@message"`
		Error   any    `json:"error"`
		Stack   string `json:"stack"`
	}
	if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &entry) == nil && entry.Message != "" {
		if entry.Level == "debug" || entry.Level == "trace" {
			return
		}
		line = "[" + entry.Level + "] " + entry.Message
		if s, ok := entry.Error.(string); ok {
			line += ": " + s
		}
	}
	line = strings.ToValidUTF8(line, "\uFFFD")
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line[:min(len(line), tailLine)])
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

// String is the lines that are remembered, one under the other.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

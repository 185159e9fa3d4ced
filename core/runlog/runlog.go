// Package runlog keeps a log of each transfer on the control host: all that
// happens, at level debug, whatever the terminal showed. It is the file ID.log
// in the directory "logs" of the state directory, to which everybody who works
// on that transfer appends: the run, its resumption, its cleanup.
//
// A log never disturbs what it tells of: it cannot fail, and what it cannot
// write is left out. Whatever reaches it is made safe to print.
package runlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/printable"
	"github.com/transferpy/transferpy/sdk"
)

// Bounds, in bytes. A transfer of days says about 10 MiB at level debug; one
// whose plugin says the same thing without end must not fill the disk.
const (
	maxDebug = 16 << 20 // of a log: then warnings and errors only
	maxAll   = 24 << 20 // then nothing
	maxHeld  = 1 << 20  // of what comes before the transfer has an id
	maxLine  = 64 << 10
)

// Dir is the directory of the logs in a state directory.
const Dir = "logs"

const suffix = ".log"

// Path is where the log of a transfer lies, if it has one.
func Path(stateDir, id string) string { return filepath.Join(stateDir, Dir, id+suffix) }

// Log is the log of the transfer that this process works on. Its methods may
// be called from several goroutines at once. What comes before Begin is held
// back for it.
type Log struct {
	format hclog.SinkAdapter // writes lines to the Log

	mu     sync.Mutex
	id     string
	file   *os.File // nil: none yet, or it could not be opened
	size   int64
	held   []byte
	barred bool // it has said that it is full
}

// New makes a Log without a file. The caller closes it.
func New() *Log {
	l := &Log{}
	l.format = hclog.NewSinkAdapter(&hclog.LoggerOptions{Level: hclog.Debug, Output: lines{l},
		TimeFormat: "2006-01-02T15:04:05.000Z07:00", TimeFn: func() time.Time { return time.Now().UTC() }})
	return l
}

// Begin makes the log that of a transfer, and appends to its file what was
// held back until now. A second call with the same id does nothing; one with
// another goes on with that one's. The error says why there is no log, once.
func (l *Log) Begin(stateDir, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id {
		return nil
	}
	l.end()
	l.id, l.barred = id, false
	file, size, err := open(stateDir, id)
	if err != nil {
		l.held = nil
		return err
	}
	l.file, l.size = file, size
	held := l.held
	l.held = nil
	l.write(held)
	return nil
}

// Close ends the log.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	l.id, l.held = "", nil
}

// end closes the file; for who holds the lock.
func (l *Log) end() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// open opens the file of a log for appending, and removes those that are too
// old.
func open(stateDir, id string) (*os.File, int64, error) {
	if !journal.ValidID(id) {
		return nil, 0, &sdk.Error{Kind: sdk.KindInternal, Message: fmt.Sprintf("%q is not the id of a transfer", id)}
	}
	dir := filepath.Join(stateDir, Dir)
	for _, d := range []string{stateDir, dir} {
		if err := journal.MakeDir(d); err != nil {
			return nil, 0, err
		}
	}
	prune(stateDir, time.Now())
	path := Path(stateDir, id)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, 0, &sdk.Error{Kind: sdk.KindPermission, Message: "there is no log of the transfer: " + err.Error(), Hint: "see who has changed " + dir}
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, 0, &sdk.Error{Kind: sdk.KindPermission, Message: "there is no log of the transfer: " + path + " is no file", Hint: "remove it"}
	}
	return file, info.Size(), nil
}

// prune removes the logs of transfers that began more than journal.Keep ago
// and have no journal any more.
func prune(stateDir string, now time.Time) {
	entries, err := os.ReadDir(filepath.Join(stateDir, Dir))
	if err != nil {
		return
	}
	limit := now.Add(-journal.Keep).UTC().Format("20060102-150405-")
	for _, e := range entries { // by name, so by time
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || !journal.ValidID(id) {
			continue
		}
		if id >= limit {
			return
		}
		if _, _, err := journal.Read(stateDir, id); errors.Is(err, sdk.ErrNotFound) {
			os.Remove(Path(stateDir, id))
		}
	}
}

// Accept implements hclog.SinkAdapter.
func (l *Log) Accept(name string, level hclog.Level, message string, args ...any) {
	l.mu.Lock()
	room := l.room(level)
	l.mu.Unlock()
	if room {
		l.format.Accept(name, level, message, args...)
	}
}

// room reports whether there is any for a line of that level, and says once
// when there is none for the lower ones any more.
func (l *Log) room(level hclog.Level) bool {
	switch {
	case l.file == nil && l.id != "", l.size >= maxAll:
		return false
	case l.file == nil:
		return len(l.held) < maxHeld
	case l.size < maxDebug:
		return true
	}
	if !l.barred {
		l.barred = true
		l.write(fmt.Appendf(nil, "the log has %d bytes: from here on it has warnings and errors only\n", l.size))
	}
	return level >= hclog.Warn
}

// Text logs a text of several lines, each by itself.
func (l *Log) Text(name string, level hclog.Level, text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\n"); line != "" {
			l.Accept(name, level, line)
		}
	}
}

// Logger gives a logger that logs to w at its level and to the log at level
// debug.
func (l *Log) Logger(name string, level hclog.Level, w io.Writer) hclog.Logger {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: name, Level: level, Output: w})
	logger.RegisterSink(l)
	return logger
}

// lines takes what the format writes: whole lines, with their ends.
type lines struct{ log *Log }

// Write implements io.Writer. It never fails.
func (w lines) Write(p []byte) (int, error) {
	var safe []byte
	for part := range bytes.Lines(p) {
		part = bytes.TrimSuffix(part, []byte("\n"))
		if len(part) > maxLine {
			part = append(part[:maxLine:maxLine], "..."...)
		}
		safe = append(append(safe, printable.Text(string(part))...), '\n')
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.write(safe)
	return len(p), nil
}

// write writes lines to the file, in one call so that those of several
// processes do not mix; for who holds the lock.
func (l *Log) write(safe []byte) {
	if l.file == nil {
		if l.id == "" && len(l.held)+len(safe) <= 2*maxHeld {
			l.held = append(l.held, safe...)
		}
		return
	}
	if n, err := l.file.Write(safe); err == nil || n > 0 {
		l.size += int64(n)
	}
}

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of the logs that are kept of commands.
const (
	maxLog   = 32 << 20 // bytes of one
	keptLogs = 16       // the newest ones of a directory
	logEnd   = ".log"
)

// Log is the stderr of a command in a file that outlives the transfer. It is
// bounded: of what is more than 32 MiB, a line says that it was left out.
type Log struct {
	f    *os.File
	left int
}

// OpenLog begins the log NAME.log in a directory, which it makes (0700) if need
// be, and removes all but the newest of the others there. The caller closes it.
func OpenLog(dir, name string) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep a log: %w", err)
	}
	dropOldLogs(dir)
	f, err := os.OpenFile(filepath.Join(dir, name+logEnd), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot keep a log: %w", err)
	}
	return &Log{f: f, left: maxLog}, nil
}

// dropOldLogs makes room for one more. Names begin with the transfer's id,
// which begins with its time.
func dropOldLogs(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), logEnd) })
	for _, e := range entries[:max(0, len(entries)-keptLogs+1)] {
		_ = os.Remove(filepath.Join(dir, e.Name()))
	}
}

// Path is where the log lies.
func (l *Log) Path() string { return l.f.Name() }

// Write takes lines as they come.
func (l *Log) Write(p []byte) (int, error) {
	if l.left < len(p) {
		if l.left > 0 {
			l.left = 0
			_, _ = l.f.WriteString("[the rest is more than is kept]\n")
		}
		return len(p), nil
	}
	l.left -= len(p)
	return l.f.Write(p)
}

// Close closes the log, and removes one in which nothing was written.
func (l *Log) Close() error {
	if info, err := l.f.Stat(); err == nil && info.Size() == 0 {
		_ = os.Remove(l.f.Name())
	}
	return l.f.Close()
}

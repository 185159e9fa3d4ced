package daemon

import (
	"io"
	"os"
	"sync"
)

// maxLog bounds an agent's log, in bytes.
const maxLog = 1 << 20

// boundedLog is a file that starts anew when it is full.
type boundedLog struct {
	mu   sync.Mutex
	file *os.File
	size int
}

func openLog(path string) (*boundedLog, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &boundedLog{file: file}, nil
}

// Write implements io.Writer. A full disk costs the log, not the transfer.
func (l *boundedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+len(p) > maxLog {
		if err := l.file.Truncate(0); err != nil {
			return 0, err
		}
		if _, err := l.file.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		l.size = 0
	}
	l.size += len(p)
	return l.file.Write(p)
}

// Close closes the file.
func (l *boundedLog) Close() error { return l.file.Close() }

package ssh

import (
	"bytes"
	"strconv"
	"sync"
)

const (
	maxNoise  = 64 << 10 // of what comes before the mark, the last bytes are kept
	maxPidLen = 20
)

// capture takes a stream of a session: noise up to a line of the mark and a
// process id, then the command's output up to maxOutput bytes; the rest is
// taken and dropped, so that the command never blocks. Its methods may be
// called from several goroutines.
type capture struct {
	mark    []byte
	started chan struct{} // closed when the mark has come

	mu    sync.Mutex
	noise []byte
	pid   int
	out   []byte
	cut   bool
}

func newCapture(mark string) *capture {
	return &capture{mark: []byte(mark + " "), started: make(chan struct{})}
}

// Write implements io.Writer and never fails.
func (c *capture) Write(p []byte) (int, error) {
	n := len(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid == 0 {
		p = c.seek(p)
	}
	room := min(maxOutput-len(c.out), len(p))
	c.out = append(c.out, p[:room]...)
	c.cut = c.cut || room < len(p)
	return n, nil
}

// seek looks for the mark's line in the noise with p behind it and returns
// what comes after; nothing as long as the line is not whole.
func (c *capture) seek(p []byte) []byte {
	from := max(0, len(c.noise)-len(c.mark)-maxPidLen-1)
	c.noise = append(c.noise, p...)
	for rest := c.noise[from:]; ; {
		i := bytes.Index(rest, c.mark)
		if i < 0 {
			break
		}
		rest = rest[i+len(c.mark):]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		if pid, err := strconv.ParseInt(string(rest[:end]), 10, 32); err == nil && pid > 1 {
			c.pid, c.noise = int(pid), nil
			close(c.started)
			return rest[end+1:]
		}
	}
	if len(c.noise) > maxNoise {
		c.noise = bytes.Clone(c.noise[len(c.noise)-maxNoise/2:])
	}
	return nil
}

// snapshot is what has come by now. The slices are copies.
type snapshot struct {
	pid   int
	out   []byte
	cut   bool
	noise []byte
}

func (c *capture) snapshot() snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return snapshot{pid: c.pid, out: bytes.Clone(c.out), cut: c.cut, noise: bytes.Clone(c.noise)}
}

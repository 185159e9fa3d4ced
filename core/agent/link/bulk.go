package link

import (
	"bufio"
	"net"
	"sync"

	"github.com/transferpy/transferpy/core/agent/stopwatch"
)

// bulkSize is how much goes to the kernel, and comes from it, in one call
// once a connection carries data. TLS alone would make a call for every record
// of 16 KiB.
const bulkSize = 256 << 10

// bulk is a TCP connection below TLS that gathers records. Until large is
// called it passes everything through.
type bulk struct {
	net.Conn
	in *bufio.Reader // nil: not gathering

	mu     sync.Mutex
	wait   *stopwatch.Watch
	corked bool
	out    []byte
}

// large begins to gather. Nobody reads or writes meanwhile.
func (b *bulk) large() {
	b.in = bufio.NewReaderSize(b.Conn, bulkSize)
	b.out = make([]byte, 0, bulkSize+32<<10)
}

// Read implements net.Conn.
func (b *bulk) Read(p []byte) (int, error) {
	if b.in == nil {
		return b.Conn.Read(p)
	}
	return b.in.Read(p)
}

// Write implements net.Conn. What it holds back while corked goes out with
// the uncorking; an error of the kernel is told then or by a later Write.
func (b *bulk) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.corked || b.out == nil {
		return b.send(p)
	}
	b.out = append(b.out, p...)
	if len(b.out) < bulkSize {
		return len(p), nil
	}
	return len(p), b.flush()
}

// cork holds records back until there are enough of them, or uncork.
func (b *bulk) cork() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.corked = true
}

// uncork sends what was held back.
func (b *bulk) uncork() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.corked = false
	return b.flush()
}

// send is called with the lock held.
func (b *bulk) send(p []byte) (int, error) {
	b.wait.Start()
	defer b.wait.Stop()
	return b.Conn.Write(p)
}

// flush is called with the lock held.
func (b *bulk) flush() error {
	if len(b.out) == 0 {
		return nil
	}
	_, err := b.send(b.out)
	b.out = b.out[:0]
	return err
}

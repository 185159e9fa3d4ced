// Package stopwatch measures how long goroutines are at something, for less
// than it costs to move a frame: what holds a transfer back is read from it.
package stopwatch

import (
	"sync"
	"time"
)

// Watch adds up the time that goroutines are at one thing. Several may be at
// it at once, and each counts. The zero Watch has measured nothing; a nil one
// measures nothing. Safe for concurrent use.
type Watch struct {
	mu      sync.Mutex
	sum     time.Duration // of those who have stopped, less the beginnings of those who have not
	running int
}

// began is where all watches count from.
var began = time.Now()

// Start begins one goroutine's time. It calls Stop in the end.
func (w *Watch) Start() { w.add(1) }

// Stop ends one goroutine's time.
func (w *Watch) Stop() { w.add(-1) }

func (w *Watch) add(n int) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum -= time.Duration(n) * time.Since(began)
	w.running += n
}

// Spent is the sum of all times, those that still run up to now: a goroutine
// that hangs shows. It never shrinks.
func (w *Watch) Spent() time.Duration {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum + time.Duration(w.running)*time.Since(began)
}

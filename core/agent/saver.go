package agent

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// saver writes a target's checkpoints beside its work, one at a time.
type saver struct {
	every time.Duration                               // 0: none are written
	save  func(entries uint64, files []partial) error // brings all to the disk first
	log   *slog.Logger

	last  time.Time // when one began
	busy  atomic.Bool
	group sync.WaitGroup
}

// due reports whether it is time for the next one. For one goroutine, as begin
// and wait are.
func (v *saver) due() bool {
	return v.every > 0 && time.Since(v.last) >= v.every && !v.busy.Load()
}

// begin writes a checkpoint, unless one is being written. A failure costs no
// more than the work that it would have saved.
func (v *saver) begin(entries uint64, files []partial) {
	if v.every == 0 || !v.busy.CompareAndSwap(false, true) {
		return
	}
	v.last = time.Now()
	v.group.Go(func() {
		defer v.busy.Store(false)
		if err := v.save(entries, files); err != nil {
			v.log.Warn("no checkpoint", "error", err)
		}
	})
}

// wait waits for the one that is being written.
func (v *saver) wait() { v.group.Wait() }

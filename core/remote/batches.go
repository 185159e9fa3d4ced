package remote

import (
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// batches collects what calls emit and hands it on: when all hosts have
// answered, and what there is when none has for a while. Of several results
// for one host the first counts; results for hosts that nobody asked are
// dropped. It is safe for concurrent use.
type batches struct {
	take  func(map[string]sdk.Result)
	quiet time.Duration
	timer *time.Timer

	mu     sync.Mutex
	wanted map[string]bool // hosts without a result
	ready  map[string]sdk.Result
	closed bool
	taking sync.WaitGroup
}

func newBatches(hosts []string, quiet time.Duration, take func(map[string]sdk.Result)) *batches {
	b := &batches{take: take, quiet: quiet, wanted: make(map[string]bool, len(hosts)), ready: map[string]sdk.Result{}}
	for _, h := range hosts {
		b.wanted[h] = true
	}
	b.timer = time.AfterFunc(quiet, b.hand)
	b.timer.Stop() // until something is there
	return b
}

// add takes one result.
func (b *batches) add(res sdk.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.wanted[res.Host] || b.closed {
		return
	}
	delete(b.wanted, res.Host)
	if res.Err != nil {
		copied := *res.Err
		copied.Host = res.Host
		res.Err = &copied
	}
	b.ready[res.Host] = res
	if len(b.wanted) == 0 {
		b.flush()
	} else {
		b.timer.Reset(b.quiet)
	}
}

// hand hands on what there is.
func (b *batches) hand() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.flush()
	}
}

// flush is hand for who holds the lock.
func (b *batches) flush() {
	if len(b.ready) == 0 {
		return
	}
	batch := b.ready
	b.ready = map[string]sdk.Result{}
	b.taking.Go(func() { b.take(batch) })
}

// close hands on the rest and returns when every take has returned.
func (b *batches) close() {
	b.timer.Stop()
	b.mu.Lock()
	b.flush()
	b.closed = true
	b.mu.Unlock()
	b.taking.Wait()
}

// Package relay passes frames on: from the link they came by to the local
// sink and to the next hop, through a ring that is bounded in bytes. It looks
// at no frame's content.
package relay

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/transferpy/transferpy/core/agent/stopwatch"
)

// Budget bounds the bytes of all buffers that are out at once; it is what
// keeps an agent's memory bounded, and what holds a fast peer back. Safe for
// concurrent use.
type Budget struct {
	// Waiting, if set before the first Get, counts the time that Get waits.
	Waiting *stopwatch.Watch

	size int64
	sem  *semaphore.Weighted
	free chan []byte // of the usual size, to be used again; no sync.Pool, which every collection would empty
}

// usual is the size of buffers that are used again: a piece with its header and some
// extents. Larger ones are made as needed, and still counted.
const usual = 1<<20 + 128<<10

// NewBudget makes a Budget of so many bytes, at least a few of the largest
// buffers.
func NewBudget(size int64) *Budget {
	return &Budget{size: size, sem: semaphore.NewWeighted(size), free: make(chan []byte, max(size/usual, 1))}
}

// Buffer is memory taken from a Budget, until the last holder releases it.
type Buffer struct {
	B      []byte
	weight int64
	holds  atomic.Int32
	budget *Budget
}

// Get returns a buffer of n bytes with one hold on it. It waits until the
// budget allows it or ctx ends.
func (b *Budget) Get(ctx context.Context, n int) (*Buffer, error) {
	weight := min(int64(max(n, minWeight)), b.size)
	if err := b.acquire(ctx, weight); err != nil {
		return nil, err
	}
	buf := &Buffer{weight: weight, budget: b}
	switch {
	case n > usual || n <= small:
		buf.B = make([]byte, n)
	default:
		buf.B = b.Spare()[:n]
	}
	buf.holds.Store(1)
	return buf, nil
}

func (b *Budget) acquire(ctx context.Context, weight int64) error {
	if b.sem.TryAcquire(weight) {
		return nil
	}
	b.Waiting.Start()
	defer b.Waiting.Stop()
	if b.sem.Acquire(ctx, weight) != nil {
		return context.Cause(ctx)
	}
	return nil
}

const (
	// minWeight makes small buffers count for what they cost beside their
	// bytes, and so bounds their number.
	minWeight = 4 << 10
	// small buffers are not worth keeping.
	small = 32 << 10
)

// Spare returns memory of the usual size that the Budget does not count, for
// who needs it for a moment and bounds how many do. It goes into a Buffer by
// Swap, or back by Keep.
func (b *Budget) Spare() []byte {
	select {
	case used := <-b.free:
		return used
	default:
		return make([]byte, usual)
	}
}

// Keep takes memory back that Spare or Swap has given.
func (b *Budget) Keep(spare []byte) {
	if cap(spare) == usual {
		select {
		case b.free <- spare[:usual]:
		default:
		}
	}
}

// Swap puts other, a Spare cut to what it holds, in the place of the buffer's
// memory, which it returns. It refuses, and returns nil, where the buffer is
// not of the usual size and so counts for less.
func (b *Buffer) Swap(other []byte) []byte {
	if cap(b.B) != usual || cap(other) != usual {
		return nil
	}
	mine := b.B
	b.B = other
	return mine
}

// Hold adds a hold.
func (b *Buffer) Hold() { b.holds.Add(1) }

// Release gives one hold back; after the last one nobody may touch B.
func (b *Buffer) Release() {
	switch left := b.holds.Add(-1); {
	case left > 0:
		return
	case left < 0:
		panic("relay: a buffer was released twice")
	}
	b.budget.Keep(b.B)
	b.B = nil
	b.budget.sem.Release(b.weight)
}

package relay

import (
	"context"
	"io"
	"sync"

	"github.com/transferpy/transferpy/core/agent/frame"
)

// Packet is a frame with the buffer it lies in; nil for one that is not taken
// from a budget.
type Packet struct {
	*frame.Frame
	Buffer *Buffer
}

// Hold adds a hold on the buffer, if the frame lies in one.
func (p Packet) Hold() {
	if p.Buffer != nil {
		p.Buffer.Hold()
	}
}

// Release gives the hold on the buffer back, if the frame lies in one.
func (p Packet) Release() {
	if p.Buffer != nil {
		p.Buffer.Release()
	}
}

// Weight is what the packet counts in its budget; for one that is not taken
// from a budget, its length.
func (p Packet) Weight() int64 {
	if p.Buffer != nil {
		return p.Buffer.weight
	}
	return int64(len(p.Wire()))
}

// Ring hands every frame to each of its taps, in order. It is bounded by the
// budget that the packets' buffers come from: a packet holds its part until
// the slowest tap has released it, so the reader waits for memory and with
// it, through TCP, everything before it in the chain.
type Ring struct {
	mu   sync.Mutex
	taps []*Tap
	end  error
}

// NewRing makes a ring without taps.
func NewRing() *Ring { return &Ring{} }

// Tap adds a consumer that sees all packets put from now on. Its owner calls
// Leave when it is done.
func (r *Ring) Tap() *Tap {
	t := &Tap{ring: r, more: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.end = r.end
	r.taps = append(r.taps, t)
	return t
}

// Put hands p to all taps and takes over the caller's hold on it.
func (r *Ring) Put(p Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.taps {
		p.Hold()
		t.queue = append(t.queue, p)
		t.wake()
	}
	p.Release()
}

// Close ends the ring: taps get what is queued and then err, or io.EOF for
// nil. Only the first Close counts.
func (r *Ring) Close(err error) {
	if err == nil {
		err = io.EOF
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		return
	}
	r.end = err
	for _, t := range r.taps {
		t.end = err
		t.wake()
	}
}

// Tap is one consumer of a Ring. Next is for one goroutine.
type Tap struct {
	ring  *Ring
	queue []Packet
	end   error
	more  chan struct{}
}

func (t *Tap) wake() {
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// Next returns the next packet, with a hold that the caller releases. It
// waits until there is one, the ring is closed, or ctx ends.
func (t *Tap) Next(ctx context.Context) (Packet, error) {
	for {
		t.ring.mu.Lock()
		if len(t.queue) > 0 {
			p := t.queue[0]
			t.queue[0] = Packet{}
			t.queue = t.queue[1:]
			t.ring.mu.Unlock()
			return p, nil
		}
		end := t.end
		t.ring.mu.Unlock()
		if end != nil {
			return Packet{}, end
		}
		select {
		case <-t.more:
		case <-ctx.Done():
			return Packet{}, context.Cause(ctx)
		}
	}
}

// Leave takes the tap out of the ring and releases what it has not read: the
// other taps are no longer held up by it. It may be called twice.
func (t *Tap) Leave() {
	t.ring.mu.Lock()
	defer t.ring.mu.Unlock()
	for i, other := range t.ring.taps {
		if other == t {
			t.ring.taps = append(t.ring.taps[:i], t.ring.taps[i+1:]...)
			break
		}
	}
	for _, p := range t.queue {
		p.Release()
	}
	t.queue = nil
}

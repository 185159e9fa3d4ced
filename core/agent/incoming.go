package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// How much may arrive before it is acknowledged, in bytes and in frames: well
// below what the sender can hold. A frame that has become small by compression
// still holds the memory that it was made in.
const (
	ackBytes  = 4 << 20
	ackFrames = 8
)

// arrivals is the receiving end of one hop of the chain. It counts the frames
// of the pass and tells the sender; a connection that breaks is replaced by
// the one that the sender makes anew.
type arrivals struct {
	self, from control.Member
	pass       uint32
	retry      time.Duration
	meter      *meter

	again chan *link.Conn // connections made anew
	count atomic.Uint64   // frames of the pass that have arrived
	// ending: the explicit end of the pass has arrived, and the signature over it
	// has not; they may come by two connections. Of the goroutine that reads.
	ending bool
}

func newArrivals(self, from control.Member, retry time.Duration, m *meter) *arrivals {
	return &arrivals{self: self, from: from, pass: 1, retry: retry, meter: m, again: make(chan *link.Conn, 1)}
}

// replace hands over a connection made anew; only the newest counts. For one
// goroutine.
func (a *arrivals) replace(conn *link.Conn) { replace(a.again, conn) }

// replace puts conn into a channel of one, in place of what waits there. For
// one goroutine.
func replace(to chan *link.Conn, conn *link.Conn) {
	for {
		select {
		case to <- conn:
			return
		case old := <-to:
			old.Close()
		}
	}
}

// run reads frames into the ring until the explicit end of the pass. It closes
// conn and those that replace it.
func (a *arrivals) run(ctx context.Context, conn *link.Conn, ring *relay.Ring, budget *relay.Budget) error {
	for {
		next, err := a.read(ctx, conn, ring, budget)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			if next != nil {
				next.Close()
			}
			return context.Cause(ctx)
		}
		if next == nil {
			if next, err = a.await(ctx, err); err != nil {
				return err
			}
		}
		conn = next
	}
}

// await waits for the sender to come back.
func (a *arrivals) await(ctx context.Context, why error) (*link.Conn, error) {
	timer := time.NewTimer(a.retry)
	defer timer.Stop()
	select {
	case conn := <-a.again:
		return conn, nil
	case <-timer.C:
		return nil, &sdk.Error{Kind: sdk.KindUnreachable, Host: a.self.Host,
			Message: fmt.Sprintf("the data link from %s on %s was lost, and was not made again within %s: %v", a.from.Name, a.from.Host, a.retry, why),
			Hint:    "see whether that host and its agent live, then run the transfer again"}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// read reads from one connection; nil is the end of the pass. The connection
// that has replaced it, if one has, comes back with the error.
func (a *arrivals) read(ctx context.Context, conn *link.Conn, ring *relay.Ring, budget *relay.Budget) (next *link.Conn, err error) {
	done, due := make(chan struct{}), make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() { a.acknowledge(conn, done, due) })
	wg.Go(func() { next = a.watch(ctx, conn, done) })
	err = a.frames(ctx, conn, ring, budget, due)
	close(done)
	if err == nil {
		// The last word. Closing without it would look like a lost link.
		_ = conn.SetWriteDeadline(time.Now().Add(link.Silence))
	} else {
		conn.Close() // nobody needs the acknowledgement under way
	}
	wg.Wait()
	if err == nil {
		_, _ = conn.Write(frame.Ack(a.pass, a.count.Load()).Wire())
		conn.Close()
	}
	return next, err
}

// watch closes conn when another takes its place, or when ctx ends.
func (a *arrivals) watch(ctx context.Context, conn *link.Conn, done <-chan struct{}) *link.Conn {
	select {
	case next := <-a.again:
		conn.Close()
		return next
	case <-ctx.Done():
		conn.Close()
	case <-done:
	}
	return nil
}

// acknowledge tells the sender what has arrived: at once, when much has, and
// as the heartbeat.
func (a *arrivals) acknowledge(conn *link.Conn, done <-chan struct{}, due <-chan struct{}) {
	for {
		if _, err := conn.Write(frame.Ack(a.pass, a.count.Load()).Wire()); err != nil {
			return // the reader sees why
		}
		select {
		case <-done:
			return
		case <-due:
		case <-time.After(link.Beat / 2):
		}
	}
}

// frames reads frames into the ring until the end of the pass.
func (a *arrivals) frames(ctx context.Context, conn *link.Conn, ring *relay.Ring, budget *relay.Budget, due chan<- struct{}) error {
	bytes, frames := 0, 0
	for {
		p, err := readPacket(ctx, conn, budget)
		if err != nil {
			return err
		}
		kind, size := p.Type, len(p.Wire())
		if kind == frame.TypeHeartbeat {
			p.Release()
			continue
		}
		a.meter.wire.Add(int64(size))
		ring.Put(p)
		a.count.Add(1)
		bytes, frames = bytes+size, frames+1
		if bytes >= ackBytes || frames >= ackFrames {
			bytes, frames = 0, 0
			select {
			case due <- struct{}{}:
			default:
			}
		}
		switch {
		case kind == frame.TypePassEnd || kind == frame.TypeFailure:
			a.ending = true
		case kind == frame.TypeSegmentEnd && a.ending:
			return nil
		}
	}
}

// answer serves a sender whose last acknowledgement was lost: it is told once
// more, until ctx ends.
func (a *arrivals) answer(ctx context.Context) {
	for {
		select {
		case conn := <-a.again:
			_ = conn.SetWriteDeadline(time.Now().Add(link.Silence))
			_, _ = conn.Write(frame.Ack(a.pass, a.count.Load()).Wire())
			conn.Close()
		case <-ctx.Done():
			return
		}
	}
}

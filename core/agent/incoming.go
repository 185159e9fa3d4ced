package agent

import (
	"context"
	"errors"
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
// the one that the sender makes anew, or another in its place.
type arrivals struct {
	self, from control.Member
	pass       uint32
	retry      time.Duration
	meter      *meter
	next       func() uint64 // frames that the member behind has; nil: there is none

	again    chan *link.Conn // connections made anew
	due      chan struct{}   // an acknowledgement is
	count    atomic.Uint64   // frames of the pass that have arrived
	once     sync.Once
	bypassed chan struct{} // closed: nothing comes by the chain any more
	ended    atomic.Bool   // the pass has come to its end
	ending   bool          // its explicit end has arrived, the signature on it has not; of who reads
}

func newArrivals(self, from control.Member, retry time.Duration, m *meter) *arrivals {
	return &arrivals{self: self, from: from, pass: 1, retry: retry, meter: m,
		again: make(chan *link.Conn, 1), due: make(chan struct{}, 1), bypassed: make(chan struct{})}
}

// errBypassed ends the pass of a target before its end: what it lacks by then
// is served by need-list.
var errBypassed = errors.New("bypassed")

// bypass ends the pass, if it has not ended yet. For any goroutine.
func (a *arrivals) bypass() {
	if !a.ended.Load() {
		a.once.Do(func() { close(a.bypassed) })
	}
}

func (a *arrivals) isBypassed() bool {
	select {
	case <-a.bypassed:
		return true
	default:
		return false
	}
}

// poke has the sender told at once how far this member and the one behind it
// are. For any goroutine.
func (a *arrivals) poke() {
	select {
	case a.due <- struct{}{}:
	default:
	}
}

// tell writes an acknowledgement. It reports whether all that has arrived here
// has arrived behind, too.
func (a *arrivals) tell(conn *link.Conn) (all bool, err error) {
	have := a.count.Load()
	next := have
	if a.next != nil {
		next = min(have, a.next())
	}
	_, err = conn.Write(frame.Ack(a.pass, have, next).Wire())
	return next == have, err
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
			a.last(ctx, or(next, conn))
			return nil
		}
		if a.isBypassed() {
			err = errBypassed
		} else if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if errors.Is(err, errBypassed) || ctx.Err() != nil {
			if next != nil {
				next.Close()
			}
			return err
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
	case <-a.bypassed:
		return nil, errBypassed
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
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { a.acknowledge(conn, done) })
	wg.Go(func() { next = a.watch(ctx, conn, done) })
	err = a.frames(ctx, conn, ring, budget, a.due)
	close(done)
	if err == nil {
		a.ended.Store(true)
		ring.Close(nil)
		_ = conn.SetWriteDeadline(time.Now().Add(link.Silence)) // for the acknowledgement under way
	} else {
		conn.Close() // nobody needs it
	}
	wg.Wait()
	return next, err
}

// or is the newer connection, if there is one; the other is closed.
func or(newer, conn *link.Conn) *link.Conn {
	if newer == nil {
		return conn
	}
	conn.Close()
	return newer
}

// last acknowledges until all has arrived behind this member too, then says its
// last word. Closing without it would look like a lost link. It closes conn.
func (a *arrivals) last(ctx context.Context, conn *link.Conn) {
	defer func() { conn.Close() }()
	for {
		_ = conn.SetWriteDeadline(time.Now().Add(link.Silence))
		if all, _ := a.tell(conn); all { // one that cannot be told comes again
			return
		}
		select {
		case newer := <-a.again:
			conn = or(newer, conn)
		case <-a.due:
		case <-time.After(link.Beat / 2):
		case <-ctx.Done():
			return
		}
	}
}

// watch closes conn when another takes its place, or when ctx ends.
func (a *arrivals) watch(ctx context.Context, conn *link.Conn, done <-chan struct{}) *link.Conn {
	select {
	case next := <-a.again:
		conn.Close()
		return next
	case <-ctx.Done():
		conn.Close()
	case <-a.bypassed:
		conn.Close()
	case <-done:
	}
	return nil
}

// acknowledge tells the sender what has arrived: at once, when much has, and
// as the heartbeat.
func (a *arrivals) acknowledge(conn *link.Conn, done <-chan struct{}) {
	for {
		if _, err := a.tell(conn); err != nil {
			return // the reader sees why
		}
		select {
		case <-done:
			return
		case <-a.due:
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
		had := a.count.Load()
		end := endOf(p, had)
		ring.Put(p)
		a.count.Add(end - had)
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
			if !a.ended.Load() {
				conn.Close()
				continue
			}
			a.last(ctx, conn)
		case <-ctx.Done():
			return
		}
	}
}

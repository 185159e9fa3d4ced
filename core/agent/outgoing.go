package agent

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
)

// outgoing is the sending end of one hop of the chain. A frame is kept until
// the peer and the member behind it have it; a connection that breaks or falls
// silent is made anew, and goes on behind the last frame that arrived. A peer
// that stays away is left for the member behind it, where there is a detour.
// One goroutine sends; the zero of every hook does nothing.
type outgoing struct {
	peer    control.Member
	dial    dial
	retry   time.Duration                                        // how long the peer may stay away
	refused time.Duration                                        // how long it may do nothing but refuse, where nobody takes its place
	way     *detour                                              // nil: nobody takes the peer's place
	keep    func(relay.Packet)                                   // shown what is sent, in order
	kept    func(before uint64) (first uint64, _ []relay.Packet) // what keep still has of the frames before that one, with holds
	heard   func()                                               // called when something was acknowledged
	pace    func(ctx context.Context, n int) error               // waits until n bytes may go
	// gap makes the frame that stands for what is left out; it returns nil where
	// nothing comes any more. Without it nothing can be left out.
	gap   func(frame.Gap) (*frame.Frame, error)
	chunk int                             // bytes paced at once; 0: whole frames
	sent  func(n int)                     // books bytes on the wire
	alter func(relay.Packet) relay.Packet // see badMemory

	hearing sync.WaitGroup
	conn    *link.Conn
	lost    chan struct{} // closed when conn has ended, for lostWhy

	mu      sync.Mutex
	current *link.Conn // conn, for who wants to cut it short
	lostWhy error
	base    uint64        // frames that nobody here needs any more
	last    uint64        // frames that were sent
	have    uint64        // frames that have arrived at the peer
	joined  bool          // the peer took the place of another and has not spoken yet
	over    bool          // given up: nothing is sent any more
	moved   time.Time     // when have grew last
	stuck   time.Time     // when the peer was lost, and has taken nothing since
	unacked []sentFrame   // in order, what ends behind base
	skips   bool          // nothing is sent up to the end of the segment
	acked   chan struct{} // something was acknowledged
}

// sentFrame is a frame that was sent.
type sentFrame struct {
	relay.Packet
	end uint64 // how many frames of the pass there are up to it
}

// numbered are frames that follow each other from number first on.
func numbered(first uint64, list []relay.Packet) (out []sentFrame) {
	for _, p := range list {
		first++
		out = append(out, sentFrame{p, first})
	}
	return out
}

// dial makes a connection to a member; refused is for how long it may do
// nothing but refuse.
type dial func(ctx context.Context, to control.Member, refused time.Duration) (*link.Conn, error)

// newOutgoing takes over conn, which was just made; open begins. Without one
// the connection is made by open.
func newOutgoing(conn *link.Conn, peer control.Member, retry time.Duration) *outgoing {
	return &outgoing{conn: conn, current: conn, peer: peer, retry: retry, refused: refusedFor, acked: make(chan struct{}, 1)}
}

// cut closes the connection there is, so that whoever reads or writes it
// returns. For any goroutine.
func (o *outgoing) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.current != nil {
		o.current.Close()
	}
}

// hangUp closes the connection there is and waits for who listens to it. For
// the goroutine that sends.
func (o *outgoing) hangUp() {
	if o.conn != nil {
		o.conn.Close()
	}
	o.hearing.Wait()
}

// errNew is why a connection is made that there never was.
var errNew = errors.New("it is made for the first time")

// open waits for the peer's first word; until then nothing may be sent.
func (o *outgoing) open(ctx context.Context) error {
	if o.conn == nil {
		return o.mend(ctx, errNew)
	}
	if err := o.greet(); err != nil {
		return o.mend(ctx, err)
	}
	return nil
}

// send sends one frame and takes over the hold on it.
func (o *outgoing) send(ctx context.Context, p relay.Packet) error {
	if o.alter != nil {
		p = o.alter(p)
	}
	if o.keep != nil {
		o.keep(p)
	}
	o.mu.Lock()
	o.last = endOf(p, o.last)
	over, skips := o.over, o.skips
	if !over && !skips {
		o.unacked = append(o.unacked, sentFrame{p, o.last})
	}
	o.mu.Unlock()
	switch {
	case over:
		p.Release()
		return nil
	case skips:
		return o.skip(ctx, p)
	}
	if err := o.write(ctx, p.Wire()); err != nil {
		return o.mend(ctx, err)
	}
	return nil
}

// write writes to the connection there is.
func (o *outgoing) write(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		n := len(b)
		if o.pace != nil {
			n = min(n, o.chunk)
			if err := o.pace(ctx, n); err != nil {
				return err
			}
		}
		n, err := o.conn.Write(b[:n])
		if o.sent != nil {
			o.sent(n)
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// beat shows the peer that this end lives, and notices if the peer does not.
func (o *outgoing) beat(ctx context.Context) error {
	if o.arrived() == math.MaxUint64 {
		return nil
	}
	select {
	case <-o.lost:
		return o.mend(ctx, o.why())
	default:
	}
	if _, err := o.conn.Write(beat); err != nil {
		return o.mend(ctx, err)
	}
	return nil
}

// finish waits until all that was sent has arrived, at the peer and behind it,
// then closes.
func (o *outgoing) finish(ctx context.Context) error {
	for {
		if o.arrived() == math.MaxUint64 {
			return nil
		}
		// Seen before what was acknowledged: the peer says its last word and
		// closes.
		if o.skips { // to its end
			o.alone(errGap)
			return nil
		}
		lost := false
		select {
		case <-o.lost:
			lost = true
		default:
		}
		o.mu.Lock()
		left := len(o.unacked)
		o.mu.Unlock()
		if left == 0 {
			o.close()
			return nil
		}
		if lost {
			if err := o.mend(ctx, o.why()); err != nil {
				return err
			}
			continue
		}
		select {
		case <-o.acked:
		case <-o.lost:
		case <-time.After(link.Beat):
			if err := o.beat(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// abortTime bounds what is still said on a link that is given up.
const abortTime = 3 * time.Second

// farewell makes whatever is still sent short and without a second try.
func (o *outgoing) farewell() {
	if o.conn != nil {
		_ = o.conn.SetWriteDeadline(time.Now().Add(abortTime))
	}
	o.retry, o.pace, o.way = 0, nil, nil
}

// close closes the connection and gives back what is still kept.
func (o *outgoing) close() {
	o.hangUp()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.unacked {
		p.Release()
	}
	o.base = max(o.base, o.last)
	o.have = max(o.have, o.base)
	o.unacked = nil
}

// forward sends what a tap of the ring gives to the next target, as it came.
func (o *outgoing) forward(ctx context.Context, tap *relay.Tap) error {
	defer tap.Leave()
	defer o.end()
	if err := o.open(ctx); err != nil {
		return err
	}
	for {
		p, err := o.nextOrBeat(ctx, tap)
		if errors.Is(err, io.EOF) {
			return o.finish(ctx)
		}
		if err != nil {
			return err
		}
		if err := o.send(ctx, p); err != nil {
			return err
		}
	}
}

// nextOrBeat waits for the next packet, with heartbeats meanwhile.
func (o *outgoing) nextOrBeat(ctx context.Context, tap *relay.Tap) (relay.Packet, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, link.Beat)
		p, err := tap.Next(wait)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return p, err
		}
		if err := o.beat(ctx); err != nil {
			return relay.Packet{}, err
		}
	}
}

// beat is a heartbeat frame.
var beat = func() []byte {
	f, err := frame.Build(make([]byte, frame.HeaderLen), frame.TypeHeartbeat, 0, 0, nil, 0)
	if err != nil {
		panic(err)
	}
	return f.Wire()
}()

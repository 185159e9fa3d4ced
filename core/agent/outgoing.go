package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// outgoing is the sending end of one hop of the chain. A frame is kept until
// the peer and the member behind it have it; a connection that breaks or falls
// silent is made anew, and goes on behind the last frame that arrived. A peer
// that stays away is left for the member behind it, where there is a detour.
// One goroutine sends; the zero of every hook does nothing.
type outgoing struct {
	peer  control.Member
	dial  func(ctx context.Context, to control.Member, refused time.Duration) (*link.Conn, error) // makes the connection anew
	retry time.Duration                                                                           // how long the peer may stay away
	way   *detour                                                                                 // nil: nobody takes the peer's place
	heard func()                                                                                  // called when something was acknowledged
	pace  func(ctx context.Context, n int) error                                                  // waits until n bytes may go
	chunk int                                                                                     // bytes paced at once; 0: whole frames
	sent  func(n int)                                                                             // books bytes on the wire
	alter func(relay.Packet) relay.Packet                                                         // see badMemory

	hearing sync.WaitGroup
	conn    *link.Conn
	lost    chan struct{} // closed when conn has ended, for lostWhy

	mu      sync.Mutex
	current *link.Conn // conn, for who wants to cut it short
	lostWhy error
	base    uint64         // frames that nobody here needs any more
	have    uint64         // frames that have arrived at the peer
	joined  bool           // the peer took the place of another and has not spoken yet
	over    bool           // given up: nothing is sent any more
	moved   time.Time      // when have grew last
	stuck   time.Time      // when the peer was lost, and has taken nothing since
	unacked []relay.Packet // from base on
	acked   chan struct{}  // something was acknowledged
}

// newOutgoing takes over conn, which was just made; open begins.
func newOutgoing(conn *link.Conn, peer control.Member, retry time.Duration) *outgoing {
	return &outgoing{conn: conn, current: conn, peer: peer, retry: retry, acked: make(chan struct{}, 1)}
}

// cut closes the connection there is, so that whoever reads or writes it
// returns. For any goroutine.
func (o *outgoing) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.current.Close()
}

// open waits for the peer's first word; until then nothing may be sent.
func (o *outgoing) open(ctx context.Context) error {
	if err := o.greet(); err != nil {
		return o.mend(ctx, err)
	}
	return nil
}

// greet learns from a new connection how many frames have arrived, forgets
// these, and begins to listen.
func (o *outgoing) greet() error {
	have, next, err := readAck(o.conn)
	if err != nil {
		return err
	}
	if err := o.settle(have, next); err != nil {
		return err
	}
	lost, conn := make(chan struct{}), o.conn
	o.lost = lost
	o.hearing.Go(func() {
		defer close(lost)
		defer conn.Close() // a blocked write returns
		for {
			have, next, err := readAck(conn)
			if err == nil {
				err = o.settle(have, next)
			}
			if err != nil {
				o.mu.Lock()
				o.lostWhy = err
				o.mu.Unlock()
				return
			}
		}
	})
	return nil
}

// readAck reads the next acknowledgement, which is also the peer's heartbeat.
func readAck(conn *link.Conn) (have, next uint64, err error) {
	f, err := frame.Read(conn, func(n int) []byte { return make([]byte, n) })
	if err != nil {
		return 0, 0, err
	}
	if f.Type != frame.TypeAck {
		return 0, 0, fmt.Errorf("a frame of type %d came where acknowledgements do", f.Type)
	}
	return frame.ParseAck(f.Payload())
}

// settle forgets what has arrived at the peer and behind it.
func (o *outgoing) settle(have, next uint64) error {
	if err := o.book(have, next); err != nil {
		return err
	}
	select {
	case o.acked <- struct{}{}:
	default:
	}
	if o.heard != nil {
		o.heard()
	}
	return nil
}

func (o *outgoing) book(have, next uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.joined && have < o.base {
		return fmt.Errorf("%s: it has %d frames, and %d to %d are kept: %w", o.peer.Name, have, o.base, o.base+uint64(len(o.unacked)), errGap)
	}
	if have < o.have && !o.joined || have > o.base+uint64(len(o.unacked)) {
		return &sdk.Error{Kind: sdk.KindIntegrity, Host: o.peer.Host,
			Message: fmt.Sprintf("%s says that it got %d frames where %d to %d can be", o.peer.Name, have, o.have, o.base+uint64(len(o.unacked))),
			Hint:    "something between the hosts adds to what is sent: see what stands there"}
	}
	if have > o.have {
		o.moved = time.Now()
	}
	o.have, o.joined = have, false
	if next <= o.base { // a new member behind the peer may have less than the one before
		return nil
	}
	n := int(next - o.base)
	for i := range n {
		o.unacked[i].Release()
		o.unacked[i] = relay.Packet{}
	}
	o.unacked, o.base = o.unacked[n:], next
	return nil
}

// arrived is how many frames the peer has; more than any where none is sent to
// any more.
func (o *outgoing) arrived() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return math.MaxUint64
	}
	return o.have
}

// send sends one frame and takes over the hold on it.
func (o *outgoing) send(ctx context.Context, p relay.Packet) error {
	if o.alter != nil {
		p = o.alter(p)
	}
	o.mu.Lock()
	over := o.over
	if !over {
		o.unacked = append(o.unacked, p)
	}
	o.mu.Unlock()
	if over {
		p.Release()
		return nil
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

func (o *outgoing) why() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lostWhy
}

// remake makes the connection to the peer anew, as often as it takes and for
// as long as the peer may stay away, and sends again what has not arrived.
func (o *outgoing) remake(ctx context.Context, why error) error {
	lost := time.Now()
	stay, refused := o.patience()
	for ctx.Err() == nil {
		o.conn.Close()
		o.hearing.Wait()
		for _, err := range []error{o.why(), why} {
			if errors.Is(err, sdk.ErrIntegrity) {
				return err // coming back would mend nothing
			}
		}
		deadline := o.deadline(lost, stay)
		if o.retry == 0 || time.Now().After(deadline) {
			return o.away(why)
		}
		within, cancel := context.WithDeadline(ctx, deadline)
		conn, err := o.dial(within, o.peer, refused)
		cancel()
		switch {
		case errors.Is(err, link.ErrBypassed):
			return err
		case err != nil:
			return o.away(err)
		}
		o.mu.Lock()
		o.conn, o.current = conn, conn
		o.mu.Unlock()
		if ctx.Err() != nil {
			break // whoever ended it cut the connection before this one
		}
		if err := o.greet(); errors.Is(err, errGap) {
			return err
		} else if err != nil {
			why = err
			continue
		}
		if why = o.again(ctx); why == nil {
			return nil
		}
	}
	return context.Cause(ctx)
}

// deadline is when a peer has stayed away for too long: since it was lost
// first, or took something last. One that comes back again and again and
// takes nothing is away as well.
func (o *outgoing) deadline(lost time.Time, stay time.Duration) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	idle := o.have == o.base+uint64(len(o.unacked)) // there was nothing to take
	if idle || !o.stuck.After(o.moved) {
		o.stuck = lost
	}
	since := o.stuck
	if o.moved.After(since) {
		since = o.moved
	}
	return since.Add(stay)
}

// again sends what was sent before and has not arrived.
func (o *outgoing) again(ctx context.Context) error {
	o.mu.Lock()
	// The peer acknowledges meanwhile: hold what is sent here.
	again := append([]relay.Packet(nil), o.unacked[o.have-o.base:]...)
	for _, p := range again {
		p.Hold()
	}
	o.mu.Unlock()
	var err error
	for _, p := range again {
		if err == nil {
			err = o.write(ctx, p.Wire())
		}
		p.Release()
	}
	return err
}

func (o *outgoing) away(why error) error {
	return &sdk.Error{Kind: sdk.KindUnreachable, Host: o.peer.Host,
		Message: fmt.Sprintf("the data link to %s was lost, and could not be made again within %s: %v", o.peer.Name, o.stays(), why),
		Hint:    "see whether the host and its agent live, then run the transfer again"}
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
	_ = o.conn.SetWriteDeadline(time.Now().Add(abortTime))
	o.retry, o.pace, o.way = 0, nil, nil
}

// close closes the connection and gives back what is still kept.
func (o *outgoing) close() {
	o.conn.Close()
	o.hearing.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.unacked {
		p.Release()
	}
	o.base += uint64(len(o.unacked))
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

package agent

import (
	"fmt"
	"math"
	"time"

	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

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
		return fmt.Errorf("%s: it has %d frames, and %d to %d are kept: %w", o.peer.Name, have, o.base, o.last, errGap)
	}
	if have < o.have && !o.joined || have > o.last {
		return &sdk.Error{Kind: sdk.KindIntegrity, Host: o.peer.Host,
			Message: fmt.Sprintf("%s says that it got %d frames where %d to %d can be", o.peer.Name, have, o.have, o.last),
			Hint:    "something between the hosts adds to what is sent: see what stands there"}
	}
	if have > o.have {
		o.moved = time.Now()
	}
	o.have, o.joined = have, false
	if next <= o.base { // a new member behind the peer may have less than the one before
		return nil
	}
	for len(o.unacked) > 0 && o.unacked[0].end <= next {
		o.unacked[0].Release()
		o.unacked[0] = sentFrame{}
		o.unacked = o.unacked[1:]
	}
	o.base = next
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

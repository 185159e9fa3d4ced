package agent

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// outgoing is the sending end of a data link. The peer beats until it has got
// the end of the pass, and closes then: closing first could destroy what is
// still on its way.
type outgoing struct {
	conn     *link.Conn
	peer     control.Member
	finished atomic.Bool // all is sent
	aborted  atomic.Bool // given up from this end
}

func newOutgoing(conn *link.Conn, peer control.Member) *outgoing {
	return &outgoing{conn: conn, peer: peer}
}

// hear reads the peer's heartbeats until it closes. It fails, and closes the
// link so that a blocked write returns, when that comes too early or the peer
// falls silent.
func (o *outgoing) hear() error {
	for {
		f, err := frame.Read(o.conn, func(n int) []byte { return make([]byte, n) })
		if err == nil && f.Type == frame.TypeHeartbeat {
			continue
		}
		o.conn.Close()
		if o.finished.Load() && errors.Is(err, frame.ErrCut) || o.aborted.Load() {
			return nil
		}
		if err == nil {
			err = errors.New("it sent something that is no heartbeat")
		}
		return &sdk.Error{Kind: sdk.KindUnreachable, Host: o.peer.Host,
			Message: "the data link to " + o.peer.Name + " was lost: " + err.Error(), Hint: "see whether the host and its agent live, then run the transfer again"}
	}
}

// finish says that all is sent.
func (o *outgoing) finish() { o.finished.Store(true) }

// abortTime bounds what is still said on a link that is given up.
const abortTime = 3 * time.Second

// abort closes the link after a last word.
func (o *outgoing) abort(lastWord func()) {
	o.aborted.Store(true)
	_ = o.conn.SetWriteDeadline(time.Now().Add(abortTime))
	if lastWord != nil {
		lastWord()
	}
	o.conn.Close()
}

// forward sends what a tap of the ring gives to the next target, as it came.
func (o *outgoing) forward(ctx context.Context, tap *relay.Tap) error {
	defer tap.Leave()
	for {
		p, err := nextOrBeat(ctx, tap, o.conn)
		if errors.Is(err, io.EOF) {
			o.finish()
			return nil
		}
		if err != nil {
			o.abort(nil)
			return err
		}
		_, err = o.conn.Write(p.Wire())
		p.Buffer.Release()
		if err != nil {
			o.conn.Close()
			return err
		}
	}
}

// nextOrBeat waits for the next packet, with heartbeats meanwhile.
func nextOrBeat(ctx context.Context, tap *relay.Tap, w io.Writer) (relay.Packet, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, link.Beat)
		p, err := tap.Next(wait)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return p, err
		}
		if err := writeBeat(w); err != nil {
			return relay.Packet{}, err
		}
	}
}

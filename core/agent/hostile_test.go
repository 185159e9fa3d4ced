package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
)

// hostile is target-1 of a rig of which somebody has taken possession: it has
// that member's keys, and keeps to the links' protocol. To the source it says
// that all is well; what it sends on to target-2 is the test's.
type hostile struct {
	t     *testing.T
	rig   *rig
	chain *chain
	self  control.Member

	came    chan *link.Conn // connections to it
	boast   uint64          // frames that it says it has beyond those that came
	notes   *link.Conn
	next    *link.Conn // data, to target-2
	sending sync.Mutex
	pass    [][]*frame.Frame // pass 1 by segments, each with the end that signs it
	repair  []*frame.Frame   // a repair pass that it has asked for
}

// hostileRelay starts all members of the rig but target-1, which it plays until
// the test ends: what goes on to target-2 is play's, when all of pass 1 has
// come. boast is how many frames it says to have beyond those that came.
func hostileRelay(t *testing.T, r *rig, boast uint64, play func(ctx context.Context, h *hostile) error) {
	t.Helper()
	c, err := newChain(&r.plan, r.plan.Members[1].Agent)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{t: t, rig: r, chain: c, self: r.plan.Members[1], boast: boast, came: make(chan *link.Conn, 8)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	cfg := r.jobs[1].cfg
	acceptor := c.acceptor(cfg.Identity, cfg.Transfer, func(conn *link.Conn) { h.came <- conn })
	wg.Go(func() { acceptor.Serve(ctx, unblocked{cfg.Listener.(*net.TCPListener)}) })
	for i, j := range r.jobs {
		if i == 1 {
			continue
		}
		if err := j.Start(&r.plan); err != nil {
			t.Fatal(err)
		}
	}
	wg.Go(func() {
		if err := h.run(ctx, play); err != nil && ctx.Err() == nil {
			t.Errorf("the hostile relay: %v", err)
			for _, j := range r.jobs { // nobody is to wait for what does not come
				j.stop(err)
			}
		}
	})
}

// unblocked is a listener whose Close ends only Accept: the job that it
// belongs to closes it.
type unblocked struct{ *net.TCPListener }

func (u unblocked) Close() error { return u.SetDeadline(time.Now()) }

// run is the relay's life: it makes its links, takes pass 1, and then has play
// send what it likes.
func (h *hostile) run(ctx context.Context, play func(context.Context, *hostile) error) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	data, err := h.linkUp(ctx)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { data.Close(); h.notes.Close() })
	wg.Go(func() {
		_ = exchange(ctx, h.notes, func() note { return note{Type: noteBeat} }, func(note) {}) // which beats
	})
	if h.next != nil { // the chain goes on
		context.AfterFunc(ctx, func() { h.next.Close() })
		wg.Go(func() { _, _ = io.Copy(io.Discard, h.next) }) // acknowledgements
		wg.Go(func() { _ = h.beat(ctx) })
	}
	if err := h.tell(note{Type: noteReady}); err != nil {
		return err
	}
	frames, err := h.take(ctx, data, 1)
	if h.boast > 0 && err != nil { // it was left
		err = h.settle()
		<-ctx.Done()
	}
	if err != nil || ctx.Err() != nil {
		return err
	}
	h.pass = segments(frames)
	if err := play(ctx, h); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// linkUp makes and takes the links that target-1 has.
func (h *hostile) linkUp(ctx context.Context) (data *link.Conn, err error) {
	id, plain := h.rig.jobs[1].cfg.Identity, !h.rig.plan.Settings.Encrypt
	for i, p := range []link.Purpose{link.PurposeData, link.PurposeProof} {
		if 2+i >= len(h.rig.plan.Members) {
			break
		}
		to := h.rig.plan.Members[2+i]
		conn, err := h.chain.dialer(ctx, id, to).Dial(ctx, h.rig.jobs[1].hello(h.self.Name, to.Name, p, plain && p == link.PurposeData))
		if err != nil {
			return nil, err
		}
		if p == link.PurposeData {
			h.next = conn
		} else {
			conn.Close()
		}
	}
	for data == nil || h.notes == nil {
		select {
		case conn := <-h.came:
			if conn.Hello.Purpose == link.PurposeNotes {
				h.notes = conn
			} else {
				data = conn
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return data, nil
}

func (h *hostile) tell(n note) error { return h.notes.WriteMessage(n) }

// take takes a pass from the source up to its end, and acknowledges it as if it
// had gone on to target-2.
func (h *hostile) take(ctx context.Context, conn *link.Conn, pass uint32) ([]*frame.Frame, error) {
	ack := func(n int) error {
		have := uint64(n) + h.boast
		_, err := conn.Write(frame.Ack(pass, have, have).Wire())
		return err
	}
	if err := ack(0); err != nil {
		return nil, err
	}
	var all []*frame.Frame
	ending := false
	for {
		f, err := frame.Read(conn, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			return nil, err
		}
		if f.Type == frame.TypeHeartbeat {
			if err := ack(len(all)); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, f)
		if err := ack(len(all)); err != nil {
			return nil, err
		}
		ending = ending || f.Type == frame.TypePassEnd || f.Type == frame.TypeFailure
		if ending && f.Type == frame.TypeSegmentEnd {
			return all, nil
		}
	}
}

// beat shows target-2 that the relay lives, until ctx or the connection ends.
func (h *hostile) beat(ctx context.Context) error {
	for {
		if err := h.send(beat); err != nil {
			return err
		}
		select {
		case <-time.After(link.Beat / 2):
		case <-ctx.Done():
			return nil
		}
	}
}

// asked has the source send a repair pass to the relay, and returns it.
func (h *hostile) asked(ctx context.Context, need ...frame.NeedRange) ([]*frame.Frame, error) {
	if err := h.tell(note{Type: noteNeed, Round: 1, Need: need}); err != nil {
		return nil, err
	}
	select {
	case conn := <-h.came:
		defer conn.Close()
		if conn.Hello.Purpose != link.PurposeRepair {
			return nil, errors.New("no repair pass comes")
		}
		return h.take(ctx, conn, conn.Hello.Pass)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// settle tells the source that this relay lacks nothing.
func (h *hostile) settle() error {
	return errors.Join(h.tell(note{Type: noteNeed, Round: 2}), h.tell(note{Type: noteVerified}))
}

// send sends to target-2; what is nil closes the connection. For any goroutine.
func (h *hostile) send(wires ...[]byte) error {
	h.sending.Lock()
	defer h.sending.Unlock()
	for _, w := range wires {
		if w == nil {
			return h.next.Close()
		}
		if _, err := h.next.Write(w); err != nil {
			return err
		}
	}
	return nil
}

// segments cuts frames behind the ends of segments.
func segments(frames []*frame.Frame) [][]*frame.Frame {
	var all [][]*frame.Frame
	for len(frames) > 0 {
		n := slices.IndexFunc(frames, func(f *frame.Frame) bool { return f.Type == frame.TypeSegmentEnd }) + 1
		if n == 0 {
			n = len(frames)
		}
		all, frames = append(all, frames[:n:n]), frames[n:]
	}
	return all
}

package agent

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
)

// targetBudget bounds the frames that a target holds: those not yet passed on
// and those not yet written.
const targetBudget = 64 << 20

// sink takes the frames of a pass and makes of them what the plan wants. One
// goroutine calls it.
type sink interface {
	// take takes one packet with its hold, in the order of arrival. An error
	// means that the target has failed.
	take(ctx context.Context, p relay.Packet) error
	// working is the context of what the sink does in the background. It ends
	// when that has failed, with the reason as its cause: so that a target knows
	// at once, and not when the next frame comes.
	working() context.Context
	// cut ends pass 1 before its end, in place of what did not arrive: it
	// forgets what is not proven. An error where it cannot be had again.
	cut() error
	// missing waits for all that was taken and returns what the target still
	// lacks, in ascending order and not much more than maxNeed of it; an error
	// if what it has is not what the source sent.
	missing(ctx context.Context) ([]frame.NeedRange, error)
	// verify makes sure, by the level asked for, that what was written is
	// what the source read. It returns the files of which that is not so and
	// which the source may send again; then it is called once more, and looks
	// at these only. An error is for all else.
	verify(ctx context.Context) ([]suspect, error)
	// close ends everything that the sink started.
	close()
}

// receive takes the data that comes by in, passes it on by out (nil at the end
// of the chain) and writes it. A sink that fails does not stop the passing
// on, nor a lost successor the writing.
func (t *target) receive(ctx context.Context, in *link.Conn, out *outgoing) error {
	ring, budget := relay.NewRing(), relay.NewBudget(t.holds())
	budget.Waiting = &t.meter.full
	local := ring.Tap()
	var wg sync.WaitGroup
	if out != nil {
		next := ring.Tap()
		wg.Go(func() {
			// Its error is the successors' failure, which the source was told.
			_ = t.job.guard(ctx, out, func() error { return out.forward(ctx, next) })
		})
	}
	wg.Go(func() {
		ring.Close(t.arrivals.run(ctx, in, ring, budget))
		t.job.group.Go(func() { t.arrivals.answer(t.job.ctx) })
	})
	err := t.work(t.local, local)
	local.Leave()
	if err != nil {
		err = t.fail(because(t.local, err)) // the source is to know now, not when the others are served
	}
	wg.Wait()
	return err
}

// holds is how much a target holds at most.
func (t *target) holds() int64 {
	if n := t.job.buffers; n > 0 {
		return n
	}
	return targetBudget
}

// because puts what ended ctx before what broke when it did.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// readPacket reads one frame into a buffer of the budget.
func readPacket(ctx context.Context, in *link.Conn, budget *relay.Budget) (relay.Packet, error) {
	var buf *relay.Buffer
	var failed error
	f, err := frame.Read(in, func(n int) []byte {
		if buf, failed = budget.Get(ctx, n); failed != nil {
			return make([]byte, n) // ctx has ended: the link is closed, the read fails
		}
		return buf.B
	})
	if err == nil && failed == nil {
		return relay.Packet{Frame: f, Buffer: buf}, nil
	}
	if buf != nil {
		buf.Release()
	}
	return relay.Packet{}, errors.Join(failed, err)
}

// work writes what the tap gives, says what is missing, and verifies.
func (t *target) work(ctx context.Context, tap *relay.Tap) error {
	s, err := t.newSink(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		t.meter.idle.Start()
		p, err := tap.Next(s.working())
		t.meter.idle.Stop()
		if isBypass(err) {
			t.job.cfg.Log.Warn("bypassed: nothing comes by the chain any more", "member", t.member.Name)
			err = s.cut()
			if err == nil {
				err = io.EOF
			}
		}
		if err != nil && !isEnd(err) {
			return err
		}
		if err != nil {
			break
		}
		t.meter.taking.Start()
		err = s.take(ctx, p)
		t.meter.taking.Stop()
		if err != nil {
			return err
		}
	}
	return t.complete(ctx, s)
}

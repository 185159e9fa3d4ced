package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// deliver takes a connection that was proven to be meant for this member.
func (t *target) deliver(conn *link.Conn) {
	select {
	case t.incoming <- conn:
	default:
		conn.Close() // a peer that dials again and again
	}
}

// introduce waits for the source's notes only, so that a failure before the
// links were made can be told.
func (t *target) introduce(ctx context.Context) {
	timer := time.NewTimer(t.chain.plan.Settings.LinkTimeout)
	defer timer.Stop()
	for {
		select {
		case conn := <-t.incoming:
			if conn.Hello.Purpose == link.PurposeNotes {
				t.adopt(conn)
				return
			}
			conn.Close()
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// adopt takes the source's first notes into use.
func (t *target) adopt(conn *link.Conn) {
	t.mu.Lock()
	t.notes = conn
	t.mu.Unlock()
	t.life.group.Go(func() { t.listen(t.life.ctx, conn) })
}

// reasonsFirst is how much longer a target waits to be dialled than its diallers
// try: they know address by address why they could not reach it, and it does not.
const reasonsFirst = 5 * time.Second

// linkUp waits for all incoming links and makes the outgoing ones; out is nil
// for the last of the chain.
func (t *target) linkUp(ctx context.Context) (*link.Conn, *outgoing, error) {
	waiting, stop := context.WithTimeout(ctx, t.chain.linkLimit()+reasonsFirst)
	defer stop()
	var out *link.Conn
	dial, dialCtx := errgroup.WithContext(waiting)
	dial.Go(func() (err error) {
		within, stop := t.chain.linking(dialCtx)
		defer stop()
		out, err = t.job.dialNext(within, t.chain, t.index)
		return err
	})
	in, err := t.gather(dialCtx)
	if derr := dial.Wait(); derr != nil {
		err = derr // what ended the gathering too
	}
	if err != nil {
		for _, c := range []*link.Conn{in, out} {
			if c != nil {
				c.Close()
			}
		}
		return nil, nil, err
	}
	t.reachedBy(in)
	if out == nil {
		return in, nil, nil
	}
	t.meter.set(func(m *meter) { m.peer = out.Address })
	o := t.job.newOutgoing(out, t.chain, t.index, t.meter)
	if len(t.chain.plan.Members) > 2 {
		o.way = t.chain.newDetour(t.index, func(lost []control.Member, to *control.Member, why error) {
			t.say(lostNote(lost, to, why))
		})
	}
	o.heard, t.arrivals.next = t.arrivals.poke, o.arrived
	return in, o, nil
}

// gather collects the incoming links; it returns the one that data comes by.
func (t *target) gather(ctx context.Context) (*link.Conn, error) {
	want := t.chain.incoming(t.index)
	var data *link.Conn
	for len(want) > 0 {
		select {
		case conn := <-t.incoming:
			key := slot(conn.Hello.From, conn.Hello.Purpose)
			if !want[key] {
				conn.Close()
				continue
			}
			delete(want, key)
			switch conn.Hello.Purpose {
			case link.PurposeNotes:
				t.adopt(conn)
			case link.PurposeData:
				data = conn
			default:
				conn.Close() // the way is open: that was all
			}
		case <-ctx.Done():
			return data, &sdk.Error{Kind: sdk.KindUnreachable, Host: t.member.Host,
				Message: fmt.Sprintf("%s was not reached by %s within %s", t.member.Name, slices.Sorted(maps.Keys(want)), t.chain.linkLimit()+reasonsFirst),
				Hint:    fmt.Sprintf("open port %d of the host to them", t.member.Port)}
		}
	}
	return data, nil
}

// route hands connections that are made anew to those who wait for them, for
// as long as the job lives.
func (t *target) route(ctx context.Context) {
	for {
		select {
		case conn := <-t.incoming:
			switch conn.Hello.Purpose {
			case link.PurposeData:
				t.fed(conn)
			case link.PurposeRepair:
				t.reachedBy(conn)
				replace(t.repairs, conn)
			case link.PurposeNotes:
				select {
				case t.renewed <- conn:
				default:
					conn.Close() // the one before was not taken yet
				}
			default:
				conn.Close()
			}
		case <-ctx.Done():
			return
		}
	}
}

// listen takes the source's notes. A connection that ends is replaced by the
// one that the source makes anew. If none comes before this target is
// verified, nothing can be completed any more.
func (t *target) listen(ctx context.Context, conn *link.Conn) {
	for conn != nil {
		err := exchange(ctx, conn, t.beat, func(n note) {
			switch n.Type {
			case noteBegin:
				t.once.Do(func() { close(t.began) })
				t.job.flow()
			case noteSourceDone:
				t.job.released()
			case noteWake:
				t.job.cfg.Wanted()
			case noteFailed:
				t.life.cancel(t.sourceFailed(n.Error))
			case noteBypassed:
				t.arrivals.bypass()
			case noteRefused:
				t.giveUp(t.sourceFailed(n.Error))
			}
		})
		if conn, err = t.awaitNotes(ctx, err); err != nil {
			t.life.cancel(err)
		}
	}
}

// awaitNotes waits for new notes and repeats on them what was said. It returns
// nil when ctx has ended.
func (t *target) awaitNotes(ctx context.Context, why error) (*link.Conn, error) {
	var timeout <-chan time.Time
	if !t.meter.at().AtLeast(control.PhaseVerified) {
		timer := time.NewTimer(t.patience())
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case conn := <-t.renewed:
		t.retell(conn)
		return conn, nil
	case <-timeout:
		return nil, &sdk.Error{Kind: sdk.KindUnreachable, Host: t.member.Host,
			Message: fmt.Sprintf("the link to the source on %s was lost, and was not made again within %s: %v", t.chain.plan.Members[0].Host, t.patience(), why),
			Hint:    "see whether the source host and its agent live, then run the transfer again"}
	case <-ctx.Done():
		return nil, nil
	}
}

// retell takes new notes into use and repeats on them what was said.
func (t *target) retell(conn *link.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notes = conn
	for _, n := range t.said {
		if conn.WriteMessage(n) != nil {
			return // its reader sees why
		}
	}
}

// answerNotes tells a source that makes its notes anew that this target has
// failed: the link may have broken when it was said.
func (t *target) answerNotes(ctx context.Context) {
	for {
		select {
		case conn := <-t.renewed:
			t.retell(conn)
			_ = exchange(ctx, conn, t.beat, func(note) {}) // until it ends, whyever
		case <-ctx.Done():
			return
		}
	}
}

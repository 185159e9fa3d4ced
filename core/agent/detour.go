package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// detour is who may take the place of a peer that was lost: so that one sick
// member does not stop those behind it. What was passed by is served by
// need-list.
type detour struct {
	next   []control.Member // who may be sent to, nearest first
	behind []control.Member // all members behind this one
	// waits: the last of next is waited for as if there were no detour, since
	// what is moved cannot be had again.
	waits bool
	// ends: it is an error that nobody is left; else what comes is dropped.
	ends bool
	// tell is called, from the goroutine that sends, when members were lost:
	// to has taken their place, or nobody has.
	tell func(lost []control.Member, to *control.Member, why error)

	lost []control.Member // not told yet
}

// errGap: a member that was joined lacks what is kept no more.
var errGap = errors.New("there is a gap that is kept no more")

// newDetour is the detour of member i; nil where there is none: one target
// alone is waited for.
func (c *chain) newDetour(i int, tell func([]control.Member, *control.Member, error)) *detour {
	behind := c.plan.Members[i+1:]
	if len(c.plan.Members) < 3 || c.stream() && len(behind) == 1 {
		return nil
	}
	d := &detour{behind: behind, next: behind[1:], waits: c.stream(), ends: i > 0 || c.stream(), tell: tell}
	if i > 0 { // the firewalls admit the two nearest predecessors, and the source
		d.next = d.next[:min(len(d.next), 1)]
	}
	return d
}

// patience is how long the peer may stay away, and for how long it may do
// nothing but refuse.
func (o *outgoing) patience() (stay, refused time.Duration) {
	if o.way == nil || o.way.waits && len(o.way.next) == 0 {
		return o.retry, refusedFor
	}
	return min(o.retry, link.Silence), time.Nanosecond
}

func (o *outgoing) stays() time.Duration {
	stay, _ := o.patience()
	return stay
}

// mend goes on after the connection was lost: to the same peer if it comes
// back, else to one behind it.
func (o *outgoing) mend(ctx context.Context, why error) error {
	for {
		err := o.remake(ctx, why)
		switch {
		case err == nil:
			o.turned()
			return nil
		case ctx.Err() != nil, o.way == nil, errors.Is(err, link.ErrBypassed), errors.Is(err, sdk.ErrIntegrity):
			return err
		}
		o.way.lost = append(o.way.lost, o.peer)
		if len(o.way.next) == 0 {
			return o.alone(err)
		}
		o.turn()
		why = fmt.Errorf("instead of the one before: %w", err)
	}
}

// turn makes the next member the peer.
func (o *outgoing) turn() {
	o.conn.Close()
	o.hearing.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.peer, o.way.next = o.way.next[0], o.way.next[1:]
	o.lostWhy, o.joined, o.stuck, o.moved = nil, true, time.Time{}, time.Time{}
}

// turned tells who was passed by.
func (o *outgoing) turned() {
	if o.way == nil || len(o.way.lost) == 0 {
		return
	}
	lost, to := o.way.lost, o.peer
	o.way.lost = nil
	o.way.tell(lost, &to, nil)
}

// alone gives up all members behind this one: those that still live get
// nothing from their predecessors any more.
func (o *outgoing) alone(why error) error {
	o.way.tell(o.way.behind, nil, why)
	if o.way.ends {
		return why
	}
	o.end()
	return nil
}

// end ends the sending for good: nobody is sent to any more.
func (o *outgoing) end() {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	o.close()
	if o.heard != nil {
		o.heard()
	}
}

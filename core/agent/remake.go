package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// remake makes the connection to the peer anew, as often as it takes and for
// as long as the peer may stay away, and sends again what has not arrived.
func (o *outgoing) remake(ctx context.Context, why error) error {
	lost := time.Now()
	stay, refused := o.patience()
	for ctx.Err() == nil {
		o.hangUp()
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
	idle := o.have == o.last // there was nothing to take
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
	var again []relay.Packet
	for _, p := range o.unacked {
		if p.end > o.have {
			again = append(again, p.Packet)
		}
	}
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
	within := "" // it is left as soon as it refuses, where another can be joined
	if o.way == nil {
		within = " within " + o.retry.String()
	}
	return &sdk.Error{Kind: sdk.KindUnreachable, Host: o.peer.Host,
		Message: fmt.Sprintf("the data link to %s was lost, and could not be made again%s: %v", o.peer.Name, within, why),
		Hint:    "see whether the host and its agent live, then run the transfer again"}
}

func (o *outgoing) why() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lostWhy
}

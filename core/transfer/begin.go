package transfer

import (
	"context"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// beginLimit bounds the mode's Begin.
const beginLimit = 30 * time.Minute

// begin lets the mode change what must be changed before anything is read,
// and then lets data flow. A member without its links is refused here: what
// is stopped for nothing is stopped too long.
func (r *run) begin(ctx context.Context) error {
	for _, m := range r.members {
		if m.failed() {
			return m.err
		}
	}
	r.endAsking()
	if err := r.phase("begin"); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, beginLimit)
	defer cancel()
	err := r.alive(limited, func(ctx context.Context) error { return r.mode.Begin(ctx, r.transfer, r.hostOfAgents()) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		if r.req.StopSlave {
			return &refusal{ExitStop, err}
		}
		return err
	}
	if err := r.phase("move"); err != nil {
		return err
	}
	for _, u := range r.journal.State().Undos {
		if u.Undo.When == sdk.WhenSourceDone && !u.Done {
			r.emit(Event{Type: EventChanged, Host: u.Host, Message: "as soon as the source is read: " + u.Undo.What})
		}
	}
	return r.watchBegin(ctx)
}

// watchBegin tells the agents that data may flow, until the source's has heard
// it or was silent for too long.
func (r *run) watchBegin(ctx context.Context) error {
	req := r.request(control.VerbBegin)
	req.Until, req.Wait = control.PhaseVerified, r.firstWait()
	for began := time.Now(); ; {
		req.Seen = r.seen()
		answers := r.fleet.Retry(ctx, callTries, req, r.living()...)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.absorb(answers)
		if r.superseded {
			return errSuperseded
		}
		// Of all agents the source's must know.
		a := answers[r.source().Host]
		if a.Err == nil {
			r.noteFlow()
			return nil
		}
		if time.Since(began) > r.patience() {
			return &sdk.Error{Kind: a.Err.Kind, Host: a.Err.Host, Message: "the source could not be told to begin: " + a.Err.Message, Hint: a.Err.Hint}
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// patience is how long a host may answer no command where nothing can go on
// without it: as long as another host may be away from it, and long enough for
// a service to be restarted.
func (r *run) patience() time.Duration { return max(r.req.RetryFor, time.Minute) }

// alive keeps the agents' leases alive while something long is done before
// data flows.
func (r *run) alive(ctx context.Context, do func(context.Context) error) error {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	hosts := r.living()
	wg.Go(func() {
		tick := time.NewTicker(r.clock.lease / 10)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.fleet.Broadcast(ctx, r.request(control.VerbStatus), hosts...)
			}
		}
	})
	return do(ctx)
}

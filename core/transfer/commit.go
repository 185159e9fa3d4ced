package transfer

import (
	"context"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// commitLimit bounds the commit of all targets. What has not answered by then
// may have been committed; it is reported as not known.
const commitLimit = 10 * time.Minute

// commit publishes the targets that are verified and ends all agents, in one
// call; with KeepPartial the end is a call of its own. From here on an interrupt does not turn back: half of the targets
// with and half without would be worse than either.
func (r *run) commit(ctx context.Context) error {
	var names []string
	for _, t := range r.targets() {
		if !t.failed() {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil // the end stops everything
	}
	if err := r.noteFailed(); err != nil {
		return err
	}
	if err := r.phase("commit"); err != nil {
		return err
	}
	r.committing = true
	r.noteFlow() // from here on nobody leaves
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.endAsking()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitLimit)
	defer cancel()
	req := r.request(control.VerbCommit)
	// What the source has read is kept until every copy is known to be there.
	req.Commit = &control.Commit{Members: names, Stop: !r.req.KeepPartial}
	r.absorb(r.fleet.Retry(ctx, callTries, r.waiting(req), r.worthCommit()...))
	for !r.committed() && !r.silentSince(began) && !r.superseded && ctx.Err() == nil {
		// The same call again: an agent that has it already answers how it went.
		r.absorb(r.fleet.Broadcast(ctx, r.waiting(req), r.worthCommit()...))
		if r.committed() || pause(ctx, time.Second) != nil {
			break
		}
	}
	r.noteCommitted()
	if r.superseded {
		return errSuperseded
	}
	for _, t := range r.targets() {
		if !t.failed() && t.status.Phase != control.PhaseCommitted {
			t.lost = true
			r.failMember(t, &sdk.Error{Kind: sdk.KindTimeout, Message: "it was told to publish, and has not said how it went",
				Hint: "`transferpy attach " + r.id + "` asks again and goes on; or look at the target directory"})
		}
	}
	return nil
}

// worthCommit are the hosts that are told of the commit: not those that were
// silent last time and have nothing to publish, which would hold up the others.
// The end tries to reach them.
func (r *run) worthCommit() []string {
	publishes := map[*agent]bool{}
	for _, t := range r.targets() {
		if !t.failed() {
			publishes[r.agents[t.Host]] = true
		}
	}
	return slices.DeleteFunc(r.living(), func(h string) bool { a := r.agents[h]; return a.silent && !publishes[a] })
}

// silentSince reports whether nobody is left to wait for: every target whose
// outcome is open is on a host that has not answered for too long.
func (r *run) silentSince(began time.Time) bool {
	for _, t := range r.targets() {
		if a := r.agents[t.Host]; !t.failed() && t.status.Phase != control.PhaseCommitted && !a.silent {
			return false
		}
	}
	return time.Since(began) > r.patience()
}

// waiting makes a request wait for the agents' ends.
func (r *run) waiting(req control.Request) control.Request {
	req.Until, req.Wait, req.Seen = control.PhaseEnded, r.firstWait(), r.seen()
	return req
}

// committed reports whether every target is committed or has failed. An agent
// that has not ended by then has something left to undo, or a member that
// failed: the run's end stops it.
func (r *run) committed() bool {
	for _, t := range r.targets() {
		if !t.failed() && t.status.Phase != control.PhaseCommitted {
			return false
		}
	}
	return true
}

package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// ErrDetached is the cause with which a run leaves its transfer to the agents,
// when Deps.Detach asks for it.
var ErrDetached = errors.New("detached")

// errSuperseded ends a run whose agents obey another process by now.
var errSuperseded = errors.New("superseded")

// left reports whether err leaves the transfer to others: nothing is stopped or
// undone then.
func left(err error) bool { return errors.Is(err, ErrDetached) || errors.Is(err, errSuperseded) }

// leaving returns a context for the phases that ends, with ErrDetached, when
// the run is asked to detach and the copy can go on without it. The function
// returned ends the watch.
func (r *run) leaving(ctx context.Context) (context.Context, func()) {
	if r.deps.Detach == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r.leave = cancel
	stop := context.AfterFunc(r.deps.Detach, r.tryLeave)
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// tryLeave detaches if it was asked for and the time for it has come. It may be
// called from any goroutine.
func (r *run) tryLeave() {
	r.leaveMu.Lock()
	defer r.leaveMu.Unlock()
	if r.deps.Detach != nil && r.deps.Detach.Err() != nil && r.mayLeave {
		r.leave(ErrDetached)
	}
}

// noteFlow notes whether the copy can go on alone: data flows for every agent
// that still counts, and nobody was told to publish.
func (r *run) noteFlow() {
	flows := !r.committing && !r.ending && len(r.members) > 0 && !r.source().failed()
	for _, m := range r.members {
		flows = flows && (m.failed() || m.status.Phase.AtLeast(control.PhaseMoving))
	}
	r.leaveMu.Lock()
	r.mayLeave = flows
	r.leaveMu.Unlock()
	r.tryLeave()
}

// concludeLeft makes the report of a run that others go on with.
func (r *run) concludeLeft(err error) *Report {
	r.endAsking()
	r.passedOn = true
	rep := r.report
	rep.ExitCode, rep.Seconds = ExitControlLost, time.Since(rep.Began).Seconds()
	r.reportCalls()
	rep.Err = &sdk.Error{Kind: sdk.KindCancelled, Message: "another transferpy has taken over transfer " + r.id + ": its agents do not obey this one any more",
		Hint: "how it ends is told there"}
	if errors.Is(err, ErrDetached) {
		rep.Err = &sdk.Error{Kind: sdk.KindCancelled, Message: fmt.Sprintf("detached: the copy goes on without this process, and is held unpublished; without an attach it is undone %s from now", r.clock.hold),
			Hint: "to take it over and publish it: transferpy attach " + r.id + "; to end it: transferpy cancel " + r.id}
		if err := r.journal.Add(journal.Record{Detached: &journal.Detached{Time: time.Now().UTC()}}); err != nil {
			r.warn("", "that it was detached could not be written into the journal: "+err.Error())
		}
	}
	for i := range rep.Targets {
		rep.Targets[i].ExitCode, rep.Targets[i].Err = ExitControlLost, rep.Err
		if m := r.members; i+1 < len(m) && m[i+1].failed() {
			rep.Targets[i].Err = m[i+1].err
		}
	}
	return rep
}

package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/sdk"
)

// progressEvery is the least time between two progress events.
const progressEvery = time.Second

// rootWait is how long the source may take to tell its digest when all
// targets have told theirs.
const rootWait = 2 * time.Minute

// move follows the data until every target is verified or has failed.
func (r *run) move(ctx context.Context) error {
	if err := r.enterMove(ctx); err != nil {
		return err
	}
	if err := r.poll(ctx, control.PhaseVerified, r.moved); err != nil {
		return err
	}
	for _, t := range r.targets() {
		if !t.settled() { // the source failed and left it without
			cause := r.source().err
			r.failMember(t, &sdk.Error{Kind: cause.Kind, Message: "the source failed: " + cause.Error(), Hint: cause.Hint})
		}
	}
	return nil
}

// enterMove notes that data flows. A source that has waited for the mode's
// Begin may not have heard from the process before this one that it has ended.
func (r *run) enterMove(ctx context.Context) error {
	if !r.plan.Begins {
		if err := r.phase("move"); err != nil { // it flows already
			r.warn("", "how far the transfer is could not be written into the journal: "+err.Error())
		}
		return nil
	}
	if s := r.source(); !r.attached || s.failed() || s.status.Phase.AtLeast(control.PhaseMoving) {
		return nil
	}
	return r.watchBegin(ctx)
}

// moved reports whether all targets are settled, and the source's own digest
// is known where one of them will be compared with it.
func (r *run) moved() bool {
	source := r.source()
	verified := false
	for _, t := range r.targets() {
		served := t.status.Phase.AtLeast(control.PhaseReadDone)
		if !t.settled() && (!source.failed() || served) {
			return false
		}
		verified = verified || !t.failed() && t.settled()
	}
	if r.settledAt.IsZero() {
		r.settledAt = time.Now()
	}
	return !verified || source.failed() || source.status.Root != "" || source.status.Phase.AtLeast(control.PhaseVerified) ||
		time.Since(r.settledAt) > rootWait
}

// poll asks the agents again and again until done, as often as the executors
// bear and an operator's progress line needs. An answer that is late, or
// missing, holds up nothing but the next question; an agent that was silent
// for too long counts as lost.
func (r *run) poll(ctx context.Context, until control.Phase, done func() bool) error {
	wait, every := r.fleet.Patience()
	every = max(every, progressEvery)
	wait = min(wait, every)
	pace := newPacing(every)
	for {
		r.progress()
		if done() {
			return nil
		}
		began := time.Now()
		if err := r.watch(ctx, until, wait); err != nil {
			return err
		}
		r.expire()
		r.noteFlow()
		if err := r.heedClosed(ctx); err != nil {
			return err
		}
		r.renewHoles(ctx)
		if done() {
			continue
		}
		if err := pause(ctx, pace.pause(time.Since(began))); err != nil {
			return err
		}
	}
}

// expire fails the members of agents that were silent for longer than they
// hold on without their controller: they have undone everything by now, or
// will.
func (r *run) expire() {
	for _, m := range r.members {
		a := r.agents[m.Host]
		if m.failed() || !a.silent || time.Since(a.heard) < r.clock.hold {
			continue
		}
		m.lost = true
		r.failMember(m, &sdk.Error{Kind: sdk.KindTimeout,
			Message: fmt.Sprintf("nothing was heard of its agent for %s", r.clock.hold),
			Hint:    "see whether the host is up; by itself the agent undoes what is not committed"})
	}
}

// progress tells how far every member is, as far as is known.
func (r *run) progress() {
	expected := progress.Expected{Bytes: r.plan.Bytes, AtLeast: r.atLeast(), ReadBack: r.verify == control.VerifyReadBack}
	if r.tracker == nil {
		r.tracker = progress.New(expected)
	}
	readings := make([]progress.Reading, len(r.members))
	for i, m := range r.members {
		e := r.req.endpoints()[i]
		readings[i] = progress.Reading{Host: e.Host, Path: e.Path, Status: m.status, At: m.heard}
		if m.failed() {
			readings[i].Status.Phase = control.PhaseFailed // its agent may be silent
		}
	}
	r.emit(Event{Type: EventProgress, Members: r.tracker.Add(readings), Total: expected.Bytes, AtLeast: expected.AtLeast})
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

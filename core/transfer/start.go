package transfer

import (
	"context"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// start hands out the plan. Where the mode has nothing to begin, data flows
// as soon as the links are proven, and the answer waits for a short job to be
// done; else start ends when all links are proven.
func (r *run) start(ctx context.Context) error {
	if err := r.phase("start"); err != nil {
		return err
	}
	r.firewalls.linkBy = time.Now().Add(r.req.LinkTimeout)
	until := control.PhaseVerified
	if r.plan.Begins {
		until = control.PhaseReady
	}
	if err := r.watch(ctx, until, r.firstWait()); err != nil {
		return err
	}
	if err := r.heedClosed(ctx); err != nil || !r.plan.Begins {
		return err
	}
	return r.poll(ctx, control.PhaseReady, func() bool {
		for _, m := range r.members {
			if !m.failed() && !m.status.Phase.AtLeast(control.PhaseReady) {
				return false
			}
		}
		return true
	})
}

// firstWait is how long the first answer may take: as long as an operator
// bears to see nothing, or as long as the executor wants to be left alone.
func (r *run) firstWait() time.Duration {
	wait, every := r.fleet.Patience()
	return min(wait, max(every, 2*time.Second))
}

// watch asks every living agent for its state, but for those that still owe an
// answer: those that have the plan by status, the others by handing out the plan
// (again). It takes the answers that come first, which are all where no host is
// slow; the others' are taken when they are there. The call that hands the plan
// out keeps its name, so that a repeat is harmless.
func (r *run) watch(ctx context.Context, until control.Phase, wait time.Duration) error {
	if r.asking == nil {
		r.asking = newAsking(ctx, r.fleet)
	}
	status, start := r.request(control.VerbStatus), r.request(control.VerbStart)
	plan := r.startPlan()
	start.Start, start.Call = &plan, "start-"+r.id
	seen := r.seen()
	status.Until, status.Wait, status.Seen = until, wait, seen
	start.Until, start.Wait, start.Seen = until, wait, seen
	well, silent, without := r.whomToAsk()
	r.asking.ask(status, well)
	r.asking.ask(status, silent)
	r.asking.ask(start, without)
	r.absorb(r.asking.take(ctx, slices.Concat(well, silent, without), wait+straggling))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r.superseded {
		return errSuperseded
	}
	return nil
}

// whomToAsk are the hosts whose agents live and owe no answer: those that have
// the plan and answered last time, those that did not, which share no call with
// the others, and those without the plan.
func (r *run) whomToAsk() (well, silent, without []string) {
	for _, h := range r.asking.free(r.living()) {
		a := r.agents[h]
		a.asked = time.Now()
		if a.heard.IsZero() {
			a.heard = a.asked // silence is counted from the first question on
		}
		switch {
		case !a.acked:
			without = append(without, h)
		case a.silent:
			silent = append(silent, h)
		default:
			well = append(well, h)
		}
	}
	return well, silent, without
}

// endAsking ends the questions that nobody needs an answer to any more.
func (r *run) endAsking() {
	if r.asking != nil {
		r.asking.end()
		r.asking = nil
	}
}

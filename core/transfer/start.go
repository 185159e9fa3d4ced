package transfer

import (
	"context"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/remote"
)

// start hands out the plan. Where the mode has nothing to begin, data flows
// as soon as the links are proven, and the answer waits for a short job to be
// done; else start ends when all links are proven.
func (r *run) start(ctx context.Context) error {
	if err := r.phase("start"); err != nil {
		return err
	}
	if !r.plan.Begins {
		return r.watch(ctx, control.PhaseVerified, r.firstWait())
	}
	if err := r.watch(ctx, control.PhaseReady, r.firstWait()); err != nil {
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

// watch asks every living agent for its state and takes the answers: those
// that have the plan by status, the others by handing out the plan (again).
// The call that hands it out keeps its name, so that a repeat is harmless.
func (r *run) watch(ctx context.Context, until control.Phase, wait time.Duration) error {
	status, start := r.request(control.VerbStatus), r.request(control.VerbStart)
	plan := r.startPlan()
	start.Start, start.Call = &plan, "start-"+r.id
	var withPlan, without []string
	for _, h := range r.living() {
		a := r.agents[h]
		if a.heard.IsZero() {
			a.heard = time.Now() // silence is counted from the first question on
		}
		if a.acked {
			withPlan = append(withPlan, h)
		} else {
			without = append(without, h)
		}
	}
	seen := r.seen()
	status.Until, status.Wait, status.Seen = until, wait, seen
	start.Until, start.Wait, start.Seen = until, wait, seen

	var polled, started map[string]remote.Answer
	var wg sync.WaitGroup
	if len(withPlan) > 0 {
		wg.Go(func() { polled = r.fleet.Broadcast(ctx, status, withPlan...) })
	}
	if len(without) > 0 {
		wg.Go(func() { started = r.fleet.Broadcast(ctx, start, without...) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.absorb(polled)
	r.absorb(started)
	return nil
}

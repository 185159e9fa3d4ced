package transfer

import (
	"context"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// finishLimit bounds the mode's after-checks.
const finishLimit = 10 * time.Minute

// finish lets the mode look at what has become of the hosts: read-only, by
// agents of one call, since those of the transfer have ended.
func (r *run) finish(ctx context.Context) error {
	if err := r.phase("finish"); err != nil {
		r.warn("", "how far the transfer is could not be written into the journal: "+err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, finishLimit)
	defer cancel()
	var outcome sdk.Outcome
	for i, t := range r.targets() {
		outcome.Targets = append(outcome.Targets, sdk.TargetOutcome{
			Endpoint:  r.transfer.Targets[i],
			Committed: t.status.Phase == control.PhaseCommitted,
			Bytes:     t.status.Bytes,
			Files:     t.status.Files,
			Err:       t.err,
		})
	}
	return r.mode.Finish(ctx, r.transfer, outcome, r.hostBefore())
}

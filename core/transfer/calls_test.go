package transfer

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

func TestCallsAreToldByPhase(t *testing.T) {
	r := newTrial(t, "a", "b").run(t)
	if want := []PhaseCalls{{"preflight", 1}, {"prepare", 1}, {"start", 1}, {"commit", 1}}; !slices.Equal(r.PhaseCalls, want) {
		t.Errorf("calls by phase: %v, want %v", r.PhaseCalls, want)
	}
}

// TestLongTransferMakesACallAMinute lets ten minutes pass over an executor
// that wants to be asked once a minute, as cumin and salt do, with agents that
// wait as long as they are told to.
func TestLongTransferMakesACallAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, "a", "b")
		const minutes = 10
		tr.site.traits.MaxWait, tr.site.traits.PollEvery, tr.site.traits.Latency = 66*time.Second, time.Minute, time.Second
		for _, h := range tr.site.hosts {
			h.slow = minutes
		}
		tr.site.dawdle = func(ctx context.Context, req *control.Request) {
			if req.Verb != control.VerbStart && req.Verb != control.VerbStatus {
				return
			}
			select {
			case <-time.After(req.Wait):
			case <-ctx.Done():
			}
		}
		began := time.Now()
		r := tr.run(t)
		if r.ExitCode != 0 {
			t.Fatalf("exit %d: %v", r.ExitCode, r.Err)
		}
		took := time.Since(began)
		if took < minutes*time.Minute || took > (minutes+3)*time.Minute {
			t.Errorf("it took %v of the test's time", took)
		}
		// Three calls beside those that wait.
		if most := int(took/time.Minute) + 1 + 3; r.Calls > most {
			t.Errorf("%d calls in %v, at most %d are wanted: %v", r.Calls, took, most, r.PhaseCalls)
		}
	})
}

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

// TestEarlyAnswersAreFollowedUp holds that an answer which comes early, and is
// not yet the end, does not cost the rest of a minute.
func TestEarlyAnswersAreFollowedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, "a", "b")
		tr.site.traits.MaxWait, tr.site.traits.PollEvery = 66*time.Second, time.Minute
		for _, h := range tr.site.hosts {
			h.slow = 2 // it is verified with the second status
		}
		began := time.Now()
		r := tr.run(t)
		if took := time.Since(began); r.ExitCode != 0 || took > 20*time.Second {
			t.Errorf("exit %d after %v: %v, %v", r.ExitCode, took, r.PhaseCalls, r.Err)
		}
	})
}

func TestPacing(t *testing.T) {
	p := newPacing(time.Minute)
	for i, tt := range []struct{ took, pause time.Duration }{
		{time.Minute, 0},
		{0, time.Second}, {5 * time.Second, 0}, {5 * time.Second, 55 * time.Second}, {0, time.Minute}, // the third early one waits
		{61 * time.Second, 0}, {0, time.Second}, {0, time.Minute},
	} {
		if got := p.pause(tt.took); got != tt.pause {
			t.Errorf("%d: a pause of %v after %v, want %v", i, got, tt.took, tt.pause)
		}
	}
	if got := newPacing(time.Second).pause(300 * time.Millisecond); got != 700*time.Millisecond {
		t.Errorf("%v", got)
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

package daemon

import (
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// TestObserver: who only observes is told how long the agent goes on alone, of
// whatever generation, and neither raises that nor keeps the agent waiting.
func TestObserver(t *testing.T) {
	l := live(t, control.Prepare{Lease: 400 * time.Millisecond, Hold: time.Hour})
	observe := func(generation uint64) control.Answer {
		return l.ask(&control.Request{Verb: control.VerbStatus, Call: control.NewID(), Observe: true, Generation: generation})
	}
	l.ask(&control.Request{Verb: control.VerbStatus, Call: "c1", Generation: 5})
	if a := observe(0); a.Superseded != 0 || a.Status == nil || a.Status.EndsIn <= 0 || a.Status.EndsIn > 400*time.Millisecond {
		t.Errorf("of a low generation: %+v, %+v", a, a.Status)
	}
	observe(99)
	if a := l.ask(&control.Request{Verb: control.VerbStatus, Call: "c2", Generation: 5}); a.Error != nil {
		t.Errorf("the controller is refused after an observer: %v", a.Error)
	}
	if a := l.ask(&control.Request{Verb: control.VerbStatus, Call: "c3", Generation: 4}); a.Superseded != 5 || a.Error == nil {
		t.Errorf("an older controller: %+v", a)
	}
	l.job.set(func() { l.job.flowing = true })
	if a := observe(0); a.Status.EndsIn < 59*time.Minute {
		t.Errorf("with data it ends in %v", a.Status.EndsIn)
	}
	l.job.set(func() { l.job.flowing = false })
	for end := time.Now().Add(20 * time.Second); !l.isOver(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("observers keep it alive")
		}
		deliver(t.Context(), l.state, &control.Request{V: control.Version, Verb: control.VerbStatus, Transfer: "t", Call: control.NewID(), Observe: true})
	}
}

package remote

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// stuck holds the first call to host b until others is done, or too long.
type stuck struct {
	once   sync.Once
	others chan struct{}
}

func (s *stuck) hook(t *testing.T) func(string, []sdk.Raw) {
	return func(host string, _ []sdk.Raw) {
		if host != "b" {
			return
		}
		s.once.Do(func() {
			select {
			case <-s.others:
			case <-time.After(30 * time.Second):
				t.Error("the others wait for a slow host")
			}
		})
	}
}

// both is closed when a and c were seen.
func both(others chan struct{}) (seen func(host string)) {
	var mu sync.Mutex
	left := map[string]bool{"a": true, "c": true}
	return func(host string) {
		mu.Lock()
		defer mu.Unlock()
		if len(left) == 0 {
			return
		}
		if delete(left, host); len(left) == 0 {
			close(others)
		}
	}
}

// TestSlowHostHoldsUpNobodysAgent: a host that does not answer the first script
// keeps no other from its agent and its answers, in a call that it shares with
// them or not, whether the executor places files or the pieces go one by one.
func TestSlowHostHoldsUpNobodysAgent(t *testing.T) {
	for _, traits := range []sdk.ExecutorTraits{{CanPut: true, MaxCalls: 2}, {MaxStdin: 600, MaxCalls: 2}, {MaxStdin: 600, MaxHosts: 1, MaxCalls: 2}} {
		t.Run(fmt.Sprintf("%+v", traits), func(t *testing.T) {
			s := &stuck{others: make(chan struct{})}
			seen := both(s.others)
			b := newBench(t, traits, func(_ *Options, shell *shell) { shell.hook = s.hook(t) })
			var p control.Probe
			for i := range 2 * mostQuestions {
				p.Paths = append(p.Paths, sdk.PathQuestion{ID: fmt.Sprint(i), Path: "/x"})
			}
			answers := b.fleet.Probe(t.Context(), p, func(host string, _ *control.Facts) { seen(host) })
			for _, h := range []string{"a", "b", "c"} {
				if answers[h].Err != nil {
					t.Errorf("%s: %v", h, answers[h].Err)
				}
			}
		})
	}
}

// TestSlowHostHoldsUpNobodysMessage: nor does one that takes its message
// slowly keep the others from theirs.
func TestSlowHostHoldsUpNobodysMessage(t *testing.T) {
	b := newBench(t, sdk.ExecutorTraits{MaxStdin: 1000, MaxCalls: 2}, nil)
	b.probe(t)
	s := &stuck{others: make(chan struct{})}
	seen, hold := both(s.others), s.hook(t)
	b.shell.hook = func(host string, argv []sdk.Raw) {
		if argv[0] != "sh" { // the agent's program: its message is there
			seen(host)
		}
		hold(host, argv)
	}
	names := map[string]uint64{}
	for i := range 200 {
		names[fmt.Sprintf("agent-%d", i)] = 1
	}
	answers := b.fleet.Broadcast(t.Context(), control.Request{Verb: control.VerbStatus, Transfer: "t", Call: "c", Seen: names}, "a", "b", "c")
	for _, h := range []string{"a", "b", "c"} {
		if a := answers[h]; a.Err != nil || a.Reply.Agents[0].Agent != "a-file" {
			t.Errorf("%s: %+v", h, a)
		}
	}
}

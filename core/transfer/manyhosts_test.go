package transfer

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// narrow is a site behind an executor with small limits, to which it holds
// its caller, and with some latency.
type narrow struct {
	*site
	t       *testing.T
	now     atomic.Int64 // calls under way
	most    atomic.Int64
	made    atomic.Int64
	largest atomic.Int64 // output of one host, in bytes
}

func newNarrow(t *testing.T, s *site) *narrow {
	s.traits = sdk.ExecutorTraits{MaxCommand: 64 << 10, MaxStdin: 64 << 10, MaxOutput: 256 << 10, MaxHosts: 25, MaxCalls: 4,
		Latency: 10 * time.Millisecond, MaxWait: 30 * time.Second, PollEvery: time.Millisecond}
	return &narrow{site: s, t: t}
}

// Run implements sdk.Executor.
func (n *narrow) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	size := 0
	for _, arg := range cmd.Argv {
		size += len(arg) + 1
	}
	if size > n.traits.MaxCommand || len(cmd.Stdin) > n.traits.MaxStdin || len(hosts) > n.traits.MaxHosts {
		n.t.Errorf("a call has %d bytes of command, %d of standard input, %d hosts", size, len(cmd.Stdin), len(hosts))
	}
	n.made.Add(1)
	if now := n.now.Add(1); now > n.most.Load() {
		n.most.Store(now)
	}
	defer n.now.Add(-1)
	time.Sleep(n.traits.Latency)
	return n.site.Run(ctx, hosts, cmd, func(r sdk.Result) {
		n.largest.Store(max(n.largest.Load(), int64(len(r.Stdout))))
		if len(r.Stdout) > n.traits.MaxOutput {
			r.Stdout, r.Truncated = r.Stdout[:n.traits.MaxOutput], true
		}
		emit(r)
	})
}

// narrowPlugins gives a narrow executor.
type narrowPlugins struct {
	plugins
	exec *narrow
}

func (p narrowPlugins) Executor(context.Context, string) (sdk.Executor, sdk.Description, error) {
	return p.exec, sdk.Description{Executor: p.exec.traits}, nil
}

// TestManyHosts runs a transfer to 500 targets without data through an
// executor with small limits. How long a plan takes is printed, and bounded
// only generously, since tests share their machine; the number of calls is
// held exactly.
func TestManyHosts(t *testing.T) {
	const targets = 500
	for _, tt := range []struct {
		name string
		same bool // one directory for all
		dry  bool
		most int64 // calls
	}{
		{"plan", true, true, 21},
		{"plan, a directory each", false, true, 4 * 21},
		{"all of it", true, false, 12 * 21},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var names []string
			for i := range targets {
				names = append(names, fmt.Sprintf("db%04d", i))
			}
			tr := newTrial(t, names...)
			tr.req.DryRun = tt.dry
			if tt.same {
				for i := range tr.req.Targets {
					tr.req.Targets[i].Path = "/srv"
				}
			}
			exec := newNarrow(t, tr.site)
			tr.deps.Plugins = narrowPlugins{plugins{tr.site, tr.mode}, exec}
			heap, stop := watchHeap()
			began := time.Now()
			r := tr.run(t)
			took := time.Since(began)
			stop()
			if r.ExitCode != 0 {
				t.Fatalf("exit %d: %v", r.ExitCode, r.Err)
			}
			t.Logf("%d targets: %d calls, at most %d at once, %s, at most %d MiB of heap, %d KiB from one host", targets, exec.made.Load(), exec.most.Load(), took.Round(time.Millisecond), heap.Load()>>20, exec.largest.Load()>>10)
			if exec.made.Load() > tt.most || int(exec.made.Load()) != r.Calls {
				t.Errorf("%d calls, told as %d, want at most %d", exec.made.Load(), r.Calls, tt.most)
			}
			if exec.most.Load() > int64(exec.traits.MaxCalls) {
				t.Errorf("%d calls at once", exec.most.Load())
			}
			if took > time.Minute {
				t.Errorf("it took %s", took)
			}
			// In a whole run the messages lie in the memory of the fake hosts.
			if tt.dry && heap.Load() > 256<<20 {
				t.Errorf("it took %d MiB of heap", heap.Load()>>20)
			}
		})
	}
}

// watchHeap notes the most heap that lives, above what lived before.
func watchHeap() (most *atomic.Int64, stop func()) {
	most = &atomic.Int64{}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := int64(m.HeapAlloc)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), int64(m.HeapAlloc)-before))
			}
		}
	}()
	return most, func() { close(done); <-ended }
}

// TestSilentHostHoldsUpNobody: a host that does not answer from the middle of a
// transfer on, in calls that do not end, makes the others' answers no later. It
// fails by itself when nothing was heard of it for too long.
func TestSilentHostHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, "a", "b", "c")
		b := tr.site.hosts["b"]
		b.slow, b.hangs = 1<<20, map[control.Verb]bool{control.VerbStatus: true, control.VerbCommit: true, control.VerbStop: true}
		tr.site.hosts["a"].slow, tr.site.hosts["c"].slow = 30, 30
		began := time.Now()
		var verified time.Duration // when all but b were
		tr.site.hook = func(control.Verb) {
			tr.site.mu.Lock()
			defer tr.site.mu.Unlock()
			if phases := tr.phasesOf(); verified == 0 && phases["target-1"] == control.PhaseVerified && phases["target-3"] == control.PhaseVerified {
				verified = time.Since(began)
			}
		}
		r := tr.run(t)
		if verified > time.Minute {
			t.Errorf("the others were verified after %s", verified)
		}
		if r.Targets[0].ExitCode != 0 || r.Targets[2].ExitCode != 0 || r.Targets[1].Err == nil || r.Targets[1].Err.Kind != sdk.KindTimeout {
			t.Errorf("%+v", r.Targets)
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("it took %s", took)
		}
		t.Logf("others verified after %s, all over after %s, %d calls", verified, time.Since(began), r.Calls)
	})
}

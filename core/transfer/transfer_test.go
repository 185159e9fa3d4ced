package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

func TestPlainTransferMakesFourCalls(t *testing.T) {
	for _, targets := range [][]string{{"a"}, {"a", "b", "c"}} {
		tr := newTrial(t, targets...)
		tr.site.hosts["a"].double = true
		r := tr.run(t)
		if r.ExitCode != 0 || r.Err != nil {
			t.Fatalf("exit %d: %v", r.ExitCode, r.Err)
		}
		if got := tr.verbs(); got != "probe prepare start commit" || r.Calls != 4 {
			t.Errorf("%d calls: %s", r.Calls, got)
		}
		for _, target := range r.Targets {
			if target.ExitCode != 0 || target.Bytes != 1000 || target.Files != 3 || len(target.Digest) != 64 || target.Verified != control.VerifyReadBack {
				t.Errorf("target: %+v", target)
			}
		}
		state, held, err := journal.Read(tr.deps.StateDir, r.Transfer)
		if err != nil || held || !state.Ended || state.Outcome.ExitCode != 0 || state.Hosts[0].Agent == "" {
			t.Errorf("journal: %+v, held %v, %v", state, held, err)
		}
		if stored, err := Stored(tr.deps.StateDir, r.Transfer); err != nil || stored.Source.Host != "src" {
			t.Errorf("stored: %+v, %v", stored, err)
		}
	}
}

// phasesOf returns the final phase of every target.
func (tr *trial) phasesOf() map[string]control.Phase {
	phases := map[string]control.Phase{}
	for _, h := range tr.site.hosts {
		for name, p := range h.phases {
			phases[name] = p
		}
	}
	return phases
}

func TestFailures(t *testing.T) {
	other := strings.Repeat("b", 64)
	broken := &sdk.Error{Kind: sdk.KindNoSpace, Message: "the disk is full", Hint: "make room"}
	tests := []struct {
		name    string
		prepare func(*trial)
		exit    int
		exits   []int  // of the targets a and b
		verbs   string // the calls, if they matter
		kind    sdk.ErrorKind
		open    bool // the journal is not ended
	}{
		{name: "unreachable in preflight", prepare: func(tr *trial) { tr.site.hosts["b"].down[control.VerbProbe] = -1 },
			exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindUnreachable},
		{name: "refused by the mode", prepare: func(tr *trial) { tr.mode.found.Refusals = []*sdk.Error{broken} },
			exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindNoSpace},
		{name: "plan for one target", prepare: func(tr *trial) { tr.mode.change = func(p *sdk.Plan) { p.Targets = p.Targets[:1] } },
			exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindUnsupported},
		{name: "a built-in of a later version", prepare: func(tr *trial) {
			tr.mode.change = func(p *sdk.Plan) { p.Read.Builtin, p.Write.Builtin = "of-tomorrow", sdk.BuiltinUnpackTar }
		}, exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindUnsupported},
		{name: "tree to a stream", prepare: func(tr *trial) { tr.mode.change = func(p *sdk.Plan) { p.Write.Builtin = sdk.BuiltinFile } },
			exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindUnsupported},
		{name: "name that leads out", prepare: func(tr *trial) { tr.mode.change = func(p *sdk.Plan) { p.Targets[0].Publish[0] = "../x" } },
			exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindUnsupported},
		{name: "cannot be verified", prepare: func(tr *trial) { tr.mode.change = func(p *sdk.Plan) { p.Verify = []sdk.Verify{sdk.VerifyStream} } },
			exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindUnsupported},
		{name: "port is taken", prepare: func(tr *trial) { tr.site.hosts["b"].failAt[control.VerbPrepare] = broken },
			exit: 255, exits: []int{255, 255}, verbs: "probe prepare stop", kind: sdk.KindNoSpace},
		{name: "one target fails", prepare: func(tr *trial) { tr.site.hosts["b"].failAt[control.VerbStart] = broken },
			exit: 1, exits: []int{0, 1}, verbs: "probe prepare start commit stop"},
		{name: "all targets fail", prepare: func(tr *trial) {
			tr.site.hosts["a"].failAt[control.VerbStart] = broken
			tr.site.hosts["b"].failAt[control.VerbStart] = broken
		}, exit: 1, exits: []int{1, 1}, verbs: "probe prepare start stop"},
		{name: "the source fails", prepare: func(tr *trial) {
			tr.site.hosts["src"].failAt[control.VerbStart] = &sdk.Error{Kind: sdk.KindChanged, Message: "/data/x changed"}
			tr.site.hosts["a"].slow, tr.site.hosts["b"].slow = 100, 100
		}, exit: 1, exits: []int{1, 1}, verbs: "probe prepare start stop"},
		{name: "roots differ", prepare: func(tr *trial) { tr.site.hosts["b"].root = other },
			exit: 3, exits: []int{0, 3}, verbs: "probe prepare start commit stop"},
		{name: "no root from a target", prepare: func(tr *trial) { tr.site.hosts["a"].root = "" },
			exit: 3, exits: []int{3, 0}},
		{name: "commit fails", prepare: func(tr *trial) {
			tr.site.hosts["a"].failAt[control.VerbCommit] = &sdk.Error{Kind: sdk.KindExists, Message: "/srv/a/data is there"}
		}, exit: 2, exits: []int{2, 0}},
		{name: "an agent dies", prepare: func(tr *trial) { tr.site.hosts["b"].dies[control.VerbStart] = true },
			exit: 1, exits: []int{0, 1}, verbs: "probe prepare start commit stop recover"},
		{name: "start is lost once", prepare: func(tr *trial) { tr.site.hosts["b"].down[control.VerbStart] = 1 },
			exit: 0, exits: []int{0, 0}},
		{name: "commit is lost once", prepare: func(tr *trial) { tr.site.hosts["b"].down[control.VerbCommit] = 1 },
			exit: 0, exits: []int{0, 0}},
		{name: "silent for longer than it holds", prepare: func(tr *trial) {
			tr.site.hosts["b"].down[control.VerbStart] = -1
		}, exit: 75, exits: []int{0, 75}},
		{name: "the source falls silent while targets verify", prepare: func(tr *trial) {
			tr.site.hosts["src"].down[control.VerbStart], tr.site.hosts["src"].down[control.VerbStatus] = -1, -1
		}, exit: 1, exits: []int{1, 1}},
		{name: "silent, and given up by the source", prepare: func(tr *trial) {
			tr.req.ControlLostFor = 24 * time.Hour
			tr.site.hosts["b"].down[control.VerbStart], tr.site.hosts["b"].down[control.VerbStatus] = -1, -1
			tr.site.hosts["src"].gaveUp = []control.PeerError{{Name: "target-2", Error: &sdk.Error{Kind: sdk.KindUnreachable, Message: "the link was lost"}}}
		}, exit: 1, exits: []int{0, 1}},
		{name: "silent at commit and ever after", prepare: func(tr *trial) {
			tr.site.hosts["b"].down[control.VerbCommit] = -1
			tr.site.hosts["b"].down[control.VerbStop] = -1
		}, exit: 75, exits: []int{0, 75}, kind: sdk.KindUnreachable, open: true},
		{name: "slow", prepare: func(tr *trial) { tr.site.hosts["b"].slow = 3 }, exit: 0, exits: []int{0, 0}},
		{name: "target inside the source", prepare: func(tr *trial) {
			tr.site.hosts["b"].instance, tr.req.Targets[1].Path = "i-src", "/data/sub"
		}, exit: 255, exits: []int{255, 255}, kind: sdk.KindConfig},
		{name: "name of a staging directory", prepare: func(tr *trial) {
			tr.mode.change = func(p *sdk.Plan) { p.Targets[1].Publish[0] = ".transferpy-x" }
		}, exit: 255, exits: []int{255, 255}, verbs: "probe", kind: sdk.KindConfig},
		{name: "one directory twice", prepare: func(tr *trial) {
			tr.site.hosts["b"].instance, tr.req.Targets[1].Path = "i-a", "/srv/a/"
		}, exit: 255, exits: []int{255, 255}, kind: sdk.KindExists},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, "a", "b")
				tt.prepare(tr)
				r := tr.run(t)
				if r.ExitCode != tt.exit {
					t.Errorf("exit %d, want %d: %v", r.ExitCode, tt.exit, r.Err)
				}
				for i, want := range tt.exits {
					if got := r.Targets[i]; got.ExitCode != want || (want == 0) != (got.Err == nil) {
						t.Errorf("target %d: exit %d, want %d: %v", i, got.ExitCode, want, got.Err)
					}
					if got := tr.phasesOf()[memberName(i)]; (got == control.PhaseCommitted) != (want == 0) && want != 75 {
						t.Errorf("target %d: exit %d and %s", i, want, got)
					}
				}
				if limit := 6 * time.Minute; tt.exit == 75 && tt.open && r.Seconds > limit.Seconds() {
					t.Errorf("it took %.0f s to give a silent host up", r.Seconds)
				}
				if tt.verbs != "" && tr.verbs() != tt.verbs {
					t.Errorf("calls: %s\nwant:  %s", tr.verbs(), tt.verbs)
				}
				if tt.kind != "" && (r.Err == nil || r.Err.Kind != tt.kind) {
					t.Errorf("error: %v", r.Err)
				}
				state, _, err := journal.Read(tr.deps.StateDir, r.Transfer)
				if err == nil && state.Ended == tt.open {
					t.Errorf("journal ended: %v", state.Ended)
				}
			})
		})
	}
}

func TestDryRunTouchesNothing(t *testing.T) {
	tr := newTrial(t, "a")
	tr.req.DryRun = true
	r := tr.run(t)
	if r.ExitCode != 0 || tr.verbs() != "probe" {
		t.Errorf("exit %d, calls %s: %v", r.ExitCode, tr.verbs(), r.Err)
	}
	if list, _ := journal.List(tr.deps.StateDir); len(list) != 0 {
		t.Errorf("journals: %v", list)
	}
	var plan *PlanView
	for _, e := range tr.events {
		if e.Type == EventPlanned {
			plan = e.Plan
		}
	}
	if plan == nil || len(plan.Hosts) != 2 || !strings.Contains(fmt.Sprint(plan.Hosts), "/srv/a/data") {
		t.Errorf("plan: %+v", plan)
	}
}

func TestTwoNamesOfOneHost(t *testing.T) {
	tr := newTrial(t, "a", "b")
	tr.site.hosts["b"] = tr.site.hosts["a"]
	r := tr.run(t)
	if r.ExitCode != 0 || r.Calls != 4 {
		t.Errorf("exit %d after %s: %v, %+v", r.ExitCode, tr.verbs(), r.Err, r.Targets)
	}
}

func TestBeginAndFinish(t *testing.T) {
	tr := newTrial(t, "a")
	tr.req.StopSlave = true
	tr.mode.change = func(p *sdk.Plan) { p.Begins, p.Finishes = true, true }
	tr.mode.begin = func(ctx context.Context, host sdk.Host) error {
		state := journalOf(t, tr)
		if len(state.Undos) != 0 {
			t.Error("an undo before Begin")
		}
		res, err := host.Change(ctx, []sdk.HostChange{{Host: "src",
			Undo:     sdk.Undo{ID: "repl", What: "start replication again", When: sdk.WhenSourceDone, Commands: []sdk.Command{{Argv: []sdk.Raw{"start"}}}},
			Commands: []sdk.Command{{Argv: []sdk.Raw{"stop", "replica"}}}}})
		if err != nil || len(res) != 1 || res[0].Err != nil || len(res[0].Results) != 1 {
			t.Errorf("Change: %+v, %v", res, err)
		}
		if state := journalOf(t, tr); len(state.Undos) != 1 || state.Undos[0].Undo.ID != "repl" {
			t.Errorf("the journal's undos: %+v", state.Undos)
		}
		if _, err := host.Run(ctx, []sdk.HostCommands{{Host: "elsewhere"}}); !errors.Is(err, sdk.ErrPermission) {
			t.Errorf("a host outside the transfer: %v", err)
		}
		return nil
	}
	tr.mode.finish = func(o sdk.Outcome, host sdk.Host) error {
		if len(o.Targets) != 1 || !o.Targets[0].Committed || o.Targets[0].Bytes != 1000 {
			t.Errorf("outcome: %+v", o)
		}
		res, err := host.Run(t.Context(), []sdk.HostCommands{
			{Host: "a", Commands: []sdk.Command{{Argv: []sdk.Raw{"ls"}}}}, {Host: "src"}, {Host: "a", Commands: []sdk.Command{{Argv: []sdk.Raw{"df"}}}}})
		if err != nil || len(res) != 3 || res[0].Host != "a" || len(res[0].Results) != 1 || string(res[2].Results[0].Stdout) != "i-a" {
			t.Errorf("Run: %+v, %v", res, err)
		}
		return nil
	}
	r := tr.run(t)
	if r.ExitCode != 0 || tr.verbs() != "probe prepare start do begin commit do" {
		t.Errorf("exit %d, calls %s: %v", r.ExitCode, tr.verbs(), r.Err)
	}
	undone := 0
	for _, e := range tr.events {
		if e.Type == EventUndo {
			undone++
		}
	}
	if undone != 1 {
		t.Errorf("%d undos were told", undone)
	}
}

func TestUndoThatFails(t *testing.T) {
	for stopSlave, exit := range map[bool]int{false: 1, true: 253} {
		tr := newTrial(t, "a")
		tr.req.StopSlave, tr.req.Firewall = stopSlave, "f"
		tr.site.hosts["a"].undoFails = true
		r := tr.run(t)
		if r.ExitCode != exit || r.Targets[0].ExitCode != 0 || r.Err == nil || !strings.Contains(r.Err.Hint, "cleanup "+r.Transfer) {
			t.Errorf("exit %d: %v", r.ExitCode, r.Err)
		}
		if got := tr.verbs(); got != "probe prepare do do start commit" {
			t.Errorf("calls: %s", got)
		}
	}
}

func TestBeginFails(t *testing.T) {
	for stopSlave, exit := range map[bool]int{false: 1, true: 254} {
		tr := newTrial(t, "a")
		tr.req.StopSlave = stopSlave
		tr.mode.change = func(p *sdk.Plan) { p.Begins = true }
		tr.mode.begin = func(context.Context, sdk.Host) error {
			return &sdk.Error{Kind: sdk.KindMissingTool, Host: "src", Message: "no mariadb"}
		}
		r := tr.run(t)
		if r.ExitCode != exit || tr.verbs() != "probe prepare start stop" {
			t.Errorf("exit %d, calls %s: %v", r.ExitCode, tr.verbs(), r.Err)
		}
	}
}

func TestBeginKeepsTheLeaseAlive(t *testing.T) {
	t.Setenv("TRANSFERPY_TEST_LEASE", "100ms")
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, "a")
		tr.mode.change = func(p *sdk.Plan) { p.Begins = true }
		tr.mode.begin = func(context.Context, sdk.Host) error { time.Sleep(45 * time.Millisecond); return nil }
		r := tr.run(t)
		if n := strings.Count(tr.verbs(), "status"); r.ExitCode != 0 || n < 3 || n > 5 {
			t.Errorf("exit %d, %d times asked: %v", r.ExitCode, n, r.Err)
		}
	})
}

func TestInterrupt(t *testing.T) {
	for cause, exit := range map[error]int{ErrInterrupted: 130, ErrTerminated: 143} {
		for _, at := range []control.Verb{control.VerbProbe, control.VerbPrepare, control.VerbStart, control.VerbStatus, control.VerbCommit} {
			t.Run(fmt.Sprintf("%v at %s", cause, at), func(t *testing.T) {
				tr := newTrial(t, "a", "b")
				tr.site.hosts["b"].slow = 1000
				if at == control.VerbCommit {
					tr.site.hosts["b"].slow = 0
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				tr.ctx = ctx
				tr.site.hook = func(verb control.Verb) {
					if verb == at {
						cancel(cause)
					}
				}
				r := tr.run(t)
				want := exit
				if at == control.VerbCommit {
					want = 0 // it does not turn back
				}
				if r.ExitCode != want {
					t.Errorf("exit %d, want %d: %v", r.ExitCode, want, r.Err)
				}
				for name, h := range tr.site.hosts {
					if h.prepared && !h.ended {
						t.Errorf("%s: the agent lives on after %s", name, tr.verbs())
					}
				}
			})
		}
	}
}

// TestCleanup plays a controller that died with its agents alive, dead and
// out of reach.
func TestCleanup(t *testing.T) {
	tr := newTrial(t, "a", "b")
	tr.site.hosts["b"].slow = 1000
	id := tr.crash(t)
	tr.site.hosts["a"].gone = true
	tr.site.hosts["b"].down[control.VerbStatus] = 1

	if err := Cleanup(t.Context(), id, tr.deps, nil); err != nil {
		t.Fatal(err)
	}
	for name, h := range tr.site.hosts {
		if !h.ended || h.generations[len(h.generations)-1] != 2 {
			t.Errorf("%s: ended %v, generations %v", name, h.ended, h.generations)
		}
	}
	if state, _, err := journal.Read(tr.deps.StateDir, id); err != nil || !state.Ended {
		t.Errorf("journal: %+v, %v", state, err)
	}
	calls := len(tr.site.calls)
	if err := Cleanup(t.Context(), id, tr.deps, nil); err != nil || len(tr.site.calls) != calls {
		t.Errorf("a second cleanup: %v, %v", err, tr.site.calls[calls:])
	}
}

func TestCleanupOfAHostOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, "a")
		tr.site.hosts["a"].slow = 1000
		id := tr.crash(t)
		tr.site.hosts["a"].down[control.VerbStop] = -1
		err := Cleanup(t.Context(), id, tr.deps, nil)
		if !errors.Is(err, sdk.ErrUnreachable) || !strings.Contains(err.Error(), "cleanup "+id) {
			t.Errorf("%v", err)
		}
		tr.site.hosts["a"].down[control.VerbStop] = 0
		if err := Cleanup(t.Context(), id, tr.deps, nil); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

func TestCleanupAllSparesWhatHoldsData(t *testing.T) {
	tr := newTrial(t, "a")
	id := tr.crash(t)
	var warned string
	events := func(e Event) { warned += e.Message }
	tr.site.hosts["a"].phases["target-1"] = control.PhaseMoving
	tr.site.hosts["a"].slow = 1000
	if err := CleanupAll(t.Context(), tr.deps, events); err != nil || !strings.Contains(warned, "transferpy cleanup "+id) {
		t.Errorf("%v: %q", err, warned)
	}
	if tr.site.hosts["a"].ended {
		t.Error("it was ended")
	}
	tr.site.hosts["a"].phases["target-1"] = control.PhaseFailed
	tr.site.hosts["src"].phases["source"] = control.PhaseReady
	tr.site.hosts["src"].slow = 1000
	if err := CleanupAll(t.Context(), tr.deps, nil); err != nil || !tr.site.hosts["a"].ended {
		t.Errorf("%v, ended %v", err, tr.site.hosts["a"].ended)
	}
}

// crash runs the transfer until its agents have the plan, then drops the
// controller as SIGKILL would.
func (tr *trial) crash(t *testing.T) string {
	t.Helper()
	r := newRun(journal.NewID(time.Now()), tr.deps, nil)
	r.adopt(tr.req, memberNames(&tr.req))
	if err := r.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range phases[1:6] {
		if p.skip != nil && p.skip(r) {
			continue
		}
		if err := p.run(r, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.close()
	return r.id
}

func TestCleanupWhileItRuns(t *testing.T) {
	tr := newTrial(t, "a")
	tr.site.hook = func(verb control.Verb) {
		if verb != control.VerbStart {
			return
		}
		list, _ := journal.List(tr.deps.StateDir)
		if err := Cleanup(t.Context(), list[0].Transfer, tr.deps, nil); !errors.Is(err, sdk.ErrExists) || !strings.Contains(err.Error(), "living process") {
			t.Errorf("cleanup of a living transfer: %v", err)
		}
	}
	if r := tr.run(t); r.ExitCode != 0 {
		t.Errorf("exit %d: %v", r.ExitCode, r.Err)
	}
}

func journalOf(t *testing.T, tr *trial) journal.State {
	t.Helper()
	list, err := journal.List(tr.deps.StateDir)
	if err != nil || len(list) != 1 {
		t.Fatalf("journals: %v, %v", list, err)
	}
	state, _, err := journal.Read(tr.deps.StateDir, list[0].Transfer)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestWorst(t *testing.T) {
	for _, tt := range []struct {
		codes []int
		want  int
	}{
		{nil, 0}, {[]int{0, 1}, 1}, {[]int{1, 2}, 2}, {[]int{2, 3, 1}, 3}, {[]int{3, 253}, 253},
		{[]int{253, 254}, 254}, {[]int{1, 255}, 255}, {[]int{1, 130}, 130}, {[]int{0, 75}, 75},
	} {
		if got := worst(tt.codes); got != tt.want {
			t.Errorf("worst(%v) = %d, want %d", tt.codes, got, tt.want)
		}
	}
}

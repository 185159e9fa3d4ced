package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/record"
	"github.com/transferpy/transferpy/sdk"
)

// attach takes a transfer over and forgets what went before.
func (tr *trial) attach(t *testing.T, id string) *Report {
	t.Helper()
	tr.events, tr.site.calls = nil, nil
	report, err := Attach(tr.ctx, id, tr.deps, func(e Event) { tr.events = append(tr.events, e) })
	if (err != nil) != (report.Err != nil) {
		t.Errorf("Attach's error is %v, the report's %v", err, report.Err)
	}
	if last := tr.events[len(tr.events)-1]; last.Type != EventDone || last.Report != report {
		t.Errorf("the last event is %+v", last)
	}
	return report
}

// diesAt runs the transfer up to, and not into, the named phase, and drops the
// controller there. What it would have written first is in the journal.
func (tr *trial) diesAt(t *testing.T, at string) string {
	t.Helper()
	r := newRun(journal.NewID(time.Now()), tr.deps, nil)
	r.adopt(tr.req, memberNames(&tr.req))
	if err := r.open(tr.ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range phases[1:] {
		if p.name == at {
			break
		}
		if p.skip != nil && p.skip(r) {
			continue
		}
		if err := p.run(r, tr.ctx); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	switch at {
	case "begin", "move", "finish":
		if err := r.phase(at); err != nil {
			t.Fatal(err)
		}
	case "commit":
		if err := errors.Join(r.noteFailed(), r.phase(at)); err != nil {
			t.Fatal(err)
		}
	}
	r.close()
	return r.id
}

// TestAttachAtEveryPhase: whatever the moment of the controller's death, the
// one that attaches brings the transfer to the end that it would have had, or
// undoes it.
func TestAttachAtEveryPhase(t *testing.T) {
	broken := &sdk.Error{Kind: sdk.KindNoSpace, Message: "the disk is full"}
	tests := []struct {
		name, at string
		begins   bool
		prepare  func(*trial) // before the death
		between  func(*trial)
		exit     int
		exits    []int
		says     string
	}{
		{name: "agents are there", at: "firewall", exits: []int{0, 0}},
		{name: "agents are there, and nobody knows which", at: "prepared", exit: 1, exits: []int{1, 1}, says: "nothing had moved"},
		{name: "before the plan was handed out", at: "start", exits: []int{0, 0}},
		{name: "data flows", at: "move", prepare: func(tr *trial) { tr.site.hosts["b"].slow = 5 }, exits: []int{0, 0}},
		{name: "all is verified", at: "compare", exits: []int{0, 0}},
		{name: "they differ", at: "compare", prepare: func(tr *trial) { tr.site.hosts["b"].root = strings.Repeat("b", 64) }, exit: 3, exits: []int{0, 3}},
		{name: "one had failed", at: "move", prepare: func(tr *trial) { tr.site.hosts["b"].failAt[control.VerbStart] = broken }, exit: 1, exits: []int{0, 1}, says: "the disk is full"},
		{name: "in the commit, before any was told", at: "commit", exits: []int{0, 0}},
		{name: "in the commit, they differed", at: "commit", prepare: func(tr *trial) { tr.site.hosts["b"].root = strings.Repeat("b", 64) }, exit: 3, exits: []int{0, 3}},
		{name: "in the commit, one was told", at: "commit", between: func(tr *trial) {
			tr.site.hosts["a"].phases["target-1"] = control.PhaseCommitted
		}, exits: []int{0, 0}},
		{name: "after the commit", at: "finish", exits: []int{0, 0}},
		{name: "Begin had not begun", at: "begin-not", begins: true, exits: []int{0, 0}},
		{name: "in the middle of Begin", at: "begin", begins: true, exit: 1, exits: []int{1, 1}, says: "the mode was changing"},
		{name: "Begin had ended, and nobody knew", at: "move", begins: true, exits: []int{0, 0}},
		{name: "an agent has died meanwhile", at: "move", prepare: func(tr *trial) { tr.site.hosts["b"].slow = 5 },
			between: func(tr *trial) { tr.site.hosts["b"].gone = true }, exit: 1, exits: []int{0, 1}},
		{name: "all have given up", at: "move", prepare: func(tr *trial) { tr.site.hosts["b"].slow = 5 },
			between: func(tr *trial) {
				for _, h := range tr.site.hosts {
					h.end(true)
				}
			}, exit: 1, exits: []int{1, 1}, says: "has ended by itself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, "a", "b")
				began, finished := 0, 0
				tr.mode.begin = func(context.Context, sdk.Host) error { began++; return nil }
				tr.mode.finish = func(sdk.Outcome, sdk.Host) error { finished++; return nil }
				tr.mode.change = func(p *sdk.Plan) { p.Begins, p.Finishes = tt.begins, true }
				if tt.prepare != nil {
					tt.prepare(tr)
				}
				at := tt.at
				switch at {
				case "begin-not":
					at = "start" // with its phase in the journal
				case "prepared":
					at = "firewall" // with a journal that does not know it
				}
				id := tr.diesAt(t, at)
				switch {
				case tt.at == "prepared":
					tr.forgetPlan(t, id)
				case at == "start":
					tr.note(t, id, journal.Record{Phase: "start"})
				}
				if tt.between != nil {
					tt.between(tr)
				}
				r := tr.attach(t, id)
				if r.ExitCode != tt.exit {
					t.Errorf("exit %d, want %d: %v\n%s", r.ExitCode, tt.exit, r.Err, tr.told())
				}
				for i, want := range tt.exits {
					if got := r.Targets[i]; got.ExitCode != want || (want == 0) != (got.Err == nil) {
						t.Errorf("target %d: exit %d, want %d: %v", i, got.ExitCode, want, got.Err)
					}
				}
				if !strings.Contains(tr.told()+fmt.Sprint(r.Err), tt.says) {
					t.Errorf("it does not say %q:\n%s", tt.says, tr.told())
				}
				if finished > 1 || finished == 0 && tt.exits[0] == 0 {
					t.Errorf("Finish was called %d times", finished)
				}
				if state := tr.state(t, id); !state.Ended || state.Generation() < 2 {
					t.Errorf("the journal: ended %v, generation %d", state.Ended, state.Generation())
				}
				if again := tr.attach(t, id); again.ExitCode != tt.exit || len(tr.site.calls) != 0 {
					t.Errorf("attached after its end: exit %d after %v", again.ExitCode, tr.site.calls)
				}
			})
		})
	}
}

// note adds a record to the journal of a transfer that nobody runs.
func (tr *trial) note(t *testing.T, id string, rec journal.Record) {
	t.Helper()
	j, err := journal.Takeover(tr.deps.StateDir, id)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Add(rec); err != nil {
		t.Fatal(err)
	}
}

// forgetPlan makes the journal one as an older program wrote them.
func (tr *trial) forgetPlan(t *testing.T, id string) {
	t.Helper()
	path := filepath.Join(tr.deps.StateDir, id+".journal")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var old []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, `{"plan"`) {
			old = append(old, line)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Join(old, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAttachGoesOnUndoing: what had been given up stays given up, with the exit
// code and the words of then.
func TestAttachGoesOnUndoing(t *testing.T) {
	tr := newTrial(t, "a")
	tr.site.hosts["a"].slow = 1000
	id := tr.diesAt(t, "move")
	tr.note(t, id, journal.Record{Stopping: &journal.Stopping{Time: time.Now(), ExitCode: 130, Error: &sdk.Error{Kind: sdk.KindCancelled, Message: "the transfer was stopped: interrupted"}}})
	r := tr.attach(t, id)
	if r.ExitCode != 130 || !strings.Contains(r.Err.Message, "interrupted") || strings.Contains(tr.verbs(), "commit") {
		t.Errorf("exit %d after %s: %v", r.ExitCode, tr.verbs(), r.Err)
	}
	if h := tr.site.hosts["a"]; !h.ended || h.phases["target-1"] == control.PhaseCommitted {
		t.Errorf("ended %v, phases %v", h.ended, h.phases)
	}
}

// TestNotAttachable: what is refused changes nothing.
func TestNotAttachable(t *testing.T) {
	tr := newTrial(t, "a")
	id := tr.diesAt(t, "move")
	j, err := journal.Takeover(tr.deps.StateDir, id)
	if err != nil {
		t.Fatal(err)
	}
	r := tr.attach(t, id)
	if r.ExitCode != ExitRefused || !errors.Is(r.Err, sdk.ErrExists) || !strings.Contains(r.Err.Error(), "living process") || !strings.Contains(r.Err.Error(), "transferpy cancel "+id) {
		t.Errorf("while it is run: exit %d: %v", r.ExitCode, r.Err)
	}
	j.Close()
	tr.forgetPlan(t, id)
	path := filepath.Join(tr.deps.StateDir, id+".journal")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), `{"v":2`, `{"v":1`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := tr.attach(t, id); r.ExitCode != ExitRefused || !errors.Is(r.Err, sdk.ErrUnsupported) || len(tr.site.calls) > 0 {
		t.Errorf("a journal of an older version: exit %d after %v: %v", r.ExitCode, tr.site.calls, r.Err)
	}
	if err := Cleanup(t.Context(), id, tr.deps, nil); err != nil || !tr.site.hosts["a"].ended {
		t.Errorf("and its cleanup: %v", err)
	}
	if r := tr.attach(t, "20261123-153042-k3mq7xwa"); r.ExitCode != ExitRefused || !errors.Is(r.Err, sdk.ErrNotFound) {
		t.Errorf("a transfer that nobody knows: exit %d: %v", r.ExitCode, r.Err)
	}
}

// TestSuperseded: a controller whose agents obey another one ends, and stops
// and undoes nothing.
func TestSuperseded(t *testing.T) {
	tr := newTrial(t, "a")
	a := tr.site.hosts["a"]
	a.slow = 1000
	calls := 0
	tr.site.hook = func(verb control.Verb) {
		if calls++; verb == control.VerbStatus && calls > 6 {
			a.superseded = 7
		}
	}
	r := tr.run(t)
	if r.ExitCode != ExitControlLost || !strings.Contains(r.Err.Message, "another transferpy has taken over") {
		t.Errorf("exit %d: %v", r.ExitCode, r.Err)
	}
	if strings.Contains(tr.verbs(), "stop") || a.ended {
		t.Errorf("it has ended what is another's: %s", tr.verbs())
	}
}

// TestEndedByOthers: of an agent that has ended, and not by its controller,
// nobody can say here whether it has published.
func TestEndedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, "a", "b")
		b, calls := tr.site.hosts["b"], 0
		b.slow = 1000
		tr.site.hook = func(verb control.Verb) {
			if calls++; verb == control.VerbStatus && calls > 6 {
				b.end(true)
			}
		}
		r := tr.run(t)
		if r.ExitCode != ExitControlLost || r.Targets[0].ExitCode != 0 || r.Targets[1].ExitCode != ExitControlLost {
			t.Errorf("exit %d, targets %+v", r.ExitCode, r.Targets)
		}
	})
}

// TestDetach: the run leaves as soon as the copy can go on alone, and what it
// leaves can be attached to.
func TestDetach(t *testing.T) {
	for _, when := range []control.Verb{control.VerbProbe, control.VerbStatus, control.VerbCommit} {
		t.Run(string(when), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testDetach(t, when) }) })
	}
}

func testDetach(t *testing.T, when control.Verb) {
	tr := newTrial(t, "a", "b")
	tr.site.hosts["b"].slow, tr.site.hosts["b"].moves = 20, true
	tr.site.hosts["a"].moves, tr.site.hosts["src"].moves = true, true
	detach, ask := context.WithCancel(t.Context())
	tr.deps.Detach = detach
	tr.site.hook = func(verb control.Verb) {
		if verb == when {
			ask()
		}
	}
	r := tr.run(t)
	if when == control.VerbCommit {
		if r.ExitCode != 0 {
			t.Errorf("in the commit: exit %d: %v", r.ExitCode, r.Err)
		}
		return
	}
	if r.ExitCode != ExitControlLost || !strings.Contains(r.Err.Error(), "transferpy attach "+r.Transfer) || strings.Contains(tr.verbs(), "stop") {
		t.Errorf("exit %d after %s: %v", r.ExitCode, tr.verbs(), r.Err)
	}
	if state := tr.state(t, r.Transfer); state.Detached == nil || state.Ended || state.Outcome != nil {
		t.Errorf("the journal: %+v", state)
	}
	if list := tr.listed(t); len(list) != 0 {
		t.Errorf("it has not ended, and is listed: %+v", list)
	}
	tr.deps.Detach, tr.site.hook = nil, nil
	if r := tr.attach(t, r.Transfer); r.ExitCode != 0 {
		t.Errorf("attached: exit %d: %v", r.ExitCode, r.Err)
	}
	if list := tr.listed(t); len(list) != 1 || list[0].EndedBy != record.ByAttach || list[0].ExitCode != 0 {
		t.Errorf("listed: %+v", list)
	}
}

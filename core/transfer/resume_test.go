package transfer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"context"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

var broken = &sdk.Error{Kind: sdk.KindNoSpace, Message: "the disk is full", Hint: "make room"}

// failed runs a transfer to a and b with KeepPartial, which fails on b.
func failed(t *testing.T) (*trial, string) {
	t.Helper()
	tr := newTrial(t, "a", "b")
	tr.req.KeepPartial = true
	tr.site.hosts["b"].failAt[control.VerbStart] = broken
	r := tr.run(t)
	if r.ExitCode != 1 || !r.Kept {
		t.Fatalf("exit %d, kept %v: %v", r.ExitCode, r.Kept, r.Err)
	}
	delete(tr.site.hosts["b"].failAt, control.VerbStart)
	return tr, r.Transfer
}

// resume goes on with a transfer and forgets what went before.
func (tr *trial) resume(t *testing.T, id string) *Report {
	t.Helper()
	tr.events, tr.site.calls = nil, nil
	report, err := Resume(tr.ctx, id, Adjustments{}, tr.deps, func(e Event) { tr.events = append(tr.events, e) })
	if (err != nil) != (report.Err != nil) {
		t.Errorf("Resume's error is %v, the report's %v", err, report.Err)
	}
	if last := tr.events[len(tr.events)-1]; last.Type != EventDone || last.Report != report {
		t.Errorf("the last event is %+v", last)
	}
	return report
}

// told is every message of the last attempt.
func (tr *trial) told() string {
	var text string
	for _, e := range tr.events {
		text += e.Host + ": " + e.Message + "\n"
	}
	return text
}

func (tr *trial) state(t *testing.T, id string) journal.State {
	t.Helper()
	state, _, err := journal.Read(tr.deps.StateDir, id)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestResume: the target that failed goes on, the one that has its copy is not
// touched, and at the end nothing is left.
func TestResume(t *testing.T) {
	tr, id := failed(t)
	if s := tr.state(t, id); s.Ended || s.Kept == nil || !slices.Equal(s.Kept.Members, []string{"target-2"}) || !slices.Equal(s.Committed, []string{"target-1"}) {
		t.Fatalf("journal after the failure: %+v", s)
	}
	prepares := len(tr.site.hosts["a"].prepares)
	r := tr.resume(t, id)
	if r.ExitCode != 0 || r.Transfer != id || len(r.Targets) != 1 || r.Targets[0].Host != "b" || r.Kept {
		t.Errorf("report: %+v", r)
	}
	if got := tr.verbs(); got != "probe prepare start commit stop" {
		t.Errorf("calls: %s", got)
	}
	if len(tr.site.hosts["a"].prepares) != prepares {
		t.Error("the target that has its copy was touched")
	}
	b := tr.site.hosts["b"]
	if p := b.prepares[len(b.prepares)-1]; p.Resume != id || !p.Keep {
		t.Errorf("prepare: %+v", p)
	}
	if p := b.probes[len(b.probes)-1]; p.Resume != id {
		t.Errorf("probe: %+v", p)
	}
	if got := b.phases["target-2"]; got != control.PhaseCommitted {
		t.Errorf("target-2 is %s", got)
	}
	for _, want := range []string{"a:/srv/a has its copy", "b: goes on with what was kept", "src: nothing was kept there of what the source had read"} {
		if !strings.Contains(tr.told(), want) {
			t.Errorf("not told: %s\n%s", want, tr.told())
		}
	}
	s := tr.state(t, id)
	if !s.Ended || s.Resumes != 1 || s.Generation() != 2 || s.Outcome == nil || s.Outcome.ExitCode != 0 || len(s.Committed) != 2 {
		t.Errorf("journal: %+v", s)
	}
	if again := tr.resume(t, id); again.ExitCode != ExitRefused || !errors.Is(again.Err, sdk.ErrExists) || !strings.Contains(again.Err.Message, "nothing to resume") || tr.verbs() != "" {
		t.Errorf("resumed after its end: %v after %s", again.Err, tr.verbs())
	}
}

// TestResumeFails: whatever a resumed transfer fails of, it can be resumed
// again.
func TestResumeFails(t *testing.T) {
	tests := []struct {
		name    string
		spoil   func(*trial)
		mend    func(*trial)
		exit    int
		resumes int // that the journal counts when all is done
	}{
		{"in preflight", func(tr *trial) { tr.mode.found.Refusals = []*sdk.Error{broken} },
			func(tr *trial) { tr.mode.found.Refusals = nil }, 255, 1},
		{"unreachable", func(tr *trial) { tr.site.hosts["b"].down[control.VerbProbe] = -1 },
			func(tr *trial) { tr.site.hosts["b"].down[control.VerbProbe] = 0 }, 255, 1},
		{"in prepare", func(tr *trial) { tr.site.hosts["b"].failAt[control.VerbPrepare] = broken },
			func(tr *trial) { clear(tr.site.hosts["b"].failAt) }, 255, 2},
		{"in start", func(tr *trial) { tr.site.hosts["b"].failAt[control.VerbStart] = broken },
			func(tr *trial) { clear(tr.site.hosts["b"].failAt) }, 1, 2},
		{"an agent dies", func(tr *trial) { tr.site.hosts["b"].dies[control.VerbStart] = true },
			func(tr *trial) { clear(tr.site.hosts["b"].dies) }, 1, 2},
		{"the source dies", func(tr *trial) { tr.site.hosts["src"].dies[control.VerbStart] = true },
			func(tr *trial) { clear(tr.site.hosts["src"].dies) }, 1, 2},
		{"digests differ", func(tr *trial) { tr.site.hosts["b"].root = strings.Repeat("b", 64) },
			func(tr *trial) { tr.site.hosts["b"].root = tr.site.hosts["src"].root }, 3, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, id := failed(t)
				tt.spoil(tr)
				r := tr.resume(t, id)
				if refused := !strings.Contains(tr.verbs(), "prepare"); refused && strings.Contains(tr.told(), "end the agents") {
					t.Errorf("agents are ended that nobody made:\n%s", tr.told())
				}
				if r.ExitCode != tt.exit || !r.Kept {
					t.Errorf("exit %d, want %d; kept %v: %v", r.ExitCode, tt.exit, r.Kept, r.Err)
				}
				if s := tr.state(t, id); s.Ended || s.Kept == nil {
					t.Errorf("journal: %+v", s)
				}
				tt.mend(tr)
				if r = tr.resume(t, id); r.ExitCode != 0 || r.Kept {
					t.Errorf("resumed again: exit %d, kept %v: %v", r.ExitCode, r.Kept, r.Err)
				}
				if s := tr.state(t, id); !s.Ended || s.Resumes != tt.resumes {
					t.Errorf("journal: %+v", s)
				}
				for name, h := range tr.site.hosts {
					if h.prepared && !h.ended {
						t.Errorf("%s: an agent lives on", name)
					}
				}
			})
		})
	}
}

// TestResumeAfterTheControllerDied: agents that live are ended and keep what
// they have.
func TestResumeAfterTheControllerDied(t *testing.T) {
	tr := newTrial(t, "a", "b")
	tr.req.KeepPartial = true
	tr.site.hosts["b"].slow = 1000
	id := tr.crash(t)
	tr.site.hosts["a"].gone = true
	tr.site.hosts["b"].slow = 1
	r := tr.resume(t, id)
	if r.ExitCode != 0 || len(r.Targets) != 2 {
		t.Fatalf("exit %d: %v", r.ExitCode, r.Err)
	}
	if got := tr.verbs(); got != "status stop recover probe prepare start commit stop" {
		t.Errorf("calls: %s", got)
	}
	for name, h := range tr.site.hosts {
		if p := h.prepares[len(h.prepares)-1]; p.Resume != id {
			t.Errorf("%s: prepare: %+v", name, p)
		}
	}
	// A host out of reach may hold living agents: nothing is begun.
	id = tr.crash(t)
	tr.site.hosts["b"].down[control.VerbStop] = -1
	synctest.Test(t, func(t *testing.T) {
		tr.ctx = t.Context()
		if r := tr.resume(t, id); r.ExitCode != ExitRefused || !errors.Is(r.Err, sdk.ErrUnreachable) || strings.Contains(tr.verbs(), "prepare") {
			t.Errorf("exit %d after %s: %v", r.ExitCode, tr.verbs(), r.Err)
		}
	})
	tr.ctx = t.Context()
	tr.site.hosts["b"].down[control.VerbStop] = 0
	if r := tr.resume(t, id); r.ExitCode != 0 {
		t.Errorf("when it is back: exit %d: %v", r.ExitCode, r.Err)
	}
}

// TestResumeAfterDeathInCommit: what the agents still tell counts; where none
// is left to tell, nothing is guessed.
func TestResumeAfterDeathInCommit(t *testing.T) {
	die := func(told bool) (*trial, string) {
		tr := newTrial(t, "a", "b")
		tr.req.KeepPartial = true
		id := tr.crash(t)
		j, err := journal.Takeover(tr.deps.StateDir, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Add(journal.Record{Phase: "commit"}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		a := tr.site.hosts["a"]
		a.phases["target-1"] = control.PhaseCommitted
		a.ended = !told
		return tr, id
	}
	tr, id := die(true)
	if r := tr.resume(t, id); r.ExitCode != 0 || len(r.Targets) != 1 || r.Targets[0].Host != "b" {
		t.Errorf("told: exit %d, %+v: %v", r.ExitCode, r.Targets, r.Err)
	}
	tr, id = die(false)
	if r := tr.resume(t, id); r.ExitCode != ExitRefused || !strings.Contains(r.Err.Message, "a:/srv/a") || strings.Contains(r.Err.Message, "b:/srv/b") {
		t.Errorf("not told: exit %d: %v", r.ExitCode, r.Err)
	}
}

// TestResumeOfALostCommit: the host fell silent as it was to publish, and its
// agent has gone without a word since.
func TestResumeOfALostCommit(t *testing.T) {
	tr := newTrial(t, "a", "b")
	tr.req.KeepPartial = true
	b := tr.site.hosts["b"]
	b.down[control.VerbCommit], b.down[control.VerbStop] = -1, -1
	var id string
	synctest.Test(t, func(t *testing.T) {
		tr.ctx = t.Context()
		r := tr.run(t)
		if id = r.Transfer; r.ExitCode != ExitControlLost || r.Kept {
			t.Errorf("exit %d, kept %v: %v", r.ExitCode, r.Kept, r.Err)
		}
	})
	tr.ctx = t.Context()
	clear(b.down)
	b.ended = true
	r := tr.resume(t, id)
	if r.ExitCode != ExitRefused || !strings.Contains(r.Err.Message, "b:/srv/b") || strings.Contains(r.Err.Message, "a:/srv/a") || strings.Contains(tr.verbs(), "probe") {
		t.Errorf("exit %d after %s: %v", r.ExitCode, tr.verbs(), r.Err)
	}
}

// TestInterruptKeeps: Ctrl-C with --keep-partial keeps, and what was kept for
// nothing goes at once.
func TestInterruptKeeps(t *testing.T) {
	for _, forgetful := range []bool{false, true} {
		tr := newTrial(t, "a")
		tr.req.KeepPartial = true
		tr.site.hosts["a"].slow, tr.site.hosts["a"].forgetful = 1000, forgetful
		ctx, cancel := context.WithCancelCause(t.Context())
		tr.ctx = ctx
		tr.site.hook = func(verb control.Verb) {
			if verb == control.VerbStatus {
				cancel(ErrInterrupted)
			}
		}
		r := tr.run(t)
		s := tr.state(t, r.Transfer)
		if r.ExitCode != 130 || r.Kept == forgetful || s.Ended != forgetful || (s.Kept != nil) == forgetful {
			t.Errorf("forgetful %v: exit %d, kept %v; journal %+v", forgetful, r.ExitCode, r.Kept, s)
		}
		tr.ctx, tr.site.hook, tr.site.hosts["a"].slow = t.Context(), nil, 0
		want := map[bool]int{false: 0, true: ExitRefused}[forgetful]
		if r := tr.resume(t, r.Transfer); r.ExitCode != want {
			t.Errorf("forgetful %v: resumed: exit %d: %v", forgetful, r.ExitCode, r.Err)
		}
	}
}

func TestNotResumable(t *testing.T) {
	tr := newTrial(t, "a")
	tr.site.hosts["a"].failAt[control.VerbStart] = broken
	ended := tr.run(t).Transfer
	clear(tr.site.hosts["a"].failAt)
	left := tr.crash(t)
	tests := []struct {
		name, id, message, hint string
		kind                    error
	}{
		{"without --keep-partial", ended, "ran without --keep-partial", "run it again", sdk.ErrNotFound},
		{"left behind without it", left, "ran without --keep-partial", "transferpy cleanup " + left, sdk.ErrNotFound},
		{"unknown", "20261123-153042-k3mq7xwa", "no such file", "transferpy list", sdk.ErrNotFound},
		{"no id", "../x", "not the id of a transfer", "transferpy list", sdk.ErrConfig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tr.resume(t, tt.id)
			if r.ExitCode != ExitRefused || !errors.Is(r.Err, tt.kind) || !strings.Contains(r.Err.Message, tt.message) || !strings.Contains(r.Err.Hint, tt.hint) || tr.verbs() != "" {
				t.Errorf("exit %d after %q: %v", r.ExitCode, tr.verbs(), r.Err)
			}
		})
	}
}

// TestCleanupOfWhatWasKept: cleanup without an ID leaves it and says so; with
// its ID removes it.
func TestCleanupOfWhatWasKept(t *testing.T) {
	tr, id := failed(t)
	events := func(e Event) { tr.events = append(tr.events, e) }
	calls := len(tr.site.calls)
	tr.events = nil
	if err := CleanupAll(t.Context(), tr.deps, events); err != nil || len(tr.site.calls) != calls {
		t.Errorf("%v after %v", err, tr.site.calls[calls:])
	}
	if !strings.Contains(tr.told(), "transferpy resume "+id) || !strings.Contains(tr.told(), "transferpy cleanup "+id) {
		t.Errorf("told: %s", tr.told())
	}
	if err := Cleanup(t.Context(), id, tr.deps, events); err != nil {
		t.Fatal(err)
	}
	for name, h := range tr.site.hosts {
		if len(h.kept) > 0 {
			t.Errorf("%s still keeps %v", name, h.kept)
		}
	}
	if r := tr.resume(t, id); r.ExitCode != ExitRefused || !strings.Contains(r.Err.Message, "was cleaned up") {
		t.Errorf("resumed after cleanup: %v", r.Err)
	}
}

// TestCleanupAllKeeps: what a dead process has left of a transfer that is to
// be kept is undone but for that.
func TestCleanupAllKeeps(t *testing.T) {
	tr := newTrial(t, "a")
	tr.req.KeepPartial = true
	id := tr.crash(t)
	tr.site.hosts["a"].gone, tr.site.hosts["src"].gone = true, true
	if err := CleanupAll(t.Context(), tr.deps, nil); err != nil {
		t.Fatal(err)
	}
	if s := tr.state(t, id); s.Ended || s.Kept == nil || len(tr.site.hosts["a"].kept) == 0 {
		t.Errorf("journal: %+v, kept %v", s, tr.site.hosts["a"].kept)
	}
	if r := tr.resume(t, id); r.ExitCode != 0 {
		t.Errorf("exit %d: %v", r.ExitCode, r.Err)
	}
}

// TestHostsTellOfTheirOwn: a host cannot say that another's target has its
// copy.
func TestHostsTellOfTheirOwn(t *testing.T) {
	tr := newTrial(t, "a", "b")
	tr.req.KeepPartial = true
	id := tr.crash(t)
	tr.site.hosts["a"].phases["target-2"] = control.PhaseCommitted
	if r := tr.resume(t, id); r.ExitCode != 0 || len(r.Targets) != 2 {
		t.Errorf("exit %d, %d targets: %v", r.ExitCode, len(r.Targets), r.Err)
	}
}

func TestResumeWithAnotherRate(t *testing.T) {
	tr, id := failed(t)
	rate, nice := int64(12345), 3
	r := newRun(id, tr.deps, nil)
	r.resumed, r.adjust = true, Adjustments{LimitRate: &rate, LimitRead: &rate, Nice: &nice}
	if err := r.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if s := r.settings(); s.LimitRate != rate || s.LimitRead != rate || r.req.Nice != nice {
		t.Errorf("nice %d, settings: %+v", r.req.Nice, s)
	}
	if stored, err := Stored(tr.deps.StateDir, id); err != nil || stored.LimitRate != 0 || stored.LimitRead != 0 || stored.Nice != 0 {
		t.Errorf("stored: %+v, %v", stored, err)
	}
}

// TestResumeRemovesAHalfManifest: a killed process leaves one.
func TestResumeRemovesAHalfManifest(t *testing.T) {
	for _, end := range []string{"resume", "cleanup"} {
		tr := newTrial(t, "a")
		tr.req.KeepPartial, tr.req.Manifest = true, t.TempDir()+"/m"
		id := tr.crash(t)
		half := tempName(tr.req.Manifest, id)
		if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if end == "cleanup" {
			if err := Cleanup(t.Context(), id, tr.deps, nil); err != nil {
				t.Error(err)
			}
		} else if r := tr.resume(t, id); r.Err != nil && errors.Is(r.Err, sdk.ErrExists) {
			t.Errorf("%v", r.Err)
		}
		if _, err := os.Stat(half); !os.IsNotExist(err) {
			t.Errorf("%s: %v", end, err)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "just now", 90 * time.Second: "1 minute ago", 59 * time.Minute: "59 minutes ago",
		25 * time.Hour: "1 day ago", 5 * time.Hour: "5 hours ago", 72 * time.Hour: "3 days ago",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestShow(t *testing.T) {
	tr, id := failed(t)
	h, err := Show(tr.deps.StateDir, id)
	if err != nil {
		t.Fatal(err)
	}
	if h.Held || h.Report == nil || h.Report.ExitCode != 1 || !h.Report.Kept || !h.Published(0) || h.Published(1) || fmt.Sprint(h.Request.Targets) != fmt.Sprint(tr.req.Targets) {
		t.Errorf("%+v", h)
	}
}

package plugintest

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// ModeCase is one transfer for the mode suite. Its hosts are all played by
// this machine, whatever their names are.
type ModeCase struct {
	Config   map[string][]string
	Transfer sdk.Transfer
	// Refused are transfers that Inspect has to refuse.
	Refused []sdk.Transfer
	// Check is called when the data should lie at target i (committed) or
	// nothing of it should be left (not committed), where both stages are
	// commands: only then does the suite move data. nil: not called.
	Check func(t *testing.T, target int, committed bool)
}

// Mode is the conformance suite for modes. It plays the core: it answers the
// questions, inspects, plans, begins, moves the data where both stages are
// commands, once ending with the abort and once with the commit, undoes and
// finishes; every call is made twice.
func Mode(t *testing.T, p sdk.Mode, c ModeCase) {
	m := prepare(t, p, sdk.KindMode, c.Config).(sdk.Mode)
	s := &modeSuite{ModeCase: c, m: m}
	for _, r := range c.Refused {
		t.Run("a transfer that is refused", func(t *testing.T) {
			found := s.inspect(t, r)
			if len(found.Refusals) == 0 {
				t.Fatalf("Inspect refuses nothing of %+v", r)
			}
			for _, e := range found.Refusals {
				if e.Host == "" || e.Message == "" || e.Hint == "" {
					t.Errorf("a refusal has to name host, what is wrong and what to do: %+v", e)
				}
			}
		})
	}
	var plan sdk.Plan
	if !t.Run("Questions, Inspect, Plan", func(t *testing.T) { plan = s.plan(t) }) {
		return
	}
	t.Run("Begin, abort, undo", func(t *testing.T) { s.run(t, plan, false) })
	t.Run("Begin, commit, undo, Finish", func(t *testing.T) { s.run(t, plan, true) })
}

type modeSuite struct {
	ModeCase
	m sdk.Mode
}

// hostsOf are the hosts of a transfer.
func hostsOf(t sdk.Transfer) []string {
	hosts := []string{t.Source.Host}
	for _, e := range t.Targets {
		hosts = append(hosts, e.Host)
	}
	return hosts
}

// twice makes a call two times and wants the same answer.
func twice[T any](t *testing.T, name string, call func(ctx context.Context) (T, error)) T {
	t.Helper()
	var answers [2]T
	for i := range answers {
		ctx, cancel := within(t, time.Minute)
		var err error
		answers[i], err = call(ctx)
		cancel()
		if err != nil {
			if errors.Is(err, sdk.ErrPermission) {
				t.Log("Inspect, Plan and Detect must change nothing: Host.Change is refused in them")
			}
			t.Fatalf("%s: %s", name, full(err))
		}
	}
	if !reflect.DeepEqual(answers[0], answers[1]) {
		t.Errorf("%s answers differently the second time:\n%+v\n%+v", name, answers[0], answers[1])
	}
	return answers[1]
}

// inspect asks the questions, answers them and inspects.
func (s *modeSuite) inspect(t *testing.T, tr sdk.Transfer) sdk.Findings {
	t.Helper()
	questions := twice(t, "Questions", func(ctx context.Context) ([]sdk.HostQuestions, error) { return s.m.Questions(ctx, tr) })
	checkQuestions(t, tr, questions)
	answers := Answer(t.Context(), questions)
	return twice(t, "Inspect", func(ctx context.Context) (sdk.Findings, error) {
		return s.m.Inspect(ctx, tr, answers, NewHost(hostsOf(tr)...))
	})
}

func (s *modeSuite) plan(t *testing.T) sdk.Plan {
	found := s.inspect(t, s.Transfer)
	for _, e := range found.Refusals {
		t.Errorf("Inspect refuses: %v", e)
	}
	if found.Bytes < -1 || found.Entries < -1 {
		t.Errorf("Inspect found %d bytes and %d entries; -1 is unknown", found.Bytes, found.Entries)
	}
	plan := twice(t, "Plan", func(ctx context.Context) (sdk.Plan, error) { return s.m.Plan(ctx, s.Transfer, found) })
	checkPlan(t, s.Transfer, plan)
	return plan
}

// begin calls Begin, twice: the second adds no undo.
func (s *modeSuite) begin(t *testing.T, host *Host) {
	t.Helper()
	var undos []Deferred
	for i := range 2 {
		ctx, cancel := within(t, time.Minute)
		err := s.m.Begin(ctx, s.Transfer, host)
		cancel()
		if err != nil {
			t.Fatal("Begin: " + full(err))
		}
		if i == 0 {
			undos = host.Deferred()
		}
	}
	if again := host.Deferred(); !reflect.DeepEqual(undos, again) {
		t.Errorf("a second Begin defers other undos:\n%+v\n%+v", undos, again)
	}
}

// run plays one transfer from Begin to its end. What is due at source-done is
// undone before anything is committed, as the core does.
func (s *modeSuite) run(t *testing.T, plan sdk.Plan, commit bool) {
	host := NewHost(hostsOf(s.Transfer)...)
	if plan.Begins {
		s.begin(t, host)
	}
	moves := plan.Read.Command != nil && plan.Write.Command != nil
	var data []byte
	if moves {
		data = read(t, *plan.Read.Command)
	}
	host.Undo(t, sdk.WhenSourceDone)
	outcome := sdk.Outcome{}
	for i, target := range s.Transfer.Targets {
		o := sdk.TargetOutcome{Endpoint: target, Committed: commit}
		if moves {
			o.Bytes = move(t, plan, i, data, commit)
			if s.Check != nil {
				s.Check(t, i, commit)
			}
		}
		outcome.Targets = append(outcome.Targets, o)
	}
	host.Undo(t, sdk.WhenEnd)
	if !plan.Finishes {
		return
	}
	for range 2 {
		ctx, cancel := within(t, time.Minute)
		err := s.m.Finish(ctx, s.Transfer, outcome, host)
		cancel()
		if err != nil {
			t.Error("Finish: " + full(err))
		}
	}
	if left := host.Deferred(); len(left) > 0 {
		t.Errorf("Finish is for checks, but it deferred %+v", left)
	}
}

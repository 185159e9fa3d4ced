package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// echo carries out parts by printing each command with its host; what it was
// given is noted, a line for each broadcast.
type echo struct {
	mu    sync.Mutex
	calls []string
	cut   bool // output of more than one command in a part is cut
}

func (e *echo) do(_ context.Context, parts []part) ([]sdk.HostResults, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	results := make([]sdk.HostResults, len(parts))
	for i, p := range parts {
		results[i].Host = p.host
		line := p.host
		for _, c := range p.do.Commands {
			line += " " + argvText(c.Argv)
			results[i].Results = append(results[i].Results, sdk.Result{Stdout: []byte(p.host + " " + argvText(c.Argv)), Truncated: e.cut && len(p.do.Commands) > 1})
		}
		if p.do.Undo != nil {
			line += " (" + p.do.Undo.ID + ")"
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	e.calls = append(e.calls, strings.Join(lines, ", "))
	return results, nil
}

// share runs acts together over e.
func (e *echo) share(ctx context.Context, m *memory, parties ...party) []error {
	s := &sharing{ctx: ctx, do: e.do, working: len(parties)}
	errs := make([]error, len(parties))
	var wg sync.WaitGroup
	for i, p := range parties {
		wg.Go(func() {
			defer s.leave()
			errs[i] = p.act(ctx, &sharedHost{sharing: s, rights: p.rights, memory: m})
		})
	}
	wg.Wait()
	return errs
}

// asks is a party that runs commands, a list for each host, and wants to see
// exactly what it asked for.
func asks(t *testing.T, rights rights, calls ...map[string][]string) party {
	return party{rights: rights, act: func(ctx context.Context, host sdk.Host) error {
		for _, call := range calls {
			var work []sdk.HostCommands
			for _, name := range slices.Sorted(func(yield func(string) bool) {
				for h := range call {
					if !yield(h) {
						return
					}
				}
			}) {
				w := sdk.HostCommands{Host: name}
				for _, c := range call[name] {
					w.Commands = append(w.Commands, sdk.Command{Argv: []sdk.Raw{sdk.Raw(c)}})
				}
				work = append(work, w)
			}
			results, err := host.Run(ctx, work)
			if err != nil {
				return err
			}
			for i, w := range work {
				var want, got []string
				for _, c := range w.Commands {
					want = append(want, w.Host+" "+argvText(c.Argv))
				}
				for _, r := range results[i].Results {
					got = append(got, string(r.Stdout))
				}
				if results[i].Host != w.Host || !slices.Equal(got, want) {
					t.Errorf("%s got %q, want %q", results[i].Host, got, want)
				}
			}
		}
		return nil
	}}
}

// TestSharing: calls made at the same time are one broadcast, in which equal
// commands run once, and each party sees what it asked for.
func TestSharing(t *testing.T) {
	for _, cut := range []bool{false, true} {
		e := &echo{cut: cut}
		errs := e.share(t.Context(), newMemory(),
			asks(t, looks, map[string][]string{"a": {"list", "version"}, "b": {"list"}}),
			asks(t, looks, map[string][]string{"a": {"version"}, "c": {"list"}}, map[string][]string{"a": {"more"}}),
			asks(t, looks),
			asks(t, looks, map[string][]string{"b": {}}),
		)
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		first := strings.Fields(strings.NewReplacer(",", "").Replace(e.calls[0]))
		slices.Sort(first)
		if !cut && (len(e.calls) != 2 || fmt.Sprint(first) != "[a b c list list list version]" || e.calls[1] != "a more") {
			t.Errorf("calls: %q", e.calls)
		}
		if cut && len(e.calls) < 3 {
			t.Errorf("what was cut was not asked for again: %q", e.calls)
		}
	}
}

// TestSharedChanges: a change keeps its own undo, whoever else changes the same
// host, and who may only look changes nothing.
func TestSharedChanges(t *testing.T) {
	change := func(id string) func(context.Context, sdk.Host) error {
		return func(ctx context.Context, host sdk.Host) error {
			results, err := host.Change(ctx, []sdk.HostChange{{Host: "a", Undo: sdk.Undo{ID: id}, Commands: []sdk.Command{{Argv: []sdk.Raw{"do"}}}}})
			if err == nil && (len(results) != 1 || len(results[0].Results) != 1) {
				t.Errorf("%s: %+v", id, results)
			}
			return err
		}
	}
	e := &echo{}
	errs := e.share(t.Context(), newMemory(), party{act: change("one")}, party{act: change("two")}, party{rights: sweeps, act: change("swept")}, party{rights: looks, act: change("never")})
	if errs[0] != nil || errs[1] != nil || errs[2] != nil || !errors.Is(errs[3], sdk.ErrPermission) {
		t.Errorf("%v", errs)
	}
	if len(e.calls) != 1 || e.calls[0] != "a do, a do (one), a do (two)" {
		t.Errorf("calls: %q", e.calls)
	}
}

// TestMemory: what was just seen serves who changes, once, and not for long.
func TestMemory(t *testing.T) {
	work := []sdk.HostCommands{{Host: "a", Commands: []sdk.Command{{Argv: []sdk.Raw{"list"}}}}}
	results := []sdk.HostResults{{Host: "a", Results: []sdk.Result{{Stdout: []byte("x")}}}}
	m := newMemory()
	m.keep(work, results)
	if got := m.recall([]sdk.HostCommands{work[0], {Host: "b", Commands: work[0].Commands}}); got != nil {
		t.Errorf("half of it is known: %+v", got)
	}
	if got := m.recall(work); len(got) != 1 || string(got[0].Results[0].Stdout) != "x" {
		t.Errorf("%+v", got)
	}
	if got := m.recall(work); got != nil {
		t.Errorf("a second time: %+v", got)
	}
	m.keep(work, results)
	for key, r := range m.by {
		r.at = time.Now().Add(-2 * fresh)
		m.by[key] = r
	}
	if got := m.recall(work); got != nil {
		t.Errorf("too old: %+v", got)
	}
	m.keep(work, []sdk.HostResults{{Host: "a", Err: sdk.ErrTimeout}})
	m.keep(work, []sdk.HostResults{{Host: "a", Results: []sdk.Result{{Truncated: true}}}})
	if got := m.recall(work); got != nil && len(m.by) > 1 {
		t.Errorf("what failed: %+v", got)
	}
}

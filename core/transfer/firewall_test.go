package transfer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// filtered is a trial in which auto may choose from two firewalls, and some
// targets are filtered.
func filtered(t *testing.T, by map[string]string, targets ...string) *trial {
	tr := newTrial(t, targets...)
	tr.deps.Firewalls = []string{"alpha", "beta"}
	for host, name := range by {
		tr.site.hosts[host].filtered = name
	}
	return tr
}

// said are the messages of one kind of events.
func (tr *trial) said(kind EventType) string {
	var lines []string
	for _, e := range tr.events {
		if e.Type == kind {
			lines = append(lines, e.Host+": "+e.Message)
		}
	}
	return strings.Join(lines, "\n")
}

// TestAuto: what is closed is opened by what filters there, for the source and
// the two nearest predecessors, at the cost of two calls; what is open costs
// none.
func TestAuto(t *testing.T) {
	for _, c := range []struct {
		name  string
		by    map[string]string
		calls string
	}{
		{"open", nil, "probe prepare start commit"},
		{"one", map[string]string{"a": "beta"}, "probe prepare start do do status commit"},
		{"several", map[string]string{"a": "beta", "b": "alpha", "c": "beta"}, "probe prepare start do do status commit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := filtered(t, c.by, "a", "b", "c")
			r := tr.run(t)
			if r.ExitCode != 0 || tr.verbs() != c.calls {
				t.Errorf("exit %d, calls %s, want %s: %v", r.ExitCode, tr.verbs(), c.calls, r.Err)
			}
			for _, host := range []string{"a", "b", "c"} {
				h := tr.site.hosts[host]
				if want := c.by[host]; want == "" && len(h.opened) > 0 || want != "" && (h.opened[want] != 1 || len(h.opened) != 1) {
					t.Errorf("%s was opened by %v, want %q", host, h.opened, want)
				}
				if c.by[host] != "" && !slices.Contains(h.commands, "open "+c.by[host]+" 4400 [192.0.2.1 2001:db8::1] 130") {
					t.Errorf("%s ran %q", host, h.commands)
				}
			}
			said := tr.said(EventFirewall)
			for host, name := range c.by {
				for _, want := range []string{
					host + ": port 4400 is not open to src (192.0.2.1 to 192.0.2.2: timeout)",
					host + ": firewall " + name + " finds " + name + ": drops (read by detect)",
					host + ": firewall " + name + " has opened port 4400 to 192.0.2.1 and 2001:db8::1, until",
				} {
					if !strings.Contains(said, want) {
						t.Errorf("%q is not said in\n%s", want, said)
					}
				}
			}
			if c.by == nil && said != "" {
				t.Errorf("said\n%s", said)
			}
		})
	}
}

// TestAutoOpensBoth: where rulesets of two kinds drop, both firewalls open, at
// the cost of one.
func TestAutoOpensBoth(t *testing.T) {
	tr := filtered(t, map[string]string{"a": "alpha+beta"}, "a")
	r := tr.run(t)
	if h := tr.site.hosts["a"]; r.ExitCode != 0 || tr.verbs() != "probe prepare start do do status commit" || h.opened["alpha"] != 1 || h.opened["beta"] != 1 {
		t.Errorf("exit %d, calls %s, opened by %v: %v", r.ExitCode, tr.verbs(), h.opened, r.Err)
	}
}

// TestNamed: the firewall of the request opens before the start, without any
// choice; single hosts may have another one.
func TestNamed(t *testing.T) {
	tr := filtered(t, map[string]string{"a": "gamma"}, "a", "b", "c")
	tr.req.Firewall, tr.req.HostFirewalls = "gamma", map[string]string{"b": "none", "c": "auto"}
	r := tr.run(t)
	if r.ExitCode != 0 || tr.verbs() != "probe prepare do do start commit" {
		t.Errorf("exit %d, calls %s: %v", r.ExitCode, tr.verbs(), r.Err)
	}
	for host, want := range map[string]int{"a": 1, "b": 0, "c": 0} {
		if got := tr.site.hosts[host].opened["gamma"]; got != want {
			t.Errorf("%s was opened %d times, want %d", host, got, want)
		}
	}
	var rules int
	for _, e := range tr.events {
		if e.Rule != nil {
			rules++
			if e.Rule.Firewall != "gamma" || e.Rule.Port != 4400 || fmt.Sprint(e.Rule.Sources) != "[192.0.2.1 2001:db8::1]" || time.Until(e.Rule.Expiry) < 2*time.Hour {
				t.Errorf("%+v", e.Rule)
			}
		}
	}
	if rules != 1 {
		t.Errorf("%d rules were told", rules)
	}
}

// TestStaysClosed: what does not help is explained, and refuses the transfer.
func TestStaysClosed(t *testing.T) {
	for _, c := range []struct {
		name, firewall, by string
		says, hint         []string
	}{
		{"nothing found", "auto", "upstream", []string{"port 4400 stays closed to src (192.0.2.1 to 192.0.2.2: timeout)", "no firewall was found there that could be opened",
			"firewall alpha sees on a: alpha: nothing (read by detect)", "firewall beta sees on a:", "what may drop at input of a: upstream: drops", "something between the hosts"}, nil},
		{"the wrong one", "alpha", "beta", []string{"firewall alpha has opened it, which did not help, and is undone (alpha accepts [192.0.2.1 2001:db8::1] to 4400)",
			"what may drop at input of a: beta: drops"}, []string{"--firewall beta, or auto"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := filtered(t, map[string]string{"a": c.by}, "a", "b")
				tr.req.Firewall, tr.req.LinkTimeout = c.firewall, 5*time.Second
				r := tr.run(t)
				if r.ExitCode != ExitRefused || !errors.Is(r.Err, sdk.ErrUnreachable) || r.Err.Host != "a" {
					t.Fatalf("exit %d: %v", r.ExitCode, r.Err)
				}
				for _, target := range r.Targets {
					if target.ExitCode != ExitRefused {
						t.Errorf("%s: exit %d", target.Host, target.ExitCode)
					}
				}
				for _, want := range c.says {
					if !strings.Contains(r.Err.Message, want) {
						t.Errorf("%q is not in %q", want, r.Err.Message)
					}
				}
				for _, want := range c.hint {
					if !strings.Contains(r.Err.Hint, want) {
						t.Errorf("%q is not in %q", want, r.Err.Hint)
					}
				}
				if c.firewall == "alpha" && !strings.Contains(tr.said(EventUndo), "undone: close the hole") {
					t.Errorf("said %q", tr.said(EventUndo))
				}
			})
		})
	}
}

// TestReloaded: a ruleset that is loaded anew in the middle is noticed when a
// link has to be dialled, and the rule is opened again; a port whose agent has
// gone is not.
func TestReloaded(t *testing.T) {
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			tr := filtered(t, map[string]string{"a": "beta"}, "a")
			h, src := tr.site.hosts["a"], tr.site.hosts["src"]
			src.slow, h.slow = 20, 20
			asked := 0
			tr.site.hook = func(verb control.Verb) {
				tr.site.mu.Lock()
				defer tr.site.mu.Unlock()
				if verb != control.VerbStatus {
					return
				}
				for _, host := range []*fakeHost{src, h} {
					for name, p := range host.phases {
						if p == control.PhaseLinking && h.opened["beta"] > 0 {
							host.phases[name] = control.PhaseMoving
						}
					}
				}
				if asked++; asked == 8 {
					delete(h.opened, "beta")
					h.gone = gone
				}
			}
			r := tr.run(t)
			again := strings.Contains(tr.said(EventFirewall), "has opened again")
			if again == gone || (r.ExitCode == 0) == gone {
				t.Errorf("gone %v: exit %d, %v\n%s", gone, r.ExitCode, r.Err, tr.said(EventFirewall))
			}
		})
	}
}

// TestRenewal: the rules of a long transfer are renewed when half of their time
// has passed.
func TestRenewal(t *testing.T) {
	t.Setenv("TRANSFERPY_TEST_EXPIRY", "10m")
	synctest.Test(t, func(t *testing.T) {
		tr := filtered(t, map[string]string{"a": "beta"}, "a")
		tr.site.traits.PollEvery = 10 * time.Second
		tr.site.hosts["a"].slow = 100 // polls
		r := tr.run(t)
		if n := tr.site.hosts["a"].opened["beta"]; r.ExitCode != 0 || n < 3 || n > 5 {
			t.Errorf("exit %d, opened %d times: %v\n%s", r.ExitCode, n, r.Err, tr.said(EventFirewall))
		}
	})
}

// TestOpenFails: a firewall that cannot open refuses the transfer before
// anything flows.
func TestOpenFails(t *testing.T) {
	for _, firewall := range []string{"auto", "beta"} {
		synctest.Test(t, func(t *testing.T) {
			tr := filtered(t, map[string]string{"a": "beta"}, "a")
			tr.req.Firewall = firewall
			tr.site.traits.PollEvery, tr.site.hosts["a"].down[control.VerbDo] = time.Second, -1
			r := tr.run(t)
			if r.ExitCode != ExitRefused || tr.site.hosts["a"].opened["beta"] != 0 {
				t.Errorf("%s: exit %d: %v", firewall, r.ExitCode, r.Err)
			}
		})
	}
}

// TestExpiryByTheHostsClock: a rule expires by the clock of the host that it is
// on.
func TestExpiryByTheHostsClock(t *testing.T) {
	tr := filtered(t, map[string]string{"a": "beta", "b": "beta"}, "a", "b")
	tr.site.hosts["a"].clock, tr.site.hosts["b"].clock = 3*time.Hour, -time.Hour
	tr.req.ControlLostFor = 5 * time.Hour
	if r := tr.run(t); r.ExitCode != 0 {
		t.Fatal(r.Err)
	}
	for host, want := range map[string]int{"a": 610 + 180, "b": 610 - 60} { // minutes
		h := tr.site.hosts[host]
		if !slices.ContainsFunc(h.commands, func(c string) bool { return strings.HasSuffix(c, fmt.Sprintf("] %d", want)) }) {
			t.Errorf("%s: %q, want the expiry in %d minutes", host, h.commands, want)
		}
	}
}

// TestForesee: a dry run tells what would be opened, and by whom, and opens
// nothing.
func TestForesee(t *testing.T) {
	tr := filtered(t, map[string]string{"a": "beta", "b": "upstream"}, "a", "b")
	tr.req.DryRun = true
	r := tr.run(t)
	if r.ExitCode != 0 || tr.verbs() != "probe do" {
		t.Fatalf("exit %d, calls %s: %v", r.ExitCode, tr.verbs(), r.Err)
	}
	var lines []string
	for _, e := range tr.events {
		if e.Plan != nil {
			for _, h := range e.Plan.Hosts {
				for _, line := range h.Lines {
					lines = append(lines, h.Host+": "+line)
				}
			}
		}
	}
	plan := strings.Join(lines, "\n")
	for _, want := range []string{
		"a: firewall auto: only if the port is closed", "a: firewall beta sees beta: drops",
		"a: firewall beta would put in front of it: accept tcp from 192.0.2.1, 2001:db8::1 to the port, with the comment transferpy:" + r.Transfer + ":",
		"a: firewall alpha would change nothing", "b: firewall beta would change nothing", "b: what may drop beside it, at input: upstream: drops",
	} {
		if !strings.Contains(plan, want) {
			t.Errorf("%q is not in\n%s", want, plan)
		}
	}
	for name, h := range tr.site.hosts {
		if h.prepared || len(h.opened) > 0 || strings.Contains(fmt.Sprint(h.commands), "sweep") {
			t.Errorf("%s was changed: %q", name, h.commands)
		}
	}
}

// TestStaysClosedInTheMiddle: what no firewall can open any more is said once,
// and what is there goes on being renewed; the transfer waits for its links.
func TestStaysClosedInTheMiddle(t *testing.T) {
	t.Setenv("TRANSFERPY_TEST_EXPIRY", "4m")
	synctest.Test(t, func(t *testing.T) {
		tr := filtered(t, map[string]string{"a": "beta"}, "a")
		tr.site.traits.PollEvery = time.Second
		h, src := tr.site.hosts["a"], tr.site.hosts["src"]
		src.slow, h.slow = 20, 20
		began := time.Now()
		opened := 0
		tr.site.hook = func(verb control.Verb) {
			tr.site.mu.Lock()
			defer tr.site.mu.Unlock()
			for _, host := range []*fakeHost{src, h} {
				for name, p := range host.phases {
					if p == control.PhaseLinking && h.opened["beta"] > 0 {
						host.phases[name] = control.PhaseMoving
					}
				}
			}
			switch past := time.Since(began); {
			case past > 3*time.Minute:
				h.filtered, opened = "", h.opened["beta"]
			case past > 10*time.Second:
				h.filtered = "upstream"
			}
		}
		r := tr.run(t)
		said := tr.said(EventWarning)
		if r.ExitCode != 0 || strings.Count(said, "stays closed") != 1 || strings.Count(tr.said(EventFirewall), "is not open to src") != 2 || opened < 4 {
			t.Errorf("exit %d, opened %d times: %v\n%s\n%s", r.ExitCode, opened, r.Err, said, tr.said(EventFirewall))
		}
	})
}

package plugintest

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// FirewallCase is what the firewall suite needs to know. Its hosts are all
// played by this machine: a plugin that changes real rules is to be tested in
// network namespaces.
type FirewallCase struct {
	Config map[string][]string
	Holes  []sdk.Hole
	// Via is as in Host.
	Via func(host string, cmd sdk.Command) sdk.Command
	// Check is called when the holes should be open, and when they should be
	// closed again. nil: not called.
	Check func(t *testing.T, open bool)
	// State prints the hosts' rules, without what changes by itself, such as
	// packet counters. The suite compares what it prints: Detect changes
	// nothing, to open again changes nothing, Close and the undo leave nothing
	// behind. nil: not compared.
	State func(t *testing.T) string
}

// Firewall is the conformance suite for firewalls; every call is made twice.
func Firewall(t *testing.T, p sdk.Firewall, c FirewallCase) {
	f := prepare(t, p, sdk.KindFirewall, c.Config).(sdk.Firewall)
	s := &firewallSuite{FirewallCase: c, f: f}
	for _, h := range c.Holes {
		if !slices.Contains(s.hosts, h.Host) {
			s.hosts = append(s.hosts, h.Host)
		}
	}
	t.Run("Detect", s.detect)
	t.Run("Open, Close", func(t *testing.T) { s.openClose(t, true) })
	t.Run("Open, undo", func(t *testing.T) { s.openClose(t, false) })
	t.Run("Renew", s.renew)
	t.Run("Two transfers", s.two)
	t.Run("Sweep", s.sweep)
	t.Run("Refusals", s.refusals)
}

// The suite's transfers.
const (
	firewallID = "plugintest-1"
	otherID    = "plugintest-2"
)

type firewallSuite struct {
	FirewallCase
	f     sdk.Firewall
	hosts []string
}

// host makes a Host for one transfer.
func (s *firewallSuite) host() *Host {
	h := NewHost(s.hosts...)
	h.Via = s.Via
	return h
}

func (s *firewallSuite) check(t *testing.T, open bool) {
	t.Helper()
	if s.Check != nil {
		s.Check(t, open)
	}
}

func (s *firewallSuite) state(t *testing.T) string {
	t.Helper()
	if s.State == nil {
		return ""
	}
	return s.State(t)
}

// same compares the hosts' rules with what they were.
func (s *firewallSuite) same(t *testing.T, what, before string) {
	t.Helper()
	if after := s.state(t); after != before {
		t.Errorf("%s:\n--- before\n%s\n--- after\n%s", what, before, after)
	}
}

func (s *firewallSuite) detect(t *testing.T) {
	before := s.state(t)
	filters := twice(t, "Detect", func(ctx context.Context) ([]sdk.Filter, error) {
		return s.f.Detect(ctx, s.hosts, s.host())
	})
	var hosts []string
	for _, f := range filters {
		hosts = append(hosts, f.Host)
		if f.Err != nil {
			t.Errorf("Detect: %s: %s", f.Host, full(f.Err))
		}
		if f.What == "" || f.Why == "" {
			t.Errorf("Detect has to say what filters and how that was seen: %+v", f)
		}
		for _, b := range f.Others {
			if b.What == "" || !slices.Contains([]string{"ingress", "prerouting", "input", "output"}, b.Hook) {
				t.Errorf("Detect: a barrier lacks its words, or its hook is unknown: %+v", b)
			}
		}
	}
	if !slices.Equal(hosts, s.hosts) {
		t.Errorf("Detect answers for %q, want %q", hosts, s.hosts)
	}
	s.same(t, "Detect changed something", before)
}

// openHoles opens holes, twice, for a transfer.
func (s *firewallSuite) openHoles(t *testing.T, id string, holes []sdk.Hole, host *Host) []sdk.Rule {
	t.Helper()
	return twice(t, "Open", func(ctx context.Context) ([]sdk.Rule, error) { return s.f.Open(ctx, id, holes, host) })
}

// close closes rules, twice.
func (s *firewallSuite) close(t *testing.T, id string, rules []sdk.Rule, host *Host) {
	t.Helper()
	for range 2 {
		ctx, cancel := within(t, time.Minute)
		err := s.f.Close(ctx, id, rules, host)
		cancel()
		if err != nil {
			t.Error("Close: " + full(err))
		}
	}
}

// openClose opens the holes, twice, and closes them by Close or by the undos.
func (s *firewallSuite) openClose(t *testing.T, byClose bool) {
	host, before := s.host(), s.state(t)
	rules := s.openHoles(t, firewallID, s.Holes, host)
	undos, opened := host.Deferred(), s.state(t)
	if len(rules) > 0 && len(undos) == 0 {
		t.Error("Open made rules but deferred no undo")
	}
	if len(rules) == 0 {
		s.same(t, "Open changed something and tells of no rule", before)
	}
	for _, r := range rules {
		if r.ID == "" || r.Text == "" || r.Expiry.IsZero() || !slices.Contains(s.hosts, r.Host) {
			t.Errorf("Open: a rule lacks its id, text or expiry, or its host is unknown: %+v", r)
		}
	}
	s.check(t, true)
	again := s.openHoles(t, firewallID, s.Holes, host)
	if len(again) != len(rules) || !reflect.DeepEqual(undos, host.Deferred()) {
		t.Errorf("Open again makes other rules or undos: %+v, then %+v", rules, again)
	}
	s.same(t, "Open again changed something", opened)
	if byClose {
		s.close(t, firewallID, rules, host)
		s.check(t, false)
		s.same(t, "Close left something behind", before)
	}
	host.Undo(t, sdk.WhenSourceDone)
	host.Undo(t, sdk.WhenEnd)
	s.check(t, false)
	s.same(t, "the undo left something behind", before)
}

// renew opens the same holes with another expiry: of two the later counts,
// and one undo takes back both.
func (s *firewallSuite) renew(t *testing.T) {
	host, before := s.host(), s.state(t)
	first := s.openHoles(t, firewallID, s.Holes, host)
	later := slices.Clone(s.Holes)
	for i := range later {
		later[i].Expiry = later[i].Expiry.Add(time.Hour)
	}
	renewed := s.openHoles(t, firewallID, later, host)
	opened := s.state(t)
	kept := s.openHoles(t, firewallID, s.Holes, host)
	for i, r := range first {
		if len(renewed) != len(first) || len(kept) != len(first) {
			t.Fatalf("Open with another expiry makes other rules: %+v, %+v, %+v", first, renewed, kept)
		}
		if d := renewed[i].Expiry.Sub(r.Expiry); d != time.Hour {
			t.Errorf("a rule opened again with an expiry an hour later expires %v later: %+v", d, renewed[i])
		}
		if !kept[i].Expiry.Equal(renewed[i].Expiry) {
			t.Errorf("a rule opened again with an earlier expiry does not keep its own: %+v, then %+v", renewed[i], kept[i])
		}
	}
	s.same(t, "Open with an earlier expiry changed something", opened)
	s.check(t, true)
	host.Undo(t, sdk.WhenEnd)
	s.check(t, false)
	s.same(t, "the undo left something of a renewed rule behind", before)
}

// two sees that transfers to the same hosts do not touch each other's rules.
func (s *firewallSuite) two(t *testing.T) {
	host, other, before := s.host(), s.host(), s.state(t)
	rules := s.openHoles(t, firewallID, s.Holes, host)
	opened := s.state(t)
	others := s.openHoles(t, otherID, s.Holes, other)
	s.close(t, otherID, others, other)
	s.check(t, true)
	s.same(t, "to open and close for another transfer changed something", opened)
	s.openHoles(t, otherID, s.Holes, other)
	s.close(t, firewallID, rules, host)
	host.Undo(t, sdk.WhenEnd)
	s.check(t, true)
	other.Undo(t, sdk.WhenEnd)
	s.check(t, false)
	s.same(t, "two transfers left something behind", before)
}

// sweep sees that a living rule stays. Which rules are past their time is the
// plugin's own test.
func (s *firewallSuite) sweep(t *testing.T) {
	host, before := s.host(), s.state(t)
	s.openHoles(t, firewallID, s.Holes, host)
	opened := s.state(t)
	removed := twice(t, "Sweep", func(ctx context.Context) ([]sdk.Rule, error) { return s.f.Sweep(ctx, s.hosts, s.host()) })
	if len(removed) > 0 {
		t.Errorf("Sweep removed rules that live: %+v", removed)
	}
	s.check(t, true)
	s.same(t, "Sweep changed something", opened)
	host.Undo(t, sdk.WhenEnd)
	s.check(t, false)
	s.same(t, "the undo left something behind", before)
}

// refusals hands over what no core would; it must not reach a shell.
func (s *firewallSuite) refusals(t *testing.T) {
	before := s.state(t)
	for _, hostile := range []string{"", "-x", "a b", "a;reboot", "a'$(id)", "a\nb", "../a"} {
		s.refused(t, "the transfer id", hostile, hostile, s.Holes)
		for _, hole := range s.Holes {
			hole.Sources = []string{hostile}
			s.refused(t, "the source", hostile, firewallID, []sdk.Hole{hole})
		}
	}
	s.same(t, "what was refused changed something", before)
}

// refused wants an error, unless Open makes no rule at all.
func (s *firewallSuite) refused(t *testing.T, what, hostile, id string, holes []sdk.Hole) {
	t.Helper()
	host := s.host()
	ctx, cancel := within(t, time.Minute)
	defer cancel()
	if rules, err := s.f.Open(ctx, id, holes, host); err == nil && len(rules)+len(host.Deferred()) > 0 {
		t.Errorf("Open takes %q as %s: %+v", hostile, what, rules)
	}
	host.Undo(t, sdk.WhenEnd)
}

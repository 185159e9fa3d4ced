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
// a network namespace of its own.
type FirewallCase struct {
	Config map[string][]string
	Holes  []sdk.Hole
	// Check is called when the holes should be open, and when they should be
	// closed again. nil: not called.
	Check func(t *testing.T, open bool)
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
	t.Run("Sweep", s.sweep)
}

// firewallID is the suite's transfer.
const firewallID = "plugintest-1"

type firewallSuite struct {
	FirewallCase
	f     sdk.Firewall
	hosts []string
}

func (s *firewallSuite) check(t *testing.T, open bool) {
	if s.Check != nil {
		s.Check(t, open)
	}
}

func (s *firewallSuite) detect(t *testing.T) {
	filters := twice(t, "Detect", func(ctx context.Context) ([]sdk.Filter, error) {
		return s.f.Detect(ctx, s.hosts, NewHost(s.hosts...))
	})
	var hosts []string
	for _, f := range filters {
		hosts = append(hosts, f.Host)
		if f.What == "" || f.Why == "" {
			t.Errorf("Detect has to say what filters and how that was seen: %+v", f)
		}
	}
	slices.Sort(hosts)
	want := slices.Sorted(slices.Values(s.hosts))
	if !slices.Equal(hosts, want) {
		t.Errorf("Detect answers for %q, want %q", hosts, want)
	}
}

// openClose opens the holes, twice, and closes them by Close or by the undos.
func (s *firewallSuite) openClose(t *testing.T, byClose bool) {
	host := NewHost(s.hosts...)
	open := func(ctx context.Context) ([]sdk.Rule, error) { return s.f.Open(ctx, firewallID, s.Holes, host) }
	rules := twice(t, "Open", open)
	undos := host.Deferred()
	if len(rules) > 0 && len(undos) == 0 {
		t.Error("Open made rules but deferred no undo")
	}
	for _, r := range rules {
		if r.ID == "" || !slices.Contains(s.hosts, r.Host) {
			t.Errorf("Open: a rule lacks its id, or its host is unknown: %+v", r)
		}
	}
	s.check(t, true)
	again := twice(t, "Open", open)
	if len(again) != len(rules) || !reflect.DeepEqual(undos, host.Deferred()) {
		t.Errorf("Open again makes other rules or undos: %+v, then %+v", rules, again)
	}
	if byClose {
		for range 2 {
			ctx, cancel := within(t, time.Minute)
			err := s.f.Close(ctx, firewallID, rules, host)
			cancel()
			if err != nil {
				t.Error("Close: " + full(err))
			}
		}
		s.check(t, false)
	}
	host.Undo(t, sdk.WhenSourceDone)
	host.Undo(t, sdk.WhenEnd)
	s.check(t, false)
}

// sweep sees that a living rule stays. Which rules are past their time is the
// plugin's own test.
func (s *firewallSuite) sweep(t *testing.T) {
	host := NewHost(s.hosts...)
	for range 2 {
		ctx, cancel := within(t, time.Minute)
		_, err := s.f.Sweep(ctx, s.hosts, host)
		cancel()
		if err != nil {
			t.Error("Sweep: " + full(err))
		}
	}
	s.check(t, false)
}

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// slowCase is a target that holds the others up.
type slowCase struct {
	name   string
	host   string
	option string
	slow   func(r *rig, host string) (end func()) // makes it slow, once data flows
}

// told is what the events of a transfer tell of slow targets, and when each
// target was verified.
type told struct {
	detours, slow string
	verified      map[string]time.Time
}

// TestSlowTarget: with detach the others end long before the one that is slow,
// which ends verified, too; with wait all end together, and it is named. It
// takes minutes, so it is played only with FAULT_ROUNDS.
func TestSlowTarget(t *testing.T) {
	if os.Getenv("FAULT_ROUNDS") == "" {
		t.Skip("it takes minutes: make faults plays it")
	}
	t.Parallel()
	for _, c := range []slowCase{
		{"the link of a middle one", "db3", "detach", capLink},
		{"the link of the last one", "db5", "detach", capLink},
		{"the link of a middle one, waited for", "db3", "wait", capLink},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, lab.Options{Hosts: 5})
			r.makeTree("db1", "/srv/data", bulk(240))
			args := []string{"--no-compress", "--limit-rate", "20M", "--slow-target", c.option, "--output", "json", "db1:/srv/data"}
			for i := 2; i <= 5; i++ {
				r.sh(fmt.Sprintf("db%d", i), "mkdir /srv/in")
				args = append(args, fmt.Sprintf("db%d:/srv/in", i))
			}
			j := r.start(nil, args...)
			j.moving("db5", "/srv/in")
			defer c.slow(r, c.host)()
			res := j.waitFor(2 * patience)
			if res.code != 0 {
				t.Fatalf("exit code %d\n%s", res.code, j.transcript())
			}
			for i := 2; i <= 5; i++ {
				r.same("db1", "/srv/data", fmt.Sprintf("db%d", i), "/srv/in/data")
			}
			r.clean()
			c.judge(t, toldBy(t, res.stdout))
		})
	}
}

// capLink lets a host have 5 MB/s.
func capLink(r *rig, host string) func() {
	if err := r.Cap(host, "40mbit"); err != nil {
		r.t.Fatal(err)
	}
	return func() {}
}

// toldBy reads events.
func toldBy(t *testing.T, stdout string) told {
	t.Helper()
	out := told{verified: map[string]time.Time{}}
	for line := range strings.Lines(stdout) {
		var e struct {
			Event, Host string
			Time        time.Time
			Detour      struct{ Bypassed []string }
			Members     []struct{ Host, Phase string }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch e.Event {
		case "detour":
			out.detours += strings.Join(e.Detour.Bypassed, " ")
		case "slow":
			out.slow += e.Host
		}
		for _, m := range e.Members {
			if _, ok := out.verified[m.Host]; !ok && (m.Phase == "verified" || m.Phase == "committed") {
				out.verified[m.Host] = e.Time
			}
		}
	}
	return out
}

// judge holds what was told against what was to come.
func (c *slowCase) judge(t *testing.T, got told) {
	t.Helper()
	var last time.Time
	for host, at := range got.verified {
		if host != c.host && host != "db1" && at.After(last) {
			last = at
		}
	}
	behind := got.verified[c.host].Sub(last)
	t.Logf("%s: detached %q, waited for %q; it was verified %.1f s after the others", c.name, got.detours, got.slow, behind.Seconds())
	switch {
	case c.option == "wait" && (got.slow != c.host || got.detours != ""):
		t.Errorf("waited for %q, detached %q, want to wait for %s", got.slow, got.detours, c.host)
	case c.option == "wait" && behind > 40*time.Second:
		t.Errorf("it ends %s after the others, though these wait", behind)
	case c.option == "detach" && got.detours != c.host:
		t.Errorf("detached %q, want %s", got.detours, c.host)
	case c.option == "detach" && behind < 5*time.Second:
		t.Errorf("it is only %s behind the others", behind)
	}
}

package e2e

import (
	"context"
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
	name    string
	targets int
	host    string
	option  string // of --slow-target; empty: the default
	part    slowPart
	often   bool // it is played without FAULT_ROUNDS, too
}

// slowPart is what is slow.
type slowPart int

const (
	slowLink slowPart = iota // 40 Mbit/s
	slowDisk                 // ext4 on a device of 8 MB/s
)

var slowCases = []slowCase{
	{name: "the disk of the last of two", targets: 2, host: "db3", part: slowDisk, often: true},
	{name: "the disk of the first", targets: 3, host: "db2", option: "detach", part: slowDisk},
	{name: "the disk of a middle one", targets: 4, host: "db3", part: slowDisk},
	{name: "the disk of the last one", targets: 4, host: "db5", part: slowDisk},
	{name: "the disk of a middle one, waited for", targets: 3, host: "db3", option: "wait", part: slowDisk},
	{name: "the link of a middle one", targets: 4, host: "db3", option: "detach", part: slowLink},
	{name: "the link of the last one", targets: 4, host: "db5", option: "detach", part: slowLink},
	{name: "the link of a middle one, waited for", targets: 4, host: "db3", option: "wait", part: slowLink},
}

// told is what the events of a transfer tell of slow targets, and when each
// target was verified.
type told struct {
	detours, slow string
	verified      map[string]time.Time
}

// TestSlowTarget: with detach the others end before the one that is slow, which
// ends verified, too; with wait all end together, and it is named while they
// wait. All but one take minutes together, so they are played only with
// FAULT_ROUNDS.
func TestSlowTarget(t *testing.T) {
	t.Parallel()
	for _, c := range slowCases {
		if !c.often && os.Getenv("FAULT_ROUNDS") == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, lab.Options{Hosts: 1 + c.targets})
			// What all buffers hold is below 300 MB, of which a disk that is to be
			// found slow takes nearly half before anybody waits for it.
			r.makeTree("db1", "/srv/data", []entry{{kind: 'd', mode: 0o755}, {path: "large", kind: 'f', size: 400 << 20, mode: 0o644}, {path: "small", kind: 'f', size: 777, mode: 0o600}})
			args := []string{"--no-compress", "--output", "json"}
			if c.option != "" {
				args = append(args, "--slow-target", c.option)
			}
			args = append(args, "db1:/srv/data")
			for i := range c.targets {
				host := fmt.Sprintf("db%d", 2+i)
				r.sh(host, "mkdir /srv/in")
				args = append(args, host+":/srv/in")
			}
			quicken := c.slow(r)
			j := r.start(nil, args...)
			r.until(func() error { return c.seen(t, j) })
			quicken()
			res := j.waitFor(2 * patience)
			if res.code != 0 {
				t.Fatalf("exit code %d\n%s", res.code, j.transcript())
			}
			for i := range c.targets {
				r.same("db1", "/srv/data", fmt.Sprintf("db%d", 2+i), "/srv/in/data")
			}
			r.clean()
			c.judge(t, toldBy(t, res.stdout))
		})
	}
}

// slow makes the target slow, until quicken is called.
func (c *slowCase) slow(r *rig) (quicken func()) {
	r.t.Helper()
	if c.part == slowLink {
		if err := r.Cap(c.host, "40mbit"); err != nil {
			r.t.Fatal(err)
		}
		return func() {
			if err := r.Cap(c.host, "none"); err != nil {
				r.t.Error(err)
			}
		}
	}
	disk := newBadDisk(r.t, 500<<20)
	r.sh(c.host, "mount -t ext4 "+disk.device+" /srv/in && rmdir /srv/in/lost+found")
	r.t.Cleanup(func() { // before the disk ends
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if out, err := r.Run(ctx, c.host, "umount", "/srv/in"); err != nil {
			r.t.Errorf("%v: %s", err, out)
		}
	})
	disk.pace(8_000_000)
	return func() { disk.pace(0) }
}

// seen has an error until a transfer has told of the slow target what is to be
// told while it is slow.
func (c *slowCase) seen(t *testing.T, j *job) error {
	got := toldBy(t, j.stdout.String())
	if j.ended() {
		return nil // it is judged by all it has told
	}
	if c.option == "wait" {
		if got.slow == "" {
			return fmt.Errorf("nothing is told of a slow target\n%s", j.transcript())
		}
		return nil
	}
	for i := range c.targets {
		host := fmt.Sprintf("db%d", 2+i)
		if _, ok := got.verified[host]; !ok && host != c.host {
			return fmt.Errorf("%s waits for %s\n%s", host, c.host, j.transcript())
		}
	}
	return nil
}

// toldBy reads events.
func toldBy(t *testing.T, stdout string) told {
	t.Helper()
	out := told{verified: map[string]time.Time{}}
	for line := range strings.Lines(stdout) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
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
	t.Logf("detached %q, waited for %q; it was verified %.1f s after the others", got.detours, got.slow, behind.Seconds())
	switch {
	case c.option == "wait" && (got.slow != c.host || got.detours != ""):
		t.Errorf("waited for %q, detached %q, want to wait for %s", got.slow, got.detours, c.host)
	case c.option != "wait" && (got.detours != c.host || got.slow != ""):
		t.Errorf("detached %q, waited for %q, want %s to be detached", got.detours, got.slow, c.host)
	case c.option != "wait" && behind <= 0:
		t.Errorf("it was verified %s before the last of the others", -behind)
	}
}

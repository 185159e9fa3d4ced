package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// TestSickTargetInTheChain: of six targets one or two die, stall or are cut off
// in the middle. The others end verified, at most ten seconds later than
// undisturbed ones do, and who comes back is served. By itself it plays those
// that are marked; FAULT_ROUNDS has it play all.
func TestSickTargetInTheChain(t *testing.T) {
	t.Parallel()
	const targets, undisturbed = 6, 10 * time.Second // 40 MiB at 4 MiB/s
	signal := func(s syscall.Signal) func(r *rig, host string) {
		return func(r *rig, host string) {
			for _, p := range r.agents(host) {
				if err := syscall.Kill(p.PID, s); err != nil && err != syscall.ESRCH {
					r.t.Fatal(err)
				}
			}
		}
	}
	cut := func(r *rig, host string) {
		if err := r.Cut(host); err != nil {
			r.t.Fatal(err)
		}
	}
	mend := func(r *rig, host string) {
		if err := r.Mend(host); err != nil {
			r.t.Fatal(err)
		}
	}
	kill := signal(syscall.SIGKILL)
	for _, c := range []struct {
		name   string
		sick   []string
		strike func(r *rig, host string)
		away   time.Duration // then it is healed
		heal   func(r *rig, host string)
		always bool // without FAULT_ROUNDS too
	}{
		{"the first is killed", []string{"db2"}, kill, 0, nil, false},
		{"a middle one is killed", []string{"db4"}, kill, 0, nil, true},
		{"the last is killed", []string{"db7"}, kill, 0, nil, false},
		{"two neighbours are killed", []string{"db3", "db4"}, kill, 0, nil, false},
		{"a disk is full", []string{"db4"}, func(r *rig, host string) { r.sh(host, "head -c 80M /dev/zero >/srv/filler || true") }, 0, nil, false},
		{"cut for 5 s", []string{"db4"}, cut, 5 * time.Second, mend, false},
		{"stalled for 14 s", []string{"db4"}, signal(syscall.SIGSTOP), 14 * time.Second, signal(syscall.SIGCONT), false},
	} {
		if !c.always && os.Getenv("FAULT_ROUNDS") == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, lab.Options{Hosts: 1 + targets, SrvSize: "64m"})
			r.makeTree("db1", "/srv/data", bulk(40))
			args := append(slices.Clone(slow), "--retry-for", "40s", "--control-lost-for", "40s", "--output", "json", "db1:/srv/data")
			for i := range targets {
				r.sh(fmt.Sprintf("db%d", i+2), "mkdir /srv/in")
				args = append(args, fmt.Sprintf("db%d:/srv/in", i+2))
			}
			j := r.start(nil, args...)
			j.moving(c.sick[0], "/srv/in")
			began := time.Now()
			for _, host := range c.sick {
				c.strike(r, host)
			}
			code := 1
			if c.heal != nil {
				code = 0
				time.Sleep(c.away) // the time away is what is tested
				for _, host := range c.sick {
					c.heal(r, host)
				}
			}
			res := j.wants(code)
			t.Logf("%s: it took %.1f s from the fault on, %.1f s more than undisturbed", c.name, time.Since(began).Seconds(), (time.Since(began) - undisturbed).Seconds())
			for i := range targets {
				host := fmt.Sprintf("db%d", i+2)
				if c.heal == nil && slices.Contains(c.sick, host) {
					r.empty(host)
					if !strings.Contains(res.said(), host) {
						t.Errorf("what it says does not name %s", host)
					}
					continue
				}
				r.same("db1", "/srv/data", host, "/srv/in/data")
			}
			if c.away == 0 && c.name != "a disk is full" && !strings.Contains(res.stdout, `"event":"warning"`) {
				t.Errorf("no warning:\n%s", res.stdout)
			}
			r.clean()
		})
	}
}

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// slow are options for a transfer of the 40 MiB of bulk(40) that leaves time
// to disturb it: about ten seconds.
var slow = []string{"--limit-rate", "4M"}

// slowRig is a lab with a transfer to disturb: db1:/srv/data to /srv/in on
// each other host.
func slowRig(t *testing.T, hosts int) *rig {
	t.Helper()
	r := newRig(t, lab.Options{Hosts: hosts})
	r.makeTree("db1", "/srv/data", bulk(40))
	for i := 2; i <= hosts; i++ {
		r.sh(fmt.Sprintf("db%d", i), "mkdir /srv/in")
	}
	return r
}

// empty fails the test if the target directory holds anything.
func (r *rig) empty(host string) {
	r.t.Helper()
	if got := r.sh(host, "ls -A /srv/in"); got != "" {
		r.t.Errorf("%s:/srv/in holds %q", host, got)
	}
}

// TestKilledController: after kill -9 of transferpy no plugin lives longer
// than five seconds, and `cleanup ID` leaves nothing on any host.
func TestKilledController(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 3)
	j := r.start(nil, append(slow, "db1:/srv/data", "db2:/srv/in", "db3:/srv/in")...)
	j.moving("db3", "/srv/in")
	j.signal(syscall.SIGKILL)
	j.wait()
	if err := r.within(5*time.Second, func() error {
		list, err := r.Processes(lab.Control)
		for _, p := range list {
			err = errors.Join(err, fmt.Errorf("on the control host there is still %v", p))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	ids := r.listed()
	if len(ids) != 1 {
		t.Fatalf("list shows %v, want the one that was killed", ids)
	}
	res := r.transferpy(0, "cleanup", ids[0])
	t.Logf("cleanup says:\n%s%s", res.stdout, res.stderr)
	r.empty("db2")
	r.empty("db3")
	r.clean()
	r.transferpy(0, "cleanup", ids[0]) // nothing to do, which is no error
	r.transferpy(0, "cleanup")
	r.transferpy(0, "db1:/srv/data", "db2:/srv/in")
	r.same("db1", "/srv/data", "db2", "/srv/in/data")
	r.clean()
}

// agents are the agent processes of a host.
func (r *rig) agents(host string) []lab.Process {
	r.t.Helper()
	list, err := r.Processes(host)
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(p lab.Process) bool {
		return !strings.HasPrefix(p.Name, "transferpy") && !strings.Contains(strings.Join(p.Args, " "), "transferpy-agent")
	})
}

// TestKilledAgent: an agent that dies is a failure that names its host, and
// what it left is removed.
func TestKilledAgent(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"db1", "db2"} {
		t.Run(victim, func(t *testing.T) {
			r := slowRig(t, 2)
			j := r.start(nil, append(slow, "--output", "json", "db1:/srv/data", "db2:/srv/in")...)
			j.moving("db2", "/srv/in")
			agents := r.agents(victim)
			if len(agents) == 0 {
				t.Fatalf("%s has no agent", victim)
			}
			for _, p := range agents {
				if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
					t.Fatal(err)
				}
			}
			res := j.wants(1)
			if !strings.Contains(res.said(), victim) {
				t.Errorf("what it says does not name %s:\n%s", victim, res.said())
			}
			r.empty("db2")
			r.clean()
		})
	}
}

// TestInterruptedTwice: the second Ctrl-C, and the third, do not tear the
// undo apart.
func TestInterruptedTwice(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	j := r.start(nil, append(slow, "db1:/srv/data", "db2:/srv/in")...)
	j.moving("db2", "/srv/in")
	p := j.process()
	for range 3 {
		if err := syscall.Kill(p.PID, syscall.SIGINT); err != nil {
			break // it was quick
		}
		time.Sleep(50 * time.Millisecond) // between two presses of a key
	}
	j.wants(130)
	r.empty("db2")
	r.clean()
}

// TestInterruptedByTerminal: a Ctrl-C at a terminal reaches the whole process
// group, plugins included.
func TestInterruptedByTerminal(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	// nsenter itself is in the group too and must survive to tell the code.
	j := r.startArgv(nil, append([]string{"setsid", "--wait", "sh", "-c", `"$@"; echo "code $?"`, "sh", "transferpy"}, append(slow, "db1:/srv/data", "db2:/srv/in")...)...)
	j.moving("db2", "/srv/in")
	list, err := r.Processes(lab.Control)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if p.Name == "transferpy" {
			syscall.Kill(p.PID, syscall.SIGINT)
		}
	}
	if res := j.wants(0); !strings.Contains(res.stdout, "code 130") {
		t.Errorf("it says %q, want code 130\n%s", res.stdout, res.stderr)
	}
	r.empty("db2")
	r.clean()
}

// TestInterruptedEarly: a Ctrl-C at any time, before anything moves too, ends
// in a clean state.
func TestInterruptedEarly(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	for _, after := range []time.Duration{50, 200, 400, 700, 1000} {
		j := r.start(nil, append(slow, "db1:/srv/data", "db2:/srv/in")...)
		p := j.process()
		time.Sleep(after * time.Millisecond) // a moment in the life of the transfer, whichever it is
		syscall.Kill(p.PID, syscall.SIGINT)
		j.wants(130)
		r.empty("db2")
		r.clean()
	}
}

// TestAbandoned: nobody comes back after the controller's death; the agents'
// leases end and they undo by themselves.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	j := r.start([]string{"TRANSFERPY_TEST_LEASE=3s"}, append(slow, "--control-lost-for", "3s", "--limit-rate", "500k", "db1:/srv/data", "db2:/srv/in")...)
	j.moving("db2", "/srv/in")
	j.signal(syscall.SIGKILL)
	j.wait()
	if err := r.cleanError(30*time.Second, "db1", "db2"); err != nil {
		t.Errorf("the lease has ended, but: %v", err)
	}
	r.empty("db2")
	for _, id := range r.listed() {
		r.transferpy(0, "cleanup", id)
	}
	r.clean()
}

// TestCutForEver: a link that is cut in the middle and stays cut ends the
// transfer with an error that names the host; after it is mended, cleanup
// leaves nothing.
func TestCutForEver(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	r.sh(lab.Control, `printf 'Host *\n  ConnectTimeout 3\n  ServerAliveInterval 2\n  ServerAliveCountMax 3\n' >/root/.ssh/config`)
	j := r.start(nil, append(slow, "--retry-for", "3s", "--control-lost-for", "5s", "db1:/srv/data", "db2:/srv/in")...)
	j.moving("db2", "/srv/in")
	if err := r.Cut("db2"); err != nil {
		t.Fatal(err)
	}
	// A command over ssh that gets no answer is given up only at its own end.
	res := j.waitFor(4 * patience)
	if res.code != 1 && res.code != 75 {
		t.Errorf("exit code %d, want 1 (failed) or 75 (control lost)", res.code)
	}
	if !strings.Contains(res.said(), "db2") {
		t.Errorf("what it says does not name db2:\n%s", res.said())
	}
	r.clean("db1", lab.Control)
	if err := r.Mend("db2"); err != nil {
		t.Fatal(err)
	}
	for _, id := range r.listed() {
		r.transferpy(0, "cleanup", id)
	}
	r.clean()
	r.empty("db2")
}

// TestCutAndMended: a link that is cut midway, for longer than a silent peer is
// waited for, and comes back within --retry-for does no harm; be it the only
// target's or that of one in the middle of the chain.
func TestCutAndMended(t *testing.T) {
	t.Parallel()
	for _, hosts := range []int{2, 3} {
		t.Run(fmt.Sprintf("%d hosts", hosts), func(t *testing.T) {
			t.Parallel()
			r := slowRig(t, hosts)
			args := append(slices.Clone(slow), "db1:/srv/data")
			for i := 2; i <= hosts; i++ {
				args = append(args, fmt.Sprintf("db%d:/srv/in", i))
			}
			j := r.start(nil, args...)
			j.moving("db2", "/srv/in")
			r.until(func() error {
				if n := stagedBytes(r.path("db2", "/srv/in")); n < 15<<20 {
					return fmt.Errorf("%d bytes are staged", n)
				}
				return nil
			})
			if err := r.Cut("db2"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second) // how long the link is away
			if err := r.Mend("db2"); err != nil {
				t.Fatal(err)
			}
			j.wants(0)
			for i := 2; i <= hosts; i++ {
				r.same("db1", "/srv/data", fmt.Sprintf("db%d", i), "/srv/in/data")
			}
			r.clean()
		})
	}
}

// TestSickTarget: a target whose disk fills up while data flows fails alone
// or with those behind it, by name, and leaves no partial copy.
func TestSickTarget(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Hosts: 2, SrvSize: "64m"})
	r.makeTree("db1", "/srv/data", bulk(40))
	r.sh("db2", "mkdir /srv/in")
	j := r.start(nil, append(slow, "db1:/srv/data", "db2:/srv/in")...)
	j.moving("db2", "/srv/in")
	r.sh("db2", "head -c 50M /dev/zero >/srv/filler || true")
	res := j.wants(1)
	if !strings.Contains(res.said(), "db2") || !strings.Contains(res.said(), "space") {
		t.Errorf("what it says does not name db2 and the space:\n%s", res.said())
	}
	r.empty("db2")
	r.clean()
}

// TestSourceChanges: a file that changes while it is read is no copy of
// anything: exit code 1, by name.
func TestSourceChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Hosts: 2})
	r.makeTree("db1", "/srv/data", []entry{{kind: 'd', mode: 0o755}, {path: "growing", kind: 'f', size: 40 << 20, mode: 0o644}})
	r.sh("db2", "mkdir /srv/in")
	j := r.start(nil, append(slow, "db1:/srv/data", "db2:/srv/in")...)
	j.moving("db2", "/srv/in")
	r.sh("db1", "printf changed | dd of=/srv/data/growing bs=1 seek=100 conv=notrunc 2>/dev/null")
	res := j.wants(1)
	if !strings.Contains(res.said(), "growing") {
		t.Errorf("what it says does not name the file:\n%s", res.said())
	}
	r.empty("db2")
	r.clean()
}

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// place is where a fault strikes.
type place int

const (
	control place = iota
	source
	target
	anyHost
)

// fault is one way to disturb a transfer.
type fault struct {
	name string
	at   place
	// strike does it, to the victim of the round.
	strike func(r *round)
	// after brings back what must be there to clean up; nil: nothing.
	after func(r *round)
	// cause is what the words must say beside the victim's name if the
	// transfer failed: a regular expression; empty: nothing is asked.
	cause string
	codes []int        // allowed exit codes beside 0; none: any
	disk  string       // size of every /srv; empty: as large as it gets
	env   []string     // for transferpy
	args  []string     // for transferpy
	hosts func(*round) // makes ready what it needs; nil: nothing
	when  *moment      // the only one at which it strikes; nil: any
}

// died is what is said of an agent that is not there any more.
const died = `died|crashed|killed|lost|closed|reset|gone|refused|EOF`

var faults = []fault{
	{name: "kill -9 transferpy", strike: killController, codes: []int{-1, 137}},
	{name: "kill -9 transferpy and never come back", strike: killController, codes: []int{-1, 137}, after: leaseEnds,
		env: []string{"TRANSFERPY_TEST_LEASE=3s"}},
	{name: "kill -9 the agent of the source", at: source, strike: killAgent, cause: died, codes: []int{1, 255}},
	{name: "kill -9 the agent of a target", at: target, strike: killAgent, cause: died, codes: []int{1, 75, 255}},
	{name: "kill -9 the executor's plugin", strike: killPlugin("executor"), cause: `plugin`},
	{name: "kill -9 the mode's plugin", strike: killPlugin("mode"), cause: `plugin`},
	{name: "kill -9 the firewall's plugin", strike: killPlugin("firewall"), cause: `plugin`, hosts: dropAll, args: []string{"--firewall", "nftables"}},
	{name: "SIGINT twice", strike: interruptTwice, cause: `interrupted`, codes: []int{130}},
	{name: "SIGINT", strike: signals(syscall.SIGINT), cause: `interrupted`, codes: []int{130}},
	{name: "SIGTERM", strike: signals(syscall.SIGTERM), cause: `terminated`, codes: []int{143}},
	{name: "SIGHUP", strike: signals(syscall.SIGHUP), codes: []int{75, 129, 143}}, // earlier than it can leave, it ends
	{name: "the link cut for 3 s", at: anyHost, strike: cutShortly, cause: `.`},
	{name: "the link cut for ever", at: anyHost, strike: cutForEver, after: mend, cause: `answer|timeout|timed out|heard|silent|unreachable|no route|reached`, codes: []int{1, 75, 255}},
	{name: "a host answers no command any more", at: anyHost, strike: mute, after: unmute, cause: `answer|timeout|timed out|heard|silent|unreachable|did not|reached`, codes: []int{1, 75, 255}},
	{name: "the disk full after COMMIT", at: target, strike: fillRest, after: emptyDisk, codes: []int{1, 75, 255}, disk: "80m", hosts: nearlyFull,
		when: &moment{"COMMIT is written", committed, time.Millisecond}},
	{name: "the control host's disk full", strike: fillControl, after: emptyControl, cause: `space`, codes: []int{1, 255}, hosts: smallControl},
	{name: "the disk full", at: target, strike: fillDisk, after: emptyDisk, cause: `space`, codes: []int{1, 255}, disk: "80m"},
	{name: "a foreign file under the final name", at: target, strike: takeName, cause: `exists|taken|there already`, codes: []int{2, 255}},
	{name: "SIGSTOP of an agent for some seconds", at: anyHost, strike: freeze, cause: `.`},
}

func killController(r *round) {
	if r.late {
		return
	}
	r.killIt(r.job.process().PID, syscall.SIGKILL)
	<-r.job.done
	// Plugins end with their host.
	if err := r.within(settleTime, func() error {
		list, err := r.Processes(lab.Control)
		for _, p := range list {
			err = errors.Join(err, fmt.Errorf("on the control host there is still %v", p))
		}
		return err
	}); err != nil {
		r.t.Error(err)
	}
}

// leaseEnds waits until the agents have given up and undone by themselves.
func leaseEnds(r *round) {
	if err := r.cleanError(patience, append([]string{"db1"}, r.targets...)...); err != nil {
		r.t.Errorf("the lease has ended, but: %v", err)
	}
}

// daemons are the long-lived agent processes of a host.
func (r *rig) daemons(host string) []lab.Process {
	return slices.DeleteFunc(r.agents(host), func(p lab.Process) bool { return !slices.Contains(p.Args, "serve") })
}

// killIt kills a process that may have ended by itself.
func (r *round) killIt(pid int, s syscall.Signal) {
	if err := syscall.Kill(pid, s); err != nil && err != syscall.ESRCH {
		r.t.Fatal(err)
	}
}

func killAgent(r *round) {
	for _, p := range r.daemons(r.victim) {
		r.killIt(p.PID, syscall.SIGKILL)
	}
}

// killPlugin kills transferpy's plugin of a kind.
func killPlugin(kind string) func(*round) {
	return func(r *round) {
		if r.late {
			return
		}
		list, err := r.Processes(lab.Control)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, p := range list {
			if slices.Contains(p.Args, "__plugin") && slices.Contains(p.Args, kind) {
				r.killIt(p.PID, syscall.SIGKILL)
			}
		}
	}
}

func signals(s syscall.Signal) func(*round) {
	return func(r *round) {
		if !r.late {
			r.killIt(r.job.process().PID, s)
		}
	}
}

func cutForEver(r *round) {
	if err := r.Cut(r.victim); err != nil {
		r.t.Fatal(err)
	}
}

func mend(r *round) {
	if err := r.Mend(r.victim); err != nil {
		r.t.Fatal(err)
	}
}

func cutShortly(r *round) {
	cutForEver(r)
	time.Sleep(3 * time.Second) // how long the link is away
	mend(r)
}

func fillDisk(r *round) { r.sh(r.victim, "head -c 80M /dev/zero >/srv/filler || true") }

func emptyDisk(r *round) { r.sh(r.victim, "rm -f /srv/filler") }

func takeName(r *round) {
	if r.has(r.victim, "/srv/in/data") {
		return
	}
	f, err := os.OpenFile(r.path(r.victim, "/srv/in/data"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return // published in this moment
	}
	if err == nil {
		_, err = f.WriteString(foreign)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// interruptTwice presses Ctrl-C, and again while it is being undone.
func interruptTwice(r *round) {
	if r.late {
		return
	}
	p := r.job.process()
	r.killIt(p.PID, syscall.SIGINT)
	time.Sleep(time.Duration(r.rand.IntN(200)) * time.Millisecond) // between two presses of a key
	r.killIt(p.PID, syscall.SIGINT)
}

// dropAll makes the targets drop all that nobody has let in.
func dropAll(r *round) {
	for _, h := range r.targets {
		r.sh(h, `nft -f - <<END
table inet site {
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iif lo accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport 22 accept
	}
}
END`)
	}
}

// noRules holds that no firewall of a host has anything of ours.
func (r *rig) noRules(hosts ...string) {
	r.t.Helper()
	for _, h := range hosts {
		if got := r.sh(h, "{ nft list ruleset; iptables-save; ip6tables-save; } 2>/dev/null | grep -i transferpy || true"); got != "" {
			r.t.Errorf("%s still has the rules\n%s", h, got)
		}
	}
}

// mute stops sshd and all that it has started: what runs already goes on.
func mute(r *round) { r.signalSSH(syscall.SIGSTOP) }

func unmute(r *round) { r.signalSSH(syscall.SIGCONT) }

func (r *round) signalSSH(s syscall.Signal) {
	list, err := r.Processes(r.victim)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range list {
		if strings.HasPrefix(p.Name, "sshd") {
			r.killIt(p.PID, s)
		}
	}
}

// nearlyFull leaves some MiB more than the copy takes.
func nearlyFull(r *round) {
	for _, h := range r.targets {
		r.sh(h, "fallocate -l 45M /srv/filler")
	}
}

// committed reports whether the victim has a COMMIT record.
func committed(r *round) bool {
	found, _ := filepath.Glob(r.path(r.victim, "/srv/in/.transferpy-*/commit"))
	return len(found) > 0
}

// fillRest takes what is left of the victim's disk, at once.
func fillRest(r *round) {
	f, err := os.OpenFile(r.path(r.victim, "/srv/filler"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 1<<20)
	for range 80 {
		if _, err := f.Write(piece); err != nil {
			return // it is full
		}
	}
}

// smallControl gives the journals a disk of their own, with small blocks where
// the machine has loop devices: into the last one that it has a journal may still
// write. How much that is decides a reason of any length.
func smallControl(r *round) {
	r.fault.args = []string{"--reason", strings.Repeat("x", 1000+r.rand.IntN(1000))}
	r.sh(lab.Control, `mkdir -p /var/lib/transferpy && head -c 2M /dev/zero >/srv/journals &&
{ mkfs.ext4 -q -F -b 1024 -m 0 -O ^has_journal /srv/journals && mount -o loop /srv/journals /var/lib/transferpy; } 2>/dev/null ||
mount -t tmpfs -o size=512k,mode=700 journals /var/lib/transferpy`)
}

func fillControl(r *round) {
	r.sh(lab.Control, "{ cat /dev/zero; dd bs=512 if=/dev/zero; } >>/var/lib/transferpy/filler 2>/dev/null || true")
}

func emptyControl(r *round) { r.sh(lab.Control, "rm -f /var/lib/transferpy/filler") }

// freeze stops an agent for less time, or more, than its peers wait.
func freeze(r *round) {
	list := r.daemons(r.victim)
	for _, p := range list {
		r.killIt(p.PID, syscall.SIGSTOP)
	}
	pause := time.Duration(1+r.rand.IntN(6)) * time.Second
	if r.rand.IntN(4) == 0 {
		pause += 16 * time.Second // a silent peer is taken for dead after 15 s
	}
	r.t.Logf("frozen for %s: %v", pause, strings.Trim(fmt.Sprint(list), "[]"))
	time.Sleep(pause)
	for _, p := range list {
		r.killIt(p.PID, syscall.SIGCONT)
	}
}

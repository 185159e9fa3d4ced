package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// TestFaults disturbs transfers at random moments with random faults, and
// holds after each what must hold after any: an exit code of 0 means that all
// copies are right; no partial copy is ever found under its final name; the
// words name the host and the cause; once the transfer is cleaned up nothing
// of it is left on any host; the source is as it was; the next transfer
// works.
//
// By itself it plays a few rounds that are the same everywhere.
// FAULT_ROUNDS=N plays N new ones of each fault; FAULT_SEED=SEED repeats one.
func TestFaults(t *testing.T) {
	for _, seed := range faultSeeds(t, len(faults)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			newRound(t, seed).play()
		})
	}
}

// usualSeeds are the rounds of every test run: a target's agent that dies, an
// early interrupt, a mode's plugin that dies in the middle, a name that is taken,
// a firewall's plugin that dies while its rules stand, a control host whose disk
// is full. None takes long. What a seed means changes with the lists of faults
// and moments.
var usualSeeds = []uint64{60, 65, 62, 112, 44, 53}

// faultSeeds are the seeds of the rounds, for a number of kinds of faults of
// which the seed's rest tells one.
func faultSeeds(t *testing.T, kinds int) []uint64 {
	t.Helper()
	if text := os.Getenv("FAULT_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("FAULT_SEED: %v", err)
		}
		return []uint64{seed}
	}
	text := os.Getenv("FAULT_ROUNDS")
	if text == "" {
		return usualSeeds
	}
	rounds, err := strconv.Atoi(text)
	if err != nil || rounds < 1 || rounds > 10000 {
		t.Fatalf("FAULT_ROUNDS=%s: want 1 to 10000", text)
	}
	first := uint64(time.Now().UnixMilli())
	var seeds []uint64
	for i := range rounds * kinds {
		seeds = append(seeds, first+uint64(i))
	}
	return seeds
}

// moment is a point in the life of a transfer that can be observed from
// outside.
type moment struct {
	name string
	// come reports whether it has come, as seen at the victim.
	come func(r *round) bool
	// spread is the longest time to let pass afterwards.
	spread time.Duration
}

var moments = []moment{
	{"beginning", func(r *round) bool { return true }, 800 * time.Millisecond},
	{"listening", func(r *round) bool {
		ports, _ := r.Listening(r.targets[0])
		return len(ports) > 1 // sshd's is one
	}, 200 * time.Millisecond},
	{"first bytes", func(r *round) bool { return r.staged() > 0 }, 100 * time.Millisecond},
	{"middle", func(r *round) bool { return r.staged() > r.size/2 }, time.Second},
	{"verifying", func(r *round) bool { return r.staged() >= r.size }, 100 * time.Millisecond},
	{"committing", func(r *round) bool { return strings.Contains(r.job.stdout.String(), `"phase":"commit"`) }, 80 * time.Millisecond},
}

// round is one transfer that is disturbed once.
type round struct {
	*rig
	seed    uint64
	rand    *rand.Rand
	fault   fault
	when    moment
	targets []string // hosts
	victim  string   // the host that the fault is about; empty: the control host
	size    int64    // of the source's files
	before  string   // the source's fingerprint
	job     *job
	late    bool // the transfer had ended before the fault
}

// newRound draws a round and makes its hosts.
func newRound(t *testing.T, seed uint64) *round {
	rng := rand.New(rand.NewPCG(seed, 0))
	r := &round{seed: seed, rand: rng}
	for i := range 1 + rng.IntN(2) {
		r.targets = append(r.targets, fmt.Sprintf("db%d", i+2))
	}
	r.fault = faults[seed%uint64(len(faults))]
	if r.when = moments[rng.IntN(len(moments))]; r.fault.when != nil {
		r.when = *r.fault.when
	}
	hosts := append([]string{"db1"}, r.targets...)
	switch r.fault.at {
	case source:
		r.victim = hosts[0]
	case target:
		r.victim = r.targets[rng.IntN(len(r.targets))]
	case anyHost:
		r.victim = hosts[rng.IntN(len(hosts))]
	}
	t.Logf("fault %q at %q, %d targets, victim %q; repeat it: FAULT_SEED=%d go test -run TestFaults ./test/e2e", r.fault.name, r.when.name, len(r.targets), r.victim, seed)
	r.rig = newRig(t, lab.Options{Hosts: len(hosts), SrvSize: r.fault.disk})
	r.makeTree("db1", "/srv/data", append(bulk(20), odd[1:]...))
	r.before = r.fingerprint("db1", "/srv/data")
	for _, rec := range r.records("db1", "/srv/data") {
		r.size += rec.size
	}
	for _, h := range r.targets {
		r.sh(h, "mkdir /srv/in && chown labdb /srv/in && chmod 2750 /srv/in")
	}
	if r.fault.hosts != nil {
		r.fault.hosts(r)
	}
	// A host that is cut off is noticed in seconds, so that a round is short.
	r.sh(lab.Control, `printf 'Host *\n  ConnectTimeout 3\n  ServerAliveInterval 2\n  ServerAliveCountMax 3\n' >/root/.ssh/config`)
	return r
}

// play runs the transfer, disturbs it and judges what came of it.
func (r *round) play() {
	args := append([]string{"--output", "json", "--limit-rate", "8M", "--retry-for", "3s", "--control-lost-for", "5s"}, r.fault.args...)
	args = append(args, "db1:/srv/data")
	for _, h := range r.targets {
		args = append(args, h+":/srv/in")
	}
	r.job = r.start(r.fault.env, args...)
	r.await()
	r.fault.strike(r)
	res := r.job.waitFor(4 * patience)
	r.t.Logf("exit code %d", res.code)
	r.judge(res)
	if r.fault.after != nil {
		r.fault.after(r)
	}
	for _, id := range r.listed() {
		r.transferpy(0, "cleanup", id)
	}
	r.clean()
	r.noRules(r.targets...)
	if left := r.listed(); len(left) > 0 {
		r.t.Errorf("still listed: %v", left)
	}
	for _, h := range r.targets {
		if _, err := r.copyState(h); err != nil {
			r.t.Errorf("after the cleanup: %v", err)
		}
		if got := r.sh(h, "stat -c '%U %a' /srv/in"); got != "labdb 2750" {
			r.t.Errorf("%s:/srv/in is now %s", h, got)
		}
	}
	if after := r.fingerprint("db1", "/srv/data"); after != r.before {
		r.t.Errorf("the source has changed:\n%s\nbefore:\n%s", after, r.before)
	}
	r.again()
	if r.t.Failed() {
		r.t.Log(r.job.transcript())
	}
}

// await waits for the round's moment, or for the transfer's end.
func (r *round) await() {
	for deadline := time.Now().Add(patience); !r.when.come(r); time.Sleep(2 * time.Millisecond) {
		if r.job.ended() {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the moment %q does not come\n%s", r.when.name, r.job.transcript())
		}
	}
	time.Sleep(time.Duration(r.rand.Int64N(int64(r.when.spread)))) // any point of the moment
	r.late = r.job.ended()
}

// staged is how much lies in staging directories, where least does.
func (r *round) staged() int64 {
	least := r.size
	for _, h := range r.targets {
		dir := r.path(h, "/srv/in")
		if _, err := os.Stat(dir + "/data"); err == nil {
			continue // it is there already
		}
		least = min(least, stagedBytes(dir))
	}
	return least
}

// judge holds the exit code and the words against what lies on the targets.
func (r *round) judge(res result) {
	r.t.Helper()
	whole := 0
	for _, h := range r.targets {
		ok, err := r.copyState(h)
		if err != nil {
			r.t.Errorf("exit code %d: %v", res.code, err)
		}
		if ok {
			whole++
		}
	}
	switch {
	case res.code == 0 && whole < len(r.targets):
		r.t.Errorf("exit code 0 with %d of %d copies", whole, len(r.targets))
	case res.code != 0 && r.late:
		r.t.Errorf("exit code %d of a transfer that nobody disturbed", res.code)
	case res.code == 0 || r.late:
		return
	}
	allowed := r.fault.codes
	if len(allowed) > 0 && !slices.Contains(allowed, res.code) {
		r.t.Errorf("exit code %d, want one of %v", res.code, allowed)
	}
	if r.fault.cause == "" {
		return
	}
	if said := res.said(); !strings.Contains(said, r.victim) || !regexp.MustCompile(r.fault.cause).MatchString(said) {
		r.t.Errorf("what it says does not name %q and %q", r.victim, r.fault.cause)
	}
}

// copyState looks for the copy on a target: it is whole, or there is none; a
// file of somebody else under its name is as it was. All else is an error.
func (r *round) copyState(host string) (whole bool, err error) {
	in := r.path(host, "/srv/in")
	entries, err := os.ReadDir(in)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), ".transferpy-"): // clean looks after these
		case e.Name() != "data":
			err = errors.Join(err, fmt.Errorf("%s:/srv/in holds %q", host, e.Name()))
		case isForeign(filepath.Join(in, "data")):
		default:
			whole = true
			err = errors.Join(err, r.sameError("db1", "/srv/data", host, "/srv/in/data"))
		}
	}
	return whole, err
}

// foreign is the content of a file that has nothing to do with the transfer.
const foreign = "somebody else's"

func isForeign(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && string(text) == foreign
}

// again holds that nothing stands in the way of the next transfer.
func (r *round) again() {
	args := append(slices.Clone(r.fault.args), "db1:/srv/data")
	for _, h := range r.targets {
		r.sh(h, "rm -rf /srv/in/data && mkdir -p /srv/again")
		args = append(args, h+":/srv/again")
	}
	r.transferpy(0, args...)
	for _, h := range r.targets {
		r.same("db1", "/srv/data", h, "/srv/again/data")
	}
	r.clean()
}

// has reports whether a path of a host exists.
func (r *round) has(host, path string) bool {
	_, err := os.Lstat(r.path(host, path))
	return !errors.Is(err, fs.ErrNotExist)
}

// condition is what scripts ask with [faults]: those that take minutes are
// played by make faults alone.
func condition(cond string) (bool, error) {
	if cond != "faults" {
		return false, fmt.Errorf("there is no condition %s", cond)
	}
	return os.Getenv("FAULT_ROUNDS") != "", nil
}

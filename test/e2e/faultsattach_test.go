package e2e

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/transferpy/transferpy/test/lab"
)

// TestFaultsAttached kills transferpy, or sends it SIGHUP, at random moments and
// attaches; now and then that one is killed, too, and attached to again. In the
// end every copy is there and the exit code is 0, or nothing had moved and
// nothing is there; nothing is left on any host, and the source is as it was.
// FAULT_ROUNDS and FAULT_SEED mean the same as for TestFaults.
func TestFaultsAttached(t *testing.T) {
	seeds := faultSeeds(t, 2) // SIGHUP is one of four
	if slices.Equal(seeds, usualSeeds) {
		seeds = attachedSeeds
	}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			newAttachedRound(t, seed).playAttached()
		})
	}
}

// attachedSeeds are the rounds of every test run: transferpy that is killed as
// it commits to one target and to two, and as its agents get ready.
var attachedSeeds = []uint64{1, 36, 61}

// newAttachedRound draws a round whose fault is the loss of control.
func newAttachedRound(t *testing.T, seed uint64) *round {
	rng := rand.New(rand.NewPCG(seed, 1))
	r := &round{seed: seed, rand: rng, targets: []string{"db2"}}
	if rng.IntN(2) == 1 {
		r.targets = append(r.targets, "db3")
	}
	r.fault = fault{name: "kill -9 transferpy", strike: killController}
	if rng.IntN(4) == 0 {
		r.fault = fault{name: "SIGHUP", strike: signals(syscall.SIGHUP)}
	}
	r.when = moments[rng.IntN(len(moments))]
	t.Logf("fault %q at %q, %d targets; repeat it: FAULT_SEED=%d go test -run TestFaultsAttached ./test/e2e", r.fault.name, r.when.name, len(r.targets), seed)
	r.rig = newRig(t, lab.Options{Hosts: 1 + len(r.targets)})
	r.makeTree("db1", "/srv/data", append(bulk(20), odd[1:]...))
	r.before = r.fingerprint("db1", "/srv/data")
	for _, rec := range r.records("db1", "/srv/data") {
		r.size += rec.size
	}
	for _, h := range r.targets {
		r.sh(h, "mkdir /srv/in && chown labdb /srv/in && chmod 2750 /srv/in")
	}
	return r
}

// playAttached runs the transfer, loses control of it, and attaches until it
// has ended.
func (r *round) playAttached() {
	args := []string{"--output", "json", "--limit-rate", "8M", "db1:/srv/data"}
	for _, h := range r.targets {
		args = append(args, h+":/srv/in")
	}
	r.job = r.start(nil, args...)
	r.await()
	r.fault.strike(r)
	res := r.job.waitFor(2 * patience)
	r.t.Logf("exit code %d", res.code)
	for lives := r.rand.IntN(2); ; lives-- {
		ids := r.listed()
		if len(ids) == 0 {
			break
		}
		r.job = r.start(nil, "attach", "--output", "json", ids[0])
		if lives > 0 {
			r.when = moments[r.rand.IntN(len(moments))]
			r.await()
			killController(r)
		}
		res = r.job.waitFor(2 * patience)
		r.t.Logf("attached: exit code %d", res.code)
		if lives <= 0 {
			break
		}
	}
	r.judgeAttached(res)
}

// judgeAttached holds the end against what lies on the targets.
func (r *round) judgeAttached(res result) {
	whole := r.whole()
	// Nothing was left to attach to: it was before it had begun, or after its end.
	killed := res.code == 137 || res.code != 0 && r.job.args[1] != "attach"
	switch {
	case whole == len(r.targets) && (res.code == 0 || killed):
	case whole == 0 && (killed || res.code != 0 && strings.Contains(res.said(), "nothing had moved")):
	default:
		r.t.Errorf("exit code %d with %d of %d copies\n%s", res.code, whole, len(r.targets), res.said())
	}
	r.clean()
	if left := r.listed(); len(left) > 0 {
		r.t.Errorf("still listed: %v", left)
	}
	if after := r.fingerprint("db1", "/srv/data"); after != r.before {
		r.t.Errorf("the source has changed:\n%s\nbefore:\n%s", after, r.before)
	}
	if r.t.Failed() {
		r.t.Log(r.job.transcript())
	}
}

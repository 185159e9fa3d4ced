package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestFaultsResumed disturbs transfers as TestFaults does, with
// --keep-partial, and resumes them. After any fault, at any moment: no partial
// copy has its final name; what is listed can be resumed, and that makes every
// copy that is missing; then nothing is left on any host, and the source is as
// it was. FAULT_ROUNDS and FAULT_SEED mean the same.
func TestFaultsResumed(t *testing.T) {
	seeds := faultSeeds(t, len(faults))
	if slices.Equal(seeds, usualSeeds) {
		seeds = resumedSeeds
	}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			newRound(t, seed).playResumed()
		})
	}
}

// resumedSeeds are the rounds of every test run: a source's agent that dies
// early, transferpy that is killed as it commits, a disk that is full while the
// target verifies.
var resumedSeeds = []uint64{40, 76, 73}

// playResumed runs the transfer, disturbs it, and resumes it until it is done.
func (r *round) playResumed() {
	env := []string{"TRANSFERPY_TEST_CHECKPOINT=200ms"}
	args := append([]string{"--keep-partial", "--output", "json", "--limit-rate", "8M", "--retry-for", "3s", "--control-lost-for", "5s"}, r.fault.args...)
	args = append(args, "db1:/srv/data")
	for _, h := range r.targets {
		args = append(args, h+":/srv/in")
	}
	r.job = r.start(append(env, r.fault.env...), args...)
	r.await()
	r.fault.strike(r)
	res := r.job.waitFor(4 * patience)
	r.t.Logf("exit code %d", res.code)
	r.judge(res)
	r.mendForResume()
	if ids := r.listed(); len(ids) > 0 {
		r.resumeAll(env, ids[0])
	} else if whole := r.whole(); whole < len(r.targets) && r.staged() > 0 {
		r.t.Errorf("something is staged, and nothing can be resumed")
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

// mendForResume takes away what would keep any transfer from being made.
func (r *round) mendForResume() {
	switch {
	case len(r.fault.env) > 0: // the lease ends the agents
		r.until(func() error {
			for _, h := range append([]string{"db1"}, r.targets...) {
				if agents := r.agents(h); len(agents) > 0 {
					return fmt.Errorf("%s still has %v", h, agents)
				}
			}
			return nil
		})
	case r.fault.after != nil:
		r.fault.after(r)
	}
	for _, h := range r.targets {
		if path := r.path(h, "/srv/in/data"); isForeign(path) {
			if err := os.Remove(path); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// resumeAll resumes the transfer, again if it must be, and holds that every
// copy is there in the end.
func (r *round) resumeAll(env []string, id string) {
	for try := 1; ; try++ {
		res := r.start(env, "resume", "--limit-rate", "100M", "--output", "json", id).waitFor(2 * patience)
		r.t.Logf("resumed: exit code %d", res.code)
		if res.code == 0 {
			break
		}
		if nothingLeft(res.said()) {
			r.transferpy(0, "cleanup", id)
			return
		}
		if try == 3 {
			r.t.Fatalf("it cannot be resumed: exit code %d\n%s", res.code, res.said())
		}
	}
	if whole := r.whole(); whole < len(r.targets) {
		r.t.Errorf("resumed with exit code 0, and %d of %d copies are there", whole, len(r.targets))
	}
}

// nothingLeft recognizes the two refusals that a death in mid-commit allows:
// all is published and nobody could say so any more, or nobody can say it now.
func nothingLeft(said string) bool {
	return strings.Contains(said, "has its copy: there is nothing to resume") || strings.Contains(said, "no agent is left to say whether")
}

// whole counts the targets that have a copy, and fails the test for what is
// neither a copy nor none.
func (r *round) whole() int {
	n := 0
	for _, h := range r.targets {
		ok, err := r.copyState(h)
		if err != nil {
			r.t.Errorf("after all: %v", err)
		}
		if ok {
			n++
		}
	}
	return n
}

package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// kill ends target n as kill -9 does, as its peers see it: all that leads to it
// and away from it breaks, and nothing listens any more.
func (r *rig) kill(w []*wire, n int) {
	r.t.Helper()
	w[n-1].kill()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.jobs[n].Stop(ctx); err != nil {
		r.t.Error(err)
	}
}

// othersWell checks that all but the named targets verified, and publishes
// these.
func (r *rig) othersWell(src string, dead ...int) map[string]control.MemberStatus {
	r.t.Helper()
	all := r.settled()
	if e := all["source"].Error; e != nil {
		r.t.Errorf("source: %v", e)
	}
	for i := 1; i < len(r.jobs); i++ {
		name := fmt.Sprintf("target-%d", i)
		m := all[name]
		switch {
		case slices.Contains(dead, i): // it may have been well before
		case m.Error != nil || m.Root == "" || m.Root != all["source"].Root:
			r.t.Errorf("%s: %+v", name, m)
		default:
			r.published(i, src)
		}
	}
	return all
}

// TestDeadTargets kills targets at different moments: the others end verified.
// FAULT_ROUNDS has it kill more of them.
func TestDeadTargets(t *testing.T) {
	src := content(t)
	moments := map[string]func(r *rig, w []*wire, dead []int){
		"at the first frames": func(r *rig, w []*wire, dead []int) { waitFor(r.t, r.jobs[dead[0]], control.PhaseMoving) },
		"in the middle":       func(r *rig, w []*wire, dead []int) { w[dead[0]-1].after(r.t, 5<<20) },
		"verifying":           func(r *rig, w []*wire, dead []int) { waitFor(r.t, r.jobs[dead[0]], control.PhaseReadDone) },
	}
	const first, middle, verifying = "at the first frames", "in the middle", "verifying"
	type death struct {
		when string
		dead []int
	}
	deaths := []death{{first, []int{1}}, {middle, []int{2}}, {verifying, []int{2}}, {middle, []int{4}}, {middle, []int{2, 3}}}
	if os.Getenv("FAULT_ROUNDS") != "" {
		deaths = append(deaths, death{middle, []int{1}}, death{verifying, []int{4}}, death{first, []int{2, 3}}, death{verifying, []int{2, 3}},
			death{middle, []int{1, 2}}, death{middle, []int{3, 4}}, death{first, []int{1, 2, 3}})
	}
	for _, c := range deaths {
		t.Run(fmt.Sprint(c.dead, " ", c.when), func(t *testing.T) {
			t.Parallel()
			r, w := wired(t, src, 4, func(p *control.Start) { p.Settings.LimitRate = 10 << 20 })
			r.start()
			moments[c.when](r, w, c.dead)
			for _, n := range c.dead {
				r.kill(w, n)
			}
			began := time.Now()
			all := r.othersWell(src, c.dead...)
			for _, d := range all["source"].Detours {
				for _, name := range d.Lost { // the others stay in the chain, or are joined by the source
					if !slices.ContainsFunc(c.dead, func(n int) bool { return name == fmt.Sprintf("target-%d", n) }) {
						t.Errorf("%s was bypassed: %+v", name, d)
					}
				}
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the others took %s more", took)
			}
		})
	}
}

// TestCutOff cuts targets off for longer than their predecessors wait, in
// transfers that run side by side: the chain goes on without them. They are
// told, and served when they come back; of a stream they fail.
func TestCutOff(t *testing.T) {
	src := content(t)
	var cut []*wire
	var check []func()
	for i, verify := range []control.VerifyLevel{control.VerifyReadBack, control.VerifySigned, control.VerifyReceived} {
		r, w := wired(t, src, 3, func(p *control.Start) {
			p.Settings.LimitRate, p.Settings.Verify, p.Settings.Codec = 5<<20, verify, "zstd"
		})
		r.start()
		cut = append(cut, w[i])
		check = append(check, func() {
			all := r.well(src)
			name := fmt.Sprintf("target-%d", i+1)
			if !slices.ContainsFunc(all["source"].Detours, func(d control.Detour) bool { return slices.Contains(d.Lost, name) && d.Error != nil }) {
				t.Errorf("nobody was told: %+v", all["source"].Detours)
			}
		})
	}
	r, w := wired(t, filepath.Join(src, "a/large"), 3, streamed(filepath.Join(src, "a/large")))
	r.start()
	cut = append(cut, w[1])
	check = append(check, func() {
		all := r.settled()
		if e := all["target-2"].Error; e == nil || e.Kind != sdk.KindUnreachable {
			t.Errorf("target-2: %v", e)
		}
		for _, name := range []string{"source", "target-1", "target-3"} {
			if e := all[name].Error; e != nil {
				t.Errorf("%s: %v", name, e)
			}
		}
	})
	for _, w := range cut {
		w.after(t, 1<<20)
		w.mute.Store(true)
	}
	time.Sleep(12 * time.Second) // the silence itself is what is tested
	for _, w := range cut {
		w.mute.Store(false)
	}
	for _, look := range check {
		look()
	}
}

// streamed has a file moved as a command's stream, slowly.
func streamed(file string) func(*control.Start) {
	return func(p *control.Start) {
		p.Settings.LimitRate = 1 << 20
		p.Read = sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"cat", sdk.Raw(file)}}}
		p.Write = sdk.Stage{Builtin: sdk.BuiltinFile, Path: "copy"}
		for i := range p.Members[1:] {
			p.Members[i+1].Destination.Publish = []sdk.Raw{"copy"}
		}
	}
}

// TestBypassedIsServedWithoutBeingCut: a target of which its predecessor says
// that it is lost, at any time, is served.
func TestBypassedIsServedWithoutBeingCut(t *testing.T) {
	src := content(t)
	for at := int64(0); at < 11<<20; at += 5 << 20 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			r, w := wired(t, src, 3, nil)
			r.start()
			w[1].after(t, at)
			waitFor(t, r.jobs[1], control.PhaseMoving)
			r.target(1).say(note{Type: noteLost, Lost: []string{"target-2", "target-3", "target-1", "source"}})
			r.well(src)
		})
	}
}

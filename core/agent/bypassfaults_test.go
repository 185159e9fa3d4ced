package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// lose has target n say that the named members are lost.
func (r *rig) lose(n int, names ...string) { r.target(n).say(note{Type: noteLost, Lost: names}) }

// bypassedBy finds who has bypassed a member, and why.
func bypassedBy(all map[string]control.MemberStatus, name string) (control.Detour, bool) {
	for _, d := range all["source"].Detours {
		if slices.Contains(d.Lost, name) {
			return d, true
		}
	}
	return control.Detour{}, false
}

// TestImpossibleCount: a member that says it has more than it was sent is not
// believed, but bypassed, by the source and by a target; what lies behind it
// goes on.
func TestImpossibleCount(t *testing.T) {
	t.Parallel()
	src := content(t)
	for liar := 1; liar <= 2; liar++ {
		r, w := wired(t, src, 3, nil)
		r.start()
		w[liar-1].after(t, 2<<20)
		r.target(liar).arrivals.count.Add(1 << 20)
		all := r.well(src)
		name := fmt.Sprintf("target-%d", liar)
		d, ok := bypassedBy(all, name)
		if !ok || d.Error == nil || d.Error.Kind != sdk.KindIntegrity || d.To != fmt.Sprintf("target-%d", liar+1) {
			t.Errorf("%s: %+v", name, all["source"].Detours)
		}
	}
}

// TestCutRepairAfterBypass: the passes that serve a member which was bypassed
// are cut again and again; it ends well.
func TestCutRepairAfterBypass(t *testing.T) {
	t.Parallel()
	src := content(t)
	r, w := wired(t, src, 3, nil)
	r.start()
	w[1].after(t, 1<<20)
	r.lose(1, "target-2")
	for i := range int64(3) {
		w[1].after(t, 3<<20+i*5<<19)
		w[1].cut()
	}
	all := r.well(src)
	if _, ok := bypassedBy(all, "target-2"); !ok {
		t.Errorf("it was not bypassed: %+v", all["source"].Detours)
	}
}

// TestBypassAndResume: a member is bypassed in the first attempt and in the second,
// or (FAULT_ROUNDS has it play these, too) in one of them. It uses what it has kept, and nothing stays behind.
func TestBypassAndResume(t *testing.T) {
	t.Parallel()
	src, size := manyAndLarge(t)
	attempts := []struct{ first, second bool }{{true, true}}
	if os.Getenv("FAULT_ROUNDS") != "" {
		attempts = append(attempts, struct{ first, second bool }{true, false}, struct{ first, second bool }{false, true})
	}
	for _, c := range attempts {
		t.Run(fmt.Sprintf("first %v, second %v", c.first, c.second), func(t *testing.T) {
			first := tryAgain(t, src, 3, nil, func(p *control.Start) { p.Settings.LimitRate = 16 << 20 })
			first.start()
			first.until(size / 3)
			if c.first {
				first.lose(1, "target-2")
			}
			first.until(size * 2 / 3)
			first.stop()
			next := tryAgain(t, src, 3, []*again{first}, func(p *control.Start) { p.Settings.LimitRate = 16 << 20 })
			next.start()
			if c.second {
				waitFor(t, next.jobs[2], control.PhaseMoving)
				next.lose(1, "target-2")
			}
			next.well(src)
			for _, dir := range next.dirs {
				if left, _ := filepath.Glob(filepath.Join(dir, ".transferpy*")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

// TestGap: two neighbours die and those behind them lack more than the source has
// kept. They go on from where it is, and the gap is served afterwards; of a
// stream they fail, at once and with that reason, and the others do not.
func TestGap(t *testing.T) {
	t.Parallel()
	src := content(t)
	for _, c := range []struct {
		stream bool
		verify control.VerifyLevel
	}{{false, control.VerifyReadBack}, {false, control.VerifySigned}, {true, control.VerifyReceived}} {
		t.Run(fmt.Sprintf("stream %v, %s", c.stream, c.verify), func(t *testing.T) {
			from, change := src, func(*control.Start) {}
			if c.stream {
				from = filepath.Join(src, "a/large")
				change = streamed(from)
			}
			r, w := wired(t, from, 5, func(p *control.Start) {
				p.Settings.LimitRate = 4 << 20
				change(p)
				p.Settings.Verify = c.verify
			})
			r.jobs[0].keeps = 1
			r.start()
			w[3].after(t, 1<<20)
			w[3].mute.Store(true) // the last two lack what comes from now on
			w[2].after(t, 5<<19)
			w[1].kill()
			w[2].kill()
			w[3].mute.Store(false) // before anybody dials by it
			began := time.Now()
			r.kill(w, 2)
			r.kill(w, 3)
			if c.stream {
				r.gapOfStream(began)
				return
			}
			all := r.othersWell(src, 2, 3)
			for n := 4; n <= 5; n++ {
				name := fmt.Sprintf("target-%d", n)
				if d, ok := bypassedBy(all, name); ok {
					t.Errorf("%s was bypassed: %+v", name, d)
				}
				if r.target(n).round < 2 {
					t.Errorf("%s has missed nothing", name)
				}
			}
		})
	}
}

// gapOfStream: the last two of five have failed.
func (r *rig) gapOfStream(began time.Time) {
	r.t.Helper()
	for n := 4; n <= 5; n++ {
		waitFor(r.t, r.jobs[n], control.PhaseFailed)
	}
	if took := time.Since(began); took > 10*time.Second {
		r.t.Errorf("they failed after %s", took)
	}
	all := r.settled()
	for _, name := range []string{"target-4", "target-5"} {
		if e := all[name].Error; e == nil || e.Kind != sdk.KindUnreachable || !strings.Contains(e.Message, "gap") {
			r.t.Errorf("%s: %v", name, e)
		}
	}
	for _, name := range []string{"source", "target-1"} {
		if e := all[name].Error; e != nil {
			r.t.Errorf("%s: %v", name, e)
		}
	}
}

// TestDeathBeforeTheFirstFrame: a target whose links were proven dies while the
// mode still prepares the source. The others end verified.
func TestDeathBeforeTheFirstFrame(t *testing.T) {
	t.Parallel()
	src := content(t)
	r, w := wired(t, src, 4, func(p *control.Start) { p.Begins = true })
	r.start()
	for _, j := range r.jobs {
		waitFor(t, j, control.PhaseReady)
	}
	for _, n := range []int{1, 3} {
		r.kill(w, n)
	}
	for _, j := range r.jobs {
		j.Begin()
	}
	r.othersWell(src, 1, 3)
}

// TestSourceDies: all targets end with an error that names the source's host,
// once it has stayed away for too long.
func TestSourceDies(t *testing.T) {
	t.Parallel()
	src := content(t)
	r, w := wired(t, src, 4, func(p *control.Start) { p.Settings.LimitRate, p.Settings.RetryFor = 4<<20, time.Second })
	r.start()
	w[3].after(t, 1<<20)
	if err := r.jobs[0].Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := r.settled()
	for i := 1; i <= 4; i++ {
		name := fmt.Sprintf("target-%d", i)
		if e := all[name].Error; e == nil || !strings.Contains(e.Error(), "source") {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// TestLostFailure: a target fails while its link to the source is broken. The
// source is told when the link is back.
func TestLostFailure(t *testing.T) {
	t.Parallel()
	src := content(t)
	r, w := wired(t, src, 2, nil)
	r.start()
	w[1].after(t, 1<<20)
	w[1].mute.Store(true)
	r.target(2).life.cancel(&sdk.Error{Kind: sdk.KindInternal, Host: "host-2", Message: "no luck"})
	waitFor(t, r.jobs[2], control.PhaseFailed)
	w[1].cut()
	w[1].mute.Store(false)
	all := r.settled()
	if all["source"].Error != nil || all["target-1"].Error != nil {
		t.Errorf("%+v", all)
	}
	if failed := all["source"].Failed; len(failed) != 1 || !strings.Contains(failed[0].Error.Message, "no luck") {
		t.Errorf("the source knows %+v", failed)
	}
}

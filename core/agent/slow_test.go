package agent

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// brake has target n's disk do nothing most of the time, until the returned
// function is called: its workers wait where they look for the file to write.
func (r *rig) brake(n int) (release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var braking sync.WaitGroup
	r.t.Cleanup(func() { cancel(); braking.Wait() })
	r.jobs[n].at = func(p point, s sink) {
		if p != pointOpened {
			return
		}
		files := s.(*treeSink).files
		braking.Go(func() {
			for ctx.Err() == nil {
				files.mu.Lock()
				time.Sleep(500 * time.Millisecond) // the slowness itself
				files.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	return cancel
}

// slowRig is a transfer between jobs that hold little, and soon see who is
// slow.
func slowRig(t *testing.T, src, slow string) (*rig, []*wire) {
	t.Helper()
	r, w := wired(t, src, 3, func(p *control.Start) {
		p.Settings.LimitRate, p.Settings.Verify, p.Settings.SlowTarget = 0, control.VerifyReceived, slow
	})
	for _, j := range r.jobs {
		j.stretch, j.buffers = 1500*time.Millisecond, 24<<20
	}
	return r, w
}

// TestSlowTarget: a target whose disk or link holds the others up is detached,
// and served when they are; or waited for, and named. The transfers run side by
// side. Who is slow shows only where nothing else is: on a machine that is busy
// it may not be found, so it is played with FAULT_ROUNDS alone.
func TestSlowTarget(t *testing.T) {
	if os.Getenv("FAULT_ROUNDS") == "" {
		t.Skip("only with FAULT_ROUNDS: it needs a machine that does nothing else")
	}
	src := filepath.Join(t.TempDir(), "tree")
	data := make([]byte, 96<<20)
	rand.Read(data)
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "large"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	disk, _ := slowRig(t, src, control.SlowDetach)
	freeDisk := disk.brake(2)
	link, wires := slowRig(t, src, control.SlowDetach)
	wires[2].rate.Store(4 << 20)
	waits, _ := slowRig(t, src, control.SlowWait)
	freeWaits := waits.brake(2)
	for _, r := range []*rig{disk, link, waits} {
		r.start()
	}
	source := func(r *rig) control.MemberStatus { return r.jobs[0].Members()[0] }
	detached := func(r *rig, name, what string) {
		t.Helper()
		r.await("its source detaches "+name, func() bool { return len(source(r).Detours) > 0 })
		d := source(r).Detours[0]
		if len(d.Lost) != 1 || d.Lost[0] != name || d.Error == nil || !strings.Contains(d.Error.Message, what) {
			t.Errorf("detoured %+v: %v; want %s, for %q", d, d.Error, name, what)
		}
		r.await("the others verify", func() bool {
			for _, j := range r.jobs[1:] {
				if m := j.Members()[0]; m.Name != name && m.Phase != control.PhaseVerified {
					return false
				}
			}
			return true
		})
		for _, j := range r.jobs[1:] {
			if m := j.Members()[0]; m.Name == name && m.Phase == control.PhaseVerified {
				t.Errorf("%s is as fast as the others", name)
			}
		}
	}
	detached(disk, "target-2", "host-2 holds the others up: its disk")
	freeDisk()
	detached(link, "target-3", "host-3 holds the others up: the link to it")
	wires[2].rate.Store(0)
	waits.await("who is slow is told", func() bool { return len(source(waits).Slow) > 0 })
	if p := source(waits).Slow[0]; p.Name != "target-2" || p.Error == nil || p.Error.Host != "host-2" {
		t.Errorf("slow is %+v, want target-2", p)
	}
	if d := source(waits).Detours; len(d) > 0 {
		t.Errorf("it was to be waited for: %+v", d)
	}
	freeWaits()
	for _, r := range []*rig{disk, link, waits} {
		r.well(src)
	}
}

// await waits for something that ought to happen.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("it does not come that %s", what)
		}
	}
}

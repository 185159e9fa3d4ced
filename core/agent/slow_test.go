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

// brake has target n's disk take four pieces each two seconds, one of each
// worker, until the returned function is called: its workers wait where they look
// for the file to write.
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
			for ctx.Err() == nil { // the lock goes to those who have waited for it before it comes here again
				files.mu.Lock()
				select {
				case <-time.After(2 * time.Second): // the slowness itself
				case <-ctx.Done():
				}
				files.mu.Unlock()
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
		j.stretch, j.buffers = 1500*time.Millisecond, 8<<20
	}
	return r, w
}

// TestSlowTarget: a target whose disk or link holds the others up is detached,
// and served when they are; or waited for, and named. The transfers run side by
// side. What is slow is so slow that the others wait for it on a busy machine, too.
func TestSlowTarget(t *testing.T) {
	t.Parallel()
	src := filepath.Join(t.TempDir(), "tree")
	data := make([]byte, 64<<20)
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
	wires[2].rate.Store(1 << 20)
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

// TestSlowInTime: who is slow is found though beats are late, and though one
// stretch shows nobody; not for one stretch alone, nor where it is another each
// time.
func TestSlowInTime(t *testing.T) {
	const stretch = 5 * time.Second
	for name, c := range map[string]struct {
		slow string // for each stretch, the target that is slow; "-": nobody, "x": target-2, and no beat of target-3 comes
		want string
	}{
		"in two stretches":               {"22", "target-2"},
		"in one":                         {"2---2---2", ""},
		"the disk rests for a stretch":   {"2-2", "target-2"},
		"another each time":              {"123123", ""},
		"beats late in between":          {"2x2x", "target-2"},
		"every other one is late":        {"x2x2", "target-2"},
		"two of three are late":          {"xx2xx2", "target-2"},
		"none comes":                     {"2xxxxxxx", ""},
		"nobody is slow for a long time": {"----------2-", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), 3, func(p *control.Start) { p.Settings.SlowTarget = control.SlowWait })
			plan, err := newChain(&r.plan, r.plan.Members[0].Agent)
			if err != nil {
				t.Fatal(err)
			}
			src := newSource(r.jobs[0], plan)
			src.meter.sending.Start()
			loads := make([]load, len(src.peers))
			w := &slowness{s: src, said: make(map[*peer]bool), links: make(map[string]bool)}
			for _, at := range "-" + c.slow {
				late := at == 'x'
				if late {
					at = '2'
				}
				for i, p := range src.peers {
					l := &loads[i]
					l.Times.Alive += stretch
					switch slow := int(at - '1'); {
					case slow < 0: // all wait for the source
						l.Times.Idle += stretch
					case i < slow:
						l.Times.Idle += stretch
						l.Times.Full += stretch
					case i == slow:
						l.Times.Taking += stretch
						l.Times.Disk += stretch
					default:
						l.Times.Idle += stretch
					}
					if late && i == 2 {
						continue
					}
					now := *l
					p.load = &now
				}
				w.look()
			}
			got := ""
			for _, p := range src.meter.status().Slow {
				got += p.Name
			}
			if got != c.want {
				t.Errorf("slow is %q, want %q", got, c.want)
			}
		})
	}
}

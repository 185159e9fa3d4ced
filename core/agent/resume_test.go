package agent

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// again is the next attempt at a transfer, into the same directories.
type again struct{ *rig }

// sent is how many bytes the source has sent, and so read: nothing is
// compressed here.
func (a *again) sent() int64 { return a.jobs[0].Members()[0].Wire }

// tryAgain makes a rig that keeps what it has, and uses what the attempts
// before have kept.
func tryAgain(t *testing.T, src string, targets int, before []*again, change func(*control.Start)) *again {
	t.Helper()
	a := &again{}
	a.rig = newRig(t, src, targets, func(p *control.Start) {
		for i := range p.Members {
			p.Members[i].Agent = fmt.Sprintf("agent-%d-%d", len(before), i)
			if len(before) > 0 && i > 0 {
				p.Members[i].Destination.Dir = sdk.Raw(before[0].dirs[i-1])
			}
		}
		if change != nil {
			change(p)
		}
	})
	for i, j := range a.jobs {
		j.cfg.Agent = a.plan.Members[i].Agent
		j.cfg.Keep, j.cfg.Checkpoint, j.cfg.Resume = true, 20*time.Millisecond, len(before) > 0
	}
	if len(before) > 0 {
		a.dirs = before[0].dirs
	}
	for i := len(before) - 1; i >= 0; i-- {
		a.jobs[0].cfg.Kept = append(a.jobs[0].cfg.Kept, before[i].jobs[0].cfg.StateDir)
	}
	return a
}

// stop ends an attempt as Stop does that keeps.
func (a *again) stop() {
	a.t.Helper()
	for _, j := range a.jobs {
		if err := j.Stop(a.t.Context()); err != nil {
			a.t.Fatal(err)
		}
	}
}

// until waits until the target has written so many bytes, and a checkpoint has
// been written since.
func (a *again) until(bytes int64) {
	a.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); a.jobs[1].Members()[0].Bytes < bytes; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("%+v", a.jobs[1].Members())
		}
	}
}

// had is how much a target's checkpoint proves.
func (a *again) had(target int) (bytes int64) {
	a.t.Helper()
	meta, err := filepath.Glob(filepath.Join(a.dirs[target], ".transferpy-*", "meta"))
	if err != nil || len(meta) != 1 {
		a.t.Fatal(meta, err)
	}
	before := &attempt{}
	if err := before.open(meta[0]); err != nil {
		a.t.Fatal(err)
	}
	if before.check == nil { // it ended before it had one
		return 0
	}
	defer before.file.Close()
	defer before.spool.Close()
	for n := range before.check.entries {
		e, err := before.spool.Entry(n)
		if err != nil {
			a.t.Fatal(err)
		}
		part, listed, err := before.check.find(n)
		if err != nil {
			a.t.Fatal(err)
		}
		if !listed {
			bytes += e.Size
		}
		for p := range part.pieces {
			if part.have[p/64]&(1<<(p%64)) != 0 {
				bytes += pieceLength(e.Size, p)
			}
		}
	}
	return bytes
}

// manyAndLarge is a tree of many small files and some large ones, so random
// that nothing is saved by compression.
func manyAndLarge(t *testing.T) (dir string, size int64) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 12<<20)
	rand.Read(random)
	write := func(name string, data []byte) {
		size += int64(len(data))
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 400 {
		write(fmt.Sprintf("sub/f%d", i), random[i*1000:i*1000+i*40])
	}
	for i := range 4 {
		write(fmt.Sprintf("large%d", i), random[i:len(random)-i*1000])
	}
	write("empty", nil)
	return dir, size
}

func TestResume(t *testing.T) {
	src, size := manyAndLarge(t)
	const rate = 16 << 20
	for _, c := range []struct {
		level   control.VerifyLevel
		targets int
		part    int64 // in percent, after which the first attempt is stopped
	}{
		{control.VerifyReadBack, 1, 1}, {control.VerifyReadBack, 1, 60}, {control.VerifyReadBack, 1, 95},
		{control.VerifyReadBack, 3, 80}, {control.VerifyReceived, 2, 80},
	} {
		t.Run(fmt.Sprintf("%s, %d targets, after %d %%", c.level, c.targets, c.part), func(t *testing.T) {
			first := tryAgain(t, src, c.targets, nil, func(p *control.Start) { p.Settings.Verify, p.Settings.LimitRate = c.level, rate })
			first.start()
			first.until(size * c.part / 100)
			first.stop()
			unproven := int64(0)
			for i := range c.targets {
				unproven += size - first.had(i)
			}
			next := tryAgain(t, src, c.targets, []*again{first}, func(p *control.Start) { p.Settings.Verify = c.level })
			next.start()
			next.well(src)
			if next.sent() > unproven+1<<20 {
				t.Errorf("%d bytes were sent again, of %d; %d are not proven", next.sent(), size, unproven)
			} else {
				t.Logf("sent again: %d of %d", next.sent(), size)
			}
		})
	}
}

// TestResumeAfterTheEnd: all was sent, and the targets failed afterwards:
// nothing is read again.
func TestResumeAfterTheEnd(t *testing.T) {
	src := content(t)
	first := tryAgain(t, src, 2, nil, nil)
	first.start()
	for name, m := range first.settled() {
		if m.Error != nil {
			t.Fatalf("%s: %v", name, m.Error)
		}
	}
	first.stop()
	second := tryAgain(t, src, 2, []*again{first}, nil)
	second.start()
	second.settled()
	second.stop()
	third := tryAgain(t, src, 2, []*again{first, second}, nil)
	third.start()
	third.well(src)
	if third.sent() > 256<<10 { // entries and digests
		t.Errorf("%d bytes were sent", third.sent())
	}
	for _, dir := range third.dirs {
		if left, _ := filepath.Glob(filepath.Join(dir, ".transferpy*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestResumeOfAnotherTree: what changed in between is sent in full, what has
// gone is not published, and what is something else now is that.
func TestResumeOfAnotherTree(t *testing.T) {
	src := content(t)
	first := tryAgain(t, src, 1, nil, nil)
	first.start()
	first.settled()
	first.stop()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The same size, so that only the digest can tell.
	large, err := os.ReadFile(filepath.Join(src, "a/large"))
	must(err)
	large[3<<20] ^= 1
	must(os.WriteFile(filepath.Join(src, "a/large"), large, 0o640))
	must(os.WriteFile(filepath.Join(src, "small"), []byte("hallo"), 0o640))
	must(os.Remove(filepath.Join(src, "empty")))
	must(os.Remove(filepath.Join(src, "a/piece")))
	must(os.Mkdir(filepath.Join(src, "a/piece"), 0o755))
	must(os.Remove(filepath.Join(src, "link")))
	must(os.WriteFile(filepath.Join(src, "link"), []byte("a file now"), 0o600))
	must(os.Rename(filepath.Join(src, "nothing"), filepath.Join(src, "moved")))
	for i := range 50 {
		must(os.WriteFile(filepath.Join(src, fmt.Sprintf("new%d", i)), bytes.Repeat([]byte("n"), i), 0o600))
	}
	next := tryAgain(t, src, 1, []*again{first}, nil)
	next.start()
	next.well(src)
	if n := next.sent(); n < int64(len(large)) || n > int64(len(large))+2<<20 {
		t.Errorf("%d bytes were sent again, want the changed file's %d and little more", n, len(large))
	}
}

// TestDamagedKeptState: whatever is damaged of what was kept, it proves
// nothing, and the copy is right.
func TestDamagedKeptState(t *testing.T) {
	src := content(t)
	meta := func(a *again, name string) string {
		dirs, err := filepath.Glob(filepath.Join(a.dirs[0], ".transferpy-*", "meta", name))
		if err != nil || len(dirs) != 1 {
			t.Fatal(dirs, err)
		}
		return dirs[0]
	}
	alter := func(path string, at func(size int) int) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			return
		}
		b[at(len(b))] ^= 0x41
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	middle := func(n int) int { return n / 2 }
	first := func(int) int { return 0 }
	cut := func(path string) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, info.Size()/3); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(a *again){
		"checkpoint altered":  func(a *again) { alter(meta(a, checkpointName), middle) },
		"checkpoint cut":      func(a *again) { cut(meta(a, checkpointName)) },
		"no checkpoint":       func(a *again) { os.Remove(meta(a, checkpointName)) },
		"target's entries":    func(a *again) { alter(meta(a, "entries"), middle) },
		"target's index":      func(a *again) { alter(meta(a, "index"), middle) },
		"target's spool cut":  func(a *again) { cut(meta(a, "entries")); cut(meta(a, "index")) },
		"target's header":     func(a *again) { alter(meta(a, "entries"), first) },
		"source's entries":    func(a *again) { alter(filepath.Join(a.jobs[0].cfg.StateDir, "entries"), middle) },
		"source's index cut":  func(a *again) { cut(filepath.Join(a.jobs[0].cfg.StateDir, "index")) },
		"source's spool gone": func(a *again) { os.Remove(filepath.Join(a.jobs[0].cfg.StateDir, "entries")) },
		"source's nodes":      func(a *again) { cut(filepath.Join(a.jobs[0].cfg.StateDir, "nodes")) },
		"source's idents":     func(a *again) { alter(filepath.Join(a.jobs[0].cfg.StateDir, "idents"), middle) },
		"staged data altered": func(a *again) {
			dirs, _ := filepath.Glob(filepath.Join(a.dirs[0], ".transferpy-*", "data", "tree", "a", "large"))
			alter(dirs[0], middle)
			dirs, _ = filepath.Glob(filepath.Join(a.dirs[0], ".transferpy-*", "data", "tree", "small"))
			alter(dirs[0], first)
		},
		"staged data gone": func(a *again) {
			dirs, _ := filepath.Glob(filepath.Join(a.dirs[0], ".transferpy-*", "data", "tree"))
			os.RemoveAll(dirs[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := tryAgain(t, src, 1, nil, nil)
			before.start()
			before.settled()
			before.stop()
			damage(before)
			next := tryAgain(t, src, 1, []*again{before}, nil)
			next.start()
			next.well(src)
		})
	}
}

// TestResumeWithoutDigests: with --no-checksum nothing is proven, and all is
// sent again.
func TestResumeWithoutDigests(t *testing.T) {
	src := content(t)
	signed := func(p *control.Start) { p.Settings.Verify = control.VerifySigned }
	first := tryAgain(t, src, 1, nil, signed)
	first.start()
	first.settled()
	first.stop()
	next := tryAgain(t, src, 1, []*again{first}, signed)
	next.start()
	next.well(src)
	if next.sent() < 5<<20 {
		t.Errorf("only %d bytes were read", next.sent())
	}
}

// TestResumeIsRefused: what stands in the way since is not overwritten.
func TestResumeIsRefused(t *testing.T) {
	src := content(t)
	first := tryAgain(t, src, 1, nil, nil)
	first.start()
	first.settled()
	first.stop()
	if err := os.Mkdir(filepath.Join(first.dirs[0], "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	next := tryAgain(t, src, 1, []*again{first}, func(p *control.Start) { p.Settings.LinkTimeout = 2 * time.Second })
	next.start()
	if e := next.settled()["target-1"].Error; e == nil || e.Kind != sdk.KindExists || !strings.Contains(e.Message, "tree") {
		t.Errorf("it says %+v", e)
	}
}

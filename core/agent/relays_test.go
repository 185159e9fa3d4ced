package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// play spoils the segment; after it there are only heartbeats.
func (a *attack) play(ctx context.Context, h *hostile) error {
	if err := h.stealPass(ctx); err != nil {
		return err
	}
	spoils := 1
	if a.first {
		spoils = 0
	} else if a.spoils != nil {
		if spoils = slices.IndexFunc(h.pass[1:], a.spoils) + 1; spoils == 0 && !a.spoils(h.pass[0]) {
			spoils = -1
		}
	}
	if spoils < 0 || len(h.pass) < 4 {
		return fmt.Errorf("%d segments, of which none can be spoiled so", len(h.pass))
	}
	for _, seg := range h.pass[:spoils] {
		if err := h.send(wires(seg...)...); err != nil {
			return err
		}
	}
	instead, err := a.instead(h, h.pass[spoils])
	if err != nil {
		return err
	}
	_ = h.send(instead...) // the target may have seen enough before its end
	return nil
}

// stealPass gets a repair pass for a piece of a file, whose frames are signed,
// too, and tells the source that all is well.
func (h *hostile) stealPass(ctx context.Context) error {
	if !h.chain.stream() {
		for _, seg := range h.pass {
			if i := slices.IndexFunc(seg, isPiece); i >= 0 && h.repair == nil {
				x := seg[i].Extent(0)
				var err error
				if h.repair, err = h.asked(ctx, frame.NeedRange{Entry: x.Entry, Piece: x.Offset >> 20, Count: 1}); err != nil {
					return err
				}
			}
		}
	}
	return h.settle()
}

// relayTree is a tree with all that attacks want to alter.
func relayTree(t *testing.T) string {
	t.Helper()
	src := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 6<<20+12345)
	rand.Read(random)
	files := map[string][]byte{"large": random, "text": bytes.Repeat([]byte("all work and no play\n"), 50_000)}
	for i := range 20 {
		files[fmt.Sprintf("small-%02d", i)] = random[i : 5000+i]
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(src, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err == nil {
		err = errors.Join(f.Truncate(8<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// relayed starts a transfer of relayTree that the attack spoils.
func (a *attack) relayed(t *testing.T, src string, targets int, encrypt bool, level control.VerifyLevel) *rig {
	t.Helper()
	r := newRig(t, src, targets, func(p *control.Start) {
		p.Settings.Encrypt, p.Settings.Verify, p.Settings.Codec = encrypt, level, codec.NameMinLZ
		p.Settings.RetryFor = time.Minute
		if a.cut {
			p.Settings.RetryFor = time.Second // it does not come back
		}
	})
	r.jobs[0].segment = segmentSize
	hostileRelay(t, r, 0, a.play)
	return r
}

// TestHostileRelay: whatever a relay does to what it passes on, the next
// target finds it with the segment in which it is, names the file where one is
// concerned, and nothing is published. FAULT_ROUNDS has it try each with every
// setting.
func TestHostileRelay(t *testing.T) {
	src := relayTree(t)
	for _, a := range attacks {
		for _, encrypt := range []bool{true, false} {
			for _, level := range []control.VerifyLevel{control.VerifyReadBack, control.VerifySigned} {
				few := encrypt == (level == control.VerifyReadBack) || a.level != "" && encrypt
				if a.cut || a.level != "" && a.level != level || !few && os.Getenv("FAULT_ROUNDS") == "" {
					continue
				}
				t.Run(fmt.Sprintf("%s/encrypt %v/%s", a.name, encrypt, level), func(t *testing.T) {
					t.Parallel()
					r := a.relayed(t, src, 3, encrypt, level)
					all := r.settled()
					for i, name := range []string{"target-2", "target-3"} {
						switch e := all[name].Error; {
						case e == nil:
							t.Fatalf("%s took it: %+v", name, all[name])
						case e.Kind != sdk.KindIntegrity:
							t.Errorf("%s: %v, want an error of integrity", name, e)
						case i == 0 && !strings.Contains(e.Message, a.path):
							t.Errorf("%s: %v, want %q to be named", name, e, a.path)
						}
					}
					r.nothingPublished("tree")
				})
			}
		}
	}
}

// TestRelayThatCuts: a stream that a relay ends early is no end; the link is
// made anew, or the target fails. The transfers run side by side, since what
// they wait for is time.
func TestRelayThatCuts(t *testing.T) {
	t.Parallel()
	src := relayTree(t)
	rigs := map[string]*rig{}
	for _, a := range attacks {
		if a.cut {
			rigs[a.name] = a.relayed(t, src, 2, false, control.VerifySigned)
		}
	}
	for name, r := range rigs {
		if e := r.settled()["target-2"].Error; e == nil || e.Kind != sdk.KindUnreachable || !strings.Contains(e.Message, "target-1") {
			t.Errorf("%s: %v, want that the link from target-1 was lost", name, e)
		}
		r.nothingPublished("tree")
	}
}

// nothingPublished tries to publish what has failed.
func (r *rig) nothingPublished(name string) {
	r.t.Helper()
	for i, j := range r.jobs[2:] {
		if err := j.Commit(r.t.Context(), []string{r.plan.Members[2+i].Name}); err == nil {
			r.t.Error("a failed target was committed")
		}
	}
	for _, dir := range r.dirs {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			r.t.Errorf("published in %s", dir)
		}
	}
}

// TestBoastingRelay: a relay that acknowledges what it was not sent is left, and
// does not stop the others.
func TestBoastingRelay(t *testing.T) {
	src := relayTree(t)
	for _, targets := range []int{3, 1} {
		t.Run(fmt.Sprint(targets), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, src, targets, func(p *control.Start) { p.Settings.RetryFor = time.Minute })
			hostileRelay(t, r, 1000, func(context.Context, *hostile) error { return errors.New("all went on") })
			all := r.settled()
			if e := all["source"].Error; targets == 1 {
				if e == nil || e.Kind != sdk.KindIntegrity || !strings.Contains(e.Message, "target-1") {
					t.Errorf("the source says %v", e)
				}
				return
			}
			for i := 2; i <= targets; i++ {
				if m := all[fmt.Sprintf("target-%d", i)]; m.Error != nil || m.Reached == "" {
					t.Errorf("target-%d: %v", i, m.Error)
				}
				r.published(i, src)
			}
		})
	}
}

// TestWhoMayConnect: a member reaches those that the chain has it reach, for
// what it has them for, and nobody else.
func TestWhoMayConnect(t *testing.T) {
	r := newRig(t, t.TempDir(), 4, nil)
	allowed := map[string]bool{}
	for j := 1; j <= 4; j++ {
		for _, p := range []link.Purpose{link.PurposeNotes, link.PurposeRepair, link.PurposeData} {
			allowed[fmt.Sprint(0, j, p)] = true
		}
	}
	allowed[fmt.Sprint(0, 2, link.PurposeProof)] = true
	for i := 1; i < 4; i++ {
		allowed[fmt.Sprint(i, i+1, link.PurposeData)] = true
		allowed[fmt.Sprint(i, i+2, link.PurposeProof)] = true
		allowed[fmt.Sprint(i, i+2, link.PurposeData)] = true // past the one between
	}
	for j, to := range r.plan.Members {
		c, err := newChain(&r.plan, to.Agent)
		if err != nil {
			t.Fatal(err)
		}
		for i, from := range r.plan.Members {
			for _, p := range []link.Purpose{link.PurposeNotes, link.PurposeRepair, link.PurposeData, link.PurposeProof} {
				for _, plain := range []bool{false, true} {
					err := c.checkHello(link.Hello{From: from.Name, To: to.Name, Purpose: p, Plain: plain})
					if want := allowed[fmt.Sprint(i, j, p)] && !plain; (err == nil) != want {
						t.Errorf("%s to %s for %s, plain %v: %v", from.Name, to.Name, p, plain, err)
					}
				}
			}
		}
	}
}

// TestHostileRelayOfAStream: a command is fed nothing that the source did not
// sign, whatever a relay does. FAULT_ROUNDS has it be so with digests, too.
func TestHostileRelayOfAStream(t *testing.T) {
	data := filepath.Join(relayTree(t), "large")
	want, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attacks {
		if a.cut || a.tree {
			continue
		}
		for _, level := range []control.VerifyLevel{control.VerifyReceived, control.VerifySigned} {
			if digests := level == control.VerifyReceived; digests != (a.level != "") && !(digests && os.Getenv("FAULT_ROUNDS") != "") {
				continue
			}
			t.Run(a.name+"/"+string(level), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, data, 3, func(p *control.Start) {
					streamed(data)(p)
					p.Write = sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"sh", "-c", "cat >{staging}/copy"}}}
					p.Settings.Verify, p.Settings.LimitRate, p.Settings.RetryFor = level, 0, time.Minute
				})
				r.jobs[0].segment = segmentSize
				hostileRelay(t, r, 0, a.play)
				all := r.settled()
				for i, name := range []string{"target-2", "target-3"} {
					if e := all[name].Error; e == nil || e.Kind != sdk.KindIntegrity {
						t.Errorf("%s: %v, want an error of integrity", name, e)
					}
					fed, err := filepath.Glob(filepath.Join(r.dirs[1+i], ".transferpy*", "data", "copy"))
					if err != nil || len(fed) != 1 {
						t.Fatalf("%v: %s has staged %v", err, name, fed)
					}
					if got, err := os.ReadFile(fed[0]); err != nil || !bytes.HasPrefix(want, got) || len(got) == len(want) {
						t.Errorf("%v: the command of %s was fed %d bytes, and not as the source sent them", err, name, len(got))
					}
				}
				r.nothingPublished("copy")
			})
		}
	}
}

// TestCommandRunsOnce: a command that is read is run once, however many targets
// there are.
func TestCommandRunsOnce(t *testing.T) {
	runs := filepath.Join(t.TempDir(), "runs")
	r := newRig(t, "copy", 3, func(p *control.Start) {
		p.Read = sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"sh", "-c", sdk.Raw("echo run >>" + runs + "; head -c 3000000 /dev/zero")}}}
		p.Write = sdk.Stage{Builtin: sdk.BuiltinFile, Path: "copy"}
		p.Settings.Verify = control.VerifyReceived
	})
	r.start()
	for name, m := range r.settled() {
		if m.Error != nil {
			t.Errorf("%s: %v", name, m.Error)
		}
	}
	r.commit()
	for _, dir := range r.dirs {
		if info, err := os.Stat(filepath.Join(dir, "copy")); err != nil || info.Size() != 3000000 {
			t.Errorf("%v: %+v", err, info)
		}
	}
	if got, err := os.ReadFile(runs); err != nil || string(got) != "run\n" {
		t.Errorf("%v: it ran %q", err, got)
	}
}

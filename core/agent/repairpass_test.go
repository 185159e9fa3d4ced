package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// TestAbsurdNeedList: a target that asks for nonsense fails alone.
func TestAbsurdNeedList(t *testing.T) {
	src := content(t)
	ranges := func(x ...frame.NeedRange) note { return note{Need: x} }
	from := uint64(1 << 40)
	cases := map[string]func(large, small uint64) note{
		"no such entry":      func(_, _ uint64) note { return ranges(frame.NeedRange{Entry: 1 << 40, Count: 1}) },
		"a directory":        func(_, _ uint64) note { return ranges(frame.NeedRange{Count: 1}) },
		"beyond the end":     func(large, _ uint64) note { return ranges(frame.NeedRange{Entry: large, Piece: 5, Count: 2}) },
		"overflow":           func(large, _ uint64) note { return ranges(frame.NeedRange{Entry: large, Piece: 2, Count: 1<<64 - 1}) },
		"twice":              func(large, _ uint64) note { x := frame.NeedRange{Entry: large, Count: 1}; return ranges(x, x) },
		"the digest twice":   func(large, _ uint64) note { x := frame.NeedRange{Entry: large}; return ranges(x, x) },
		"too many":           func(_, small uint64) note { return note{Need: make([]frame.NeedRange, maxNeed+1)} },
		"nodes of no file":   func(_, _ uint64) note { return note{Pieces: []uint64{0}} },
		"nodes of one piece": func(_, small uint64) note { return note{Pieces: []uint64{small}} },
		"nodes twice":        func(large, _ uint64) note { return note{Pieces: []uint64{large, large}} },
		"entries beyond":     func(_, _ uint64) note { return note{EntriesFrom: &from} },
	}
	for name, make := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, src, 2, nil)
			r.disturb(1, pointPassed, func(s sink, _ int) {
				large, _ := number(t, s, "tree/a/large")
				small, _ := number(t, s, "tree/small")
				n := make(large, small)
				n.Type, n.Round = noteNeed, 1000
				r.target(1).say(n)
			})
			r.start()
			all := r.settled()
			if e := all["target-1"].Error; e == nil || e.Kind != sdk.KindIntegrity || !strings.Contains(e.Message, "what is not there") {
				t.Errorf("target-1: %+v", e)
			} else if name == "too many" && !strings.Contains(e.Message, "at once") {
				t.Errorf("its length is not what is refused: %v", e)
			}
			if e := all["target-2"].Error; e != nil {
				t.Errorf("target-2: %v", e)
			}
		})
	}
}

func (r *rig) target(n int) *target { return r.jobs[n].targets[fmt.Sprintf("target-%d", n)] }

// TestRepairIsNotEndless: a target that asks for the whole again and again is
// given up.
func TestRepairIsNotEndless(t *testing.T) {
	src := content(t)
	r := newRig(t, src, 1, nil)
	r.disturb(1, pointPassed, func(s sink, _ int) {
		go func() {
			zero := uint64(0)
			for i := uint32(1000); r.jobs[1].ctx.Err() == nil && r.jobs[1].Members()[0].Error == nil; i++ {
				r.target(1).say(note{Type: noteNeed, Round: i, EntriesFrom: &zero})
				time.Sleep(2 * time.Millisecond)
			}
		}()
		lose(t, s, "tree/small", 0)
	})
	r.start()
	if e := r.settled()["target-1"].Error; e == nil || e.Kind != sdk.KindIntegrity {
		t.Errorf("it says %+v", e)
	}
}

// TestCutRepair breaks the link in the middle of a repair pass, again and
// again: what had arrived, signed, is not sent again.
func TestCutRepair(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const pieces = 24
	data := bytes.Repeat([]byte("0123456789abcdef"), pieces<<16)
	for i := range pieces {
		data[i<<20] = byte(i)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, encrypt := range []bool{true, false} {
		t.Run(fmt.Sprintf("encrypt %v", encrypt), func(t *testing.T) {
			r, wires := wired(t, dir, 1, func(p *control.Start) {
				p.Settings.Encrypt, p.Settings.LimitRate = encrypt, 80<<20
			})
			var mu sync.Mutex
			var left []int // pieces missing at the end of each pass
			r.disturb(1, pointPassed, func(s sink, times int) {
				if times == 1 {
					all := make([]uint64, pieces)
					for i := range all {
						all[i] = uint64(i)
					}
					lose(t, s, "tree/large", all...)
				}
				missing := 0
				for _, x := range s.(*treeSink).files.missing(maxNeed) {
					missing += int(x.Count)
				}
				mu.Lock()
				left = append(left, missing)
				mu.Unlock()
			})
			r.start()
			wires[0].after(t, 24<<20)
			for i := range int64(2) {
				wires[0].after(t, 24<<20+(i+1)*10<<20)
				wires[0].cut()
			}
			r.well(dir)
			mu.Lock()
			defer mu.Unlock()
			if len(left) < 3 || left[0] != pieces || left[1] >= pieces || left[1] == 0 || left[len(left)-1] != 0 {
				t.Errorf("pieces missing after each pass: %v", left)
			}
		})
	}
}

// TestTamperedRepair alters what a repair pass brings.
func TestTamperedRepair(t *testing.T) {
	src := content(t)
	var repairing atomic.Bool
	r := newRig(t, src, 1, func(p *control.Start) {
		p.Settings.Encrypt = false
		p.Members[1].Port = tamper(t, p.Members[1].Port, func(_ int, f *frame.Frame) [][]byte {
			if f.Pass > 1 && f.Type == frame.TypeData {
				repairing.Store(true)
				f.Wire()[len(f.Wire())-1] ^= 1
			}
			return [][]byte{f.Wire()}
		})
	})
	r.disturb(1, pointPassed, func(s sink, _ int) { lose(t, s, "tree/a/large", 1) })
	r.start()
	e := r.settled()["target-1"].Error
	if e == nil || e.Kind != sdk.KindIntegrity || !strings.Contains(e.Message, "a/large") || !repairing.Load() {
		t.Errorf("it says %+v", e)
	}
}

// TestReplayedRepair: the frames of one repair pass are none of another.
func TestReplayedRepair(t *testing.T) {
	src := content(t)
	var mu sync.Mutex
	var first [][]byte
	r := newRig(t, src, 1, func(p *control.Start) {
		p.Settings.Encrypt = false
		p.Members[1].Port = tamper(t, p.Members[1].Port, func(n int, f *frame.Frame) [][]byte {
			mu.Lock()
			defer mu.Unlock()
			switch f.Pass {
			case 2:
				first = append(first, bytes.Clone(f.Wire()))
			case 3:
				if n < len(first) {
					return [][]byte{first[n]}
				}
			}
			return [][]byte{f.Wire()}
		})
	})
	r.disturb(1, pointPassed, func(s sink, times int) {
		if times <= 2 {
			lose(t, s, "tree/a/large", uint64(times))
		}
	})
	r.start()
	if e := r.settled()["target-1"].Error; e == nil || e.Kind != sdk.KindIntegrity {
		t.Errorf("it says %+v", e)
	}
}

// TestEntriesAreServed: a target that never saw the end of the tree gets the
// entries from there on, with all that they contain.
func TestEntriesAreServed(t *testing.T) {
	src := content(t)
	r := newRig(t, src, 1, nil)
	r.disturb(1, pointPassed, func(s sink, times int) {
		if times > 1 {
			return
		}
		// A target that has the first entries only, and knows no end.
		old := s.(*treeSink)
		const have = 3
		if err := os.Mkdir(filepath.Join(old.staging.MetaPath(), "short"), 0o700); err != nil {
			t.Fatal(err)
		}
		short, err := manifest.Create(filepath.Join(old.staging.MetaPath(), "short"), old.spool.Header())
		if err != nil {
			t.Fatal(err)
		}
		err = old.spool.Records(t.Context(), 0, func(n uint64, record []byte) error {
			if n >= have {
				return nil
			}
			_, _, err := short.Append(record)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint64(have) {
			d, err := old.spool.Digest(n)
			if err != nil {
				t.Fatal(err)
			}
			if err := short.SetDigest(n, d); err != nil {
				t.Fatal(err)
			}
		}
		list, err := filepath.Glob(filepath.Join(old.staging.Path(), "tree", "*"))
		if err != nil {
			t.Fatal(err)
		}
		keep := make(map[string]bool)
		for n := range uint64(have) {
			e, _ := short.Entry(n)
			keep[filepath.Join(old.staging.Path(), string(e.Path))] = true
		}
		for _, p := range list {
			if !keep[p] {
				if err := os.RemoveAll(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		old.spool.Close()
		old.disk.Close()
		if old.disk, err = tree.NewSink(old.staging.Data(), tree.SinkOptions{Root: os.Geteuid() == 0}); err != nil {
			t.Fatal(err)
		}
		old.spool, old.end, old.files = short, nil, newFiles(old.disk, old.t.meter, control.VerifyReadBack, false)
		m := &mender{t: r.target(1), s: s, nodes: map[uint64]*inquiry{}, moved: time.Now()}
		from := uint64(have)
		m.t.round++
		m.t.say(note{Type: noteNeed, Round: m.t.round, EntriesFrom: &from})
		ctx := r.target(1).life.ctx
		conn, err := m.await(ctx)
		if err != nil {
			t.Fatal(err)
		}
		took := newMending(m, old, conn.Hello.Pass)
		if err := m.receive(ctx, conn, took); err != nil {
			t.Fatal(err)
		}
	})
	r.start()
	r.well(src)
}

package agent

import (
	"math"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
)

func TestLoadBetweenGlances(t *testing.T) {
	start := glance{at: time.Now(), starved: time.Hour, writing: time.Hour, held: time.Hour, paced: time.Hour, wire: 1 << 40, cpu: cpuTimes{idle: 100, all: 1000}}
	const mb = 1_000_000
	for _, c := range []struct {
		name                                 string
		starved, writing, held, paced, coded time.Duration
		wire                                 int64
		idle                                 uint64
		want                                 codec.Load
	}{
		{"nothing", 0, 0, 0, 0, 0, 0, 100, codec.Load{Idle: 1}},
		{"a slow network", 0, 900, 950, 0, 0, 25 * mb, 50, codec.Load{Held: 0.9, Idle: 0.5}},
		{"a fast network", 300, 600, 500, 0, 0, 1000 * mb, 0, codec.Load{Held: 0.5, Starved: 0.3}},
		{"a peer that does not read", 0, 900, 10, 0, 0, 500 * mb, 0, codec.Load{Held: 0.01}},
		{"one that reads slowly counts as a slow network", 0, 900, 10, 0, 0, 20 * mb, 0, codec.Load{Held: 0.9}},
		{"a limit of the rate", 0, 10, 0, 900, 0, 200 * mb, 100, codec.Load{Held: 0.9, Idle: 1}},
		{"a connection made anew", 0, 900, -5000, 0, 0, 100 * mb, 0, codec.Load{}},
	} {
		now := start
		now.at = now.at.Add(time.Second)
		now.starved += c.starved * time.Millisecond
		now.writing += c.writing * time.Millisecond
		now.held += c.held * time.Millisecond
		now.paced += c.paced * time.Millisecond
		now.wire += c.wire
		now.cpu.idle += c.idle
		now.cpu.all += 100
		if diff := cmp.Diff(c.want, now.since(start), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// TestTunerSteps: what a sender's times say moves the compressor.
func TestTunerSteps(t *testing.T) {
	comp, err := newCompressor(control.Settings{Codec: codec.NameAuto})
	if err != nil {
		t.Fatal(err)
	}
	var rungs []int
	tune := newTuner(comp, newMeter("source", func() {}), func(rung int, _ codec.Load) { rungs = append(rungs, rung) })
	// All the time of a sender's that waits for frames, which the workers are
	// busy to compress.
	now, start := time.Now(), comp.rung.Load()
	tune.meter.idle.Start()
	for range 8 {
		tune.last.starved -= tunePeriod // as if it had passed
		comp.coding.Add(int64(tunePeriod) * maxParcels)
		tune.look(now, func() time.Duration { return 0 })
		now = now.Add(tunePeriod)
	}
	if start != startRung || comp.rung.Load() != 0 || len(rungs) != startRung {
		t.Errorf("from rung %d to %d, steps %v", start, comp.rung.Load(), rungs)
	}
	if readCPU() == (cpuTimes{}) {
		t.Error("the kernel does not tell of its processors")
	}
	var none *tuner
	none.look(now, nil)
}

func TestParseCPU(t *testing.T) {
	for _, c := range []struct {
		text string
		want cpuTimes
	}{
		{"cpu  10 20 30 400 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n", cpuTimes{idle: 405, all: 486}},
		{"cpu  10 20 30 400 5 6 7 8", cpuTimes{idle: 405, all: 486}},
		{"cpu0 10 20 30 400 5 6 7 8", cpuTimes{}},
		{"cpu  10 20 30 400 5 6 7", cpuTimes{}},
		{"cpu  10 20 30 -400 5 6 7 8", cpuTimes{}},
		{"", cpuTimes{}},
	} {
		if got := parseCPU([]byte(c.text)); got != c.want {
			t.Errorf("%q: %+v", c.text, got)
		}
	}
	if text, err := os.ReadFile("/proc/stat"); err != nil || parseCPU(text) == (cpuTimes{}) {
		t.Errorf("this kernel's /proc/stat: %v", err)
	}
}

func FuzzParseCPU(f *testing.F) {
	f.Add([]byte("cpu  10 20 30 400 5 6 7 8 9 10\n"), []byte("cpu  1 2 3 4 5 6 7 8"))
	f.Fuzz(func(t *testing.T, now, before []byte) {
		if share := parseCPU(now).idleSince(parseCPU(before)); math.IsNaN(share) || share < 0 || share > 1 {
			t.Fatalf("a share of %v", share)
		}
	})
}

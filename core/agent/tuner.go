package agent

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"github.com/transferpy/transferpy/core/agent/codec"
)

// tunePeriod is how long what a sender does is watched before the codec may
// change. Small against a transfer, large against a frame on a slow link.
const tunePeriod = 250 * time.Millisecond

// slowRate is a rate on the wire, in bytes a second, at which what
// decompressing takes on the targets does not matter. Below it, a peer that
// does not read counts as a slow link: what it waits for is the next hop, or
// a disk.
const slowRate = 64 << 20

// tuner watches a sender, and moves its compressor along the ladder. It is
// the sender's goroutine's.
type tuner struct {
	comp  *compressor
	meter *meter
	steps *codec.Stepper
	tell  func(rung int, l codec.Load) // of each step
	last  glance
}

// glance is what had been counted at a time; a Load is the difference of two.
type glance struct {
	at                     time.Time
	starved, writing, held time.Duration
	paced, coding          time.Duration
	wire                   int64
	cpu                    cpuTimes
}

// newTuner makes the tuner of a sender whose times m has; nil where there is
// nothing to choose.
func newTuner(c *compressor, m *meter, tell func(rung int, l codec.Load)) *tuner {
	if c.fixed != nil {
		return nil
	}
	return &tuner{comp: c, meter: m, tell: tell, steps: codec.NewStepper(startRung, len(c.ladder)-1)}
}

// look ends a period, if it is over; held is the connection's Held.
func (t *tuner) look(now time.Time, held func() time.Duration) {
	if t == nil || now.Sub(t.last.at) < tunePeriod {
		return
	}
	before := t.last
	t.last = glance{
		at: now, starved: t.meter.idle.Spent(), writing: t.meter.sending.Spent(), held: held(), paced: t.meter.paced.Spent(),
		coding: time.Duration(t.comp.coding.Load()), wire: t.meter.wire.Load(), cpu: readCPU(),
	}
	if before.at.IsZero() {
		return
	}
	load, rung := t.last.since(before), t.steps.Rung()
	if next := t.steps.Next(load); next != rung {
		t.comp.rung.Store(int32(next))
		t.tell(next, load)
	}
}

// since is the Load between two glances.
func (g glance) since(before glance) codec.Load {
	span := g.at.Sub(before.at)
	share := func(d time.Duration) float64 { return min(max(float64(d)/float64(span), 0), 1) }
	// A write blocks when the network is slow, and when the peer does not
	// read; the connection knows which. One that was made anew counts from 0.
	held := g.writing - before.writing
	if float64(g.wire-before.wire) >= slowRate*span.Seconds() {
		held = min(held, max(g.held-before.held, 0))
	}
	return codec.Load{
		Held:    share(held + g.paced - before.paced),
		Starved: share(g.starved - before.starved),
		Coding:  share((g.coding - before.coding) / time.Duration(min(workers(), maxParcels))),
		Idle:    g.cpu.idleSince(before.cpu),
	}
}

// cpuTimes are the host's processors' times since it started, in ticks.
type cpuTimes struct{ idle, all uint64 }

// readCPU reads them from the kernel; zero if it does not tell.
func readCPU() cpuTimes {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return cpuTimes{}
	}
	defer f.Close()
	b := make([]byte, 512) // the first line
	n, _ := f.Read(b)
	return parseCPU(b[:n])
}

// parseCPU reads the first line of /proc/stat: "cpu", then user, nice,
// system, idle, iowait, irq, softirq, steal and times that are part of these.
func parseCPU(stat []byte) cpuTimes {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return cpuTimes{}
	}
	var t cpuTimes
	for i, field := range fields[1:9] {
		n, err := strconv.ParseUint(string(field), 10, 63)
		if err != nil {
			return cpuTimes{}
		}
		t.all += n
		if i == 3 || i == 4 { // idle, and idle but for a disk
			t.idle += n
		}
	}
	return t
}

// idleSince is the share of the time since before that was idle; all of it
// where nobody can tell.
func (t cpuTimes) idleSince(before cpuTimes) float64 {
	if t.all <= before.all || t.idle < before.idle {
		return 1
	}
	return min(float64(t.idle-before.idle)/float64(t.all-before.all), 1)
}

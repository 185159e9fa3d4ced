package main

import (
	"fmt"
	"slices"
	"time"
)

// mark is a ratio that we want to stay below.
type mark struct {
	testCase, what string
	ours, peer     string
	limit          float64
	against        string // what is compared with, where that is no peer
	// ratio is what is compared with the limit; nil: our time without the
	// fixed cost, divided by the peer's time.
	ratio func(r *result, ours, peer *entry) float64
}

// marks are those of the project's plan, for two cores.
func marks() []mark {
	return []mark{
		{testCase: "innodb-tmpfs", what: "InnoDB directory, `--no-compress`", ours: oursPlain, peer: peerNC, limit: 0.45},
		{testCase: "innodb-tmpfs", what: "InnoDB directory, default codec", ours: oursDefault, peer: peerNC, limit: 0.6},
		{testCase: "large-tmpfs", what: "4 GB incompressible file, defaults", ours: oursDefault, peer: peerNC, limit: 0.5},
		{testCase: "small-tmpfs", what: "100,000 small files, defaults", ours: oursDefault, peer: peerNC, limit: 0.9},
		{testCase: "small-tmpfs", what: "100,000 small files, `--no-checksum`", ours: oursUnread, peer: peerNC, limit: 0.7},
		{testCase: "innodb-tmpfs", what: "InnoDB directory, defaults", ours: oursDefault, peer: peerRsync, limit: 0.35},
		{testCase: "innodb-disk", what: "InnoDB directory on disk, `--no-compress`", ours: oursPlain, peer: peerVerified, limit: 1},
		{testCase: "innodb-200mbit", what: "200 Mbit/s: time, against what the bytes need", ours: oursDefault, limit: 1.06, against: "the link", ratio: timeOfLink},
		{testCase: "innodb-200mbit", what: "200 Mbit/s: bytes", ours: oursDefault, peer: peerZstd, limit: 1.03, ratio: bytesOnLink},
		{testCase: "fan-200mbit", what: "two targets at 200 Mbit/s", ours: oursChain, peer: oursDefault, limit: 1.05, ratio: timeOfOne},
		{testCase: "fan-200mbit", what: "four targets at 200 Mbit/s", ours: oursFour, peer: oursDefault, limit: 1.10, ratio: timeOfOne},
		{testCase: "fan-200mbit", what: "eight targets at 200 Mbit/s", ours: oursEight, peer: oursDefault, limit: 1.20, ratio: timeOfOne},
		{testCase: "fan-tmpfs", what: "CPU of each further target of four", ours: oursFour, peer: oursDefault, against: "receiving alone + 0.6 s/GB on the wire", limit: 1, ratio: furtherTarget},
		{testCase: "million-disk", what: "1,000,000 files: memory of the largest agent", ours: oursChain, limit: 1, against: "256 MiB", ratio: largestAgent},
		{testCase: "sparse-disk", what: "sparse file of 20 GB: memory of the largest agent", ours: oursChain, limit: 1, against: "256 MiB", ratio: largestAgent},
	}
}

// timeOfLink is our time against what our bytes need on a link that is always
// full, both without what the transfer of 1 MB takes in the same run.
func timeOfLink(r *result, ours, _ *entry) float64 {
	need := float64(ours.wire()-r.fixed.wire()) * 8 / float64(r.bits)
	return r.net(ours).Seconds() / need
}

// agentLimit is what an agent may take, whatever it copies.
const agentLimit = 256 << 20

// largestAgent is the largest agent of all runs of the case, against what it
// may take.
func largestAgent(r *result, _, _ *entry) float64 {
	var largest int64
	for i := range r.entries {
		source, relay, target := r.entries[i].peaks()
		largest = max(largest, source, relay, target)
	}
	return float64(largest) / agentLimit
}

// timeOfOne is the whole time with several targets against that with one.
func timeOfOne(_ *result, several, one *entry) float64 {
	return several.wall().Seconds() / one.wall().Seconds()
}

// relayCost is what passing on may cost a target, in CPU seconds for each GB
// on the wire.
const relayCost = 0.6

// furtherTarget is the CPU time of each target beyond the first, and what it
// adds to the source's, against that of one which only receives and relayCost.
func furtherTarget(_ *result, several, one *entry) float64 {
	further := float64(several.fan - 1)
	each := (several.cpu() - one.cpu()).Seconds() / further
	return each / (one.target().Seconds() + relayCost*float64(one.wire())/1e9)
}

// bytesOnLink is our bytes against the peer's.
func bytesOnLink(_ *result, ours, peer *entry) float64 {
	return float64(ours.wire()) / float64(peer.wire())
}

// value is the mark's ratio in these results, and that of CPU time where it
// has one; false when it was not measured.
func (m mark) value(results []*result) (ratio, cpu float64, measured bool) {
	for _, r := range results {
		if r.name != m.testCase {
			continue
		}
		ours, peer := r.entry(m.ours), r.entry(m.peer)
		switch {
		case ours == nil || len(r.fixed.runs) == 0:
			return 0, 0, false
		case m.ratio != nil && (m.peer == "" || peer != nil):
			return m.ratio(r, ours, peer), 0, true
		case peer != nil && m.ratio == nil:
			return r.ratio(ours, peer), r.cpuRatio(ours, peer), true
		}
	}
	return 0, 0, false
}

// entry is the contender of that name, or nil when it has no run.
func (r *result) entry(name string) *entry {
	for i := range r.entries {
		if r.entries[i].name == name && len(r.entries[i].runs) > 0 {
			return &r.entries[i]
		}
	}
	return nil
}

// ratio is our time, without the fixed cost, to a peer's time.
func (r *result) ratio(ours, peer *entry) float64 {
	return r.net(ours).Seconds() / peer.wall().Seconds()
}

// cpuRatio is the same of the CPU time of both hosts together. Others who use
// the machine disturb it less.
func (r *result) cpuRatio(ours, peer *entry) float64 {
	return float64(ours.cpu()-r.fixed.cpu()) / float64(peer.cpu())
}

// net is the time without what a transfer of 1 MB takes in the same run.
func (r *result) net(ours *entry) time.Duration { return ours.wall() - r.fixed.wall() }

func (e *entry) wall() time.Duration {
	return median(e.runs, func(o run) time.Duration { return o.wall })
}
func (e *entry) cpu() time.Duration {
	return median(e.runs, func(o run) time.Duration { return o.source + o.target })
}
func (e *entry) source() time.Duration {
	return median(e.runs, func(o run) time.Duration { return o.source })
}
func (e *entry) target() time.Duration {
	return median(e.runs, func(o run) time.Duration { return o.target })
}
func (e *entry) wire() int64 { return median(e.runs, func(o run) int64 { return o.wire }) }

// peaks are the largest memory of all runs.
func (e *entry) peaks() (source, relay, target int64) {
	for _, o := range e.runs {
		source, relay, target = max(source, o.sourcePeak), max(relay, o.relayPeak), max(target, o.targetPeak)
	}
	return source, relay, target
}

// median is the middle of what runs show, of an even number the lower one.
// There is at least one run.
func median[T time.Duration | int64](runs []run, of func(run) T) T {
	var all []T
	for _, one := range runs {
		all = append(all, of(one))
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}

// verdict is a mark as a line of the table.
func (m mark) verdict(results []*result) string {
	peer := code(m.peer)
	if m.against != "" {
		peer = m.against
	}
	value, cpu, measured := m.value(results)
	if !measured {
		return fmt.Sprintf("| %s | %s | %.2f | - | - | not measured |", m.what, peer, m.limit)
	}
	shown := "-"
	if m.ratio == nil {
		shown = fmt.Sprintf("%.2f", cpu)
	}
	word := "reached"
	if value > m.limit {
		word = "**not reached**"
	}
	return fmt.Sprintf("| %s | %s | %.2f | %.2f | %s | %s |", m.what, peer, m.limit, value, shown, word)
}

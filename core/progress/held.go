package progress

import (
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// Cause is a part of the pipeline that all others wait for.
type Cause string

// The causes.
const (
	CauseUnknown    Cause = ""
	CauseSourceDisk Cause = "source-disk" // reading, or the command that is read
	CauseSourceCPU  Cause = "source-cpu"  // digests, compression, the cipher
	CauseLimit      Cause = "limit"       // a limit of the rate that was asked for
	CauseLink       Cause = "link"        // the network
	CauseTargetDisk Cause = "target-disk" // writing, reading back, or the command that is fed
	CauseTargetCPU  Cause = "target-cpu"  // digests, decompression
)

// held finds what holds a chain back, and at which of its members; a link
// counts as its receiving end's. spent is what the members did in one stretch
// of time, the source first, nil for those of whom nothing is known.
//
// It is decided here and not by the agents since none of them can: a sender
// that is blocked in a write has a slow link or a slow peer, and only what
// the peer does meanwhile tells which.
func held(spent []*control.Times) (Cause, int) {
	source := spent[0]
	if source == nil || source.Alive <= 0 {
		return CauseUnknown, 0
	}
	own := source.Alive - source.Idle - source.Sending - source.Paced
	switch most := max(source.Paced, source.Sending, source.Idle, own); {
	case most == source.Paced:
		return CauseLimit, 0
	case most == source.Sending, most == source.Idle && source.Full > source.Disk+source.CPU+source.Braked:
		return heldBelow(spent)
	case most == source.Idle && source.Braked > max(source.Disk, source.CPU):
		return CauseLimit, 0
	case most == source.Idle && source.Disk >= source.CPU:
		return CauseSourceDisk, 0
	}
	return CauseSourceCPU, 0
}

// heldBelow goes down the chain from a source that is not the cause.
func heldBelow(spent []*control.Times) (Cause, int) {
	for i, t := range spent[1:] {
		i++
		switch {
		case t == nil || t.Alive <= 0:
			return CauseUnknown, 0
		case t.Taking+t.Idle < t.Alive/10:
			continue // it has got all
		case t.Taking >= t.Idle:
			return heldByWork(t), i
		case t.Full < t.Idle/2 || i+1 == len(spent):
			return CauseLink, i
		}
		// It has nothing to do and does not receive either: its buffers wait
		// for the next of the chain.
	}
	return CauseUnknown, 0
}

// heldByWork is what a target's workers spend most of their time with.
func heldByWork(t *control.Times) Cause {
	if t.Disk >= t.CPU {
		return CauseTargetDisk
	}
	return CauseTargetCPU
}

// between is what was spent from a to b; nil if either does not tell, or if
// they are not two states of one member.
func between(a, b *control.Times) *control.Times {
	if a == nil || b == nil || b.Alive < a.Alive {
		return nil
	}
	since := func(a, b time.Duration) time.Duration { return max(b-a, 0) } // the watches are not read at one moment
	return &control.Times{
		Alive: since(a.Alive, b.Alive), Idle: since(a.Idle, b.Idle), Sending: since(a.Sending, b.Sending), Paced: since(a.Paced, b.Paced),
		Taking: since(a.Taking, b.Taking), Full: since(a.Full, b.Full), Braked: since(a.Braked, b.Braked), Disk: since(a.Disk, b.Disk), CPU: since(a.CPU, b.CPU),
	}
}

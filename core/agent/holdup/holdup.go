// Package holdup tells which member of a chain the others wait for, and what
// that one is busy with, from what all of them spent their time with.
package holdup

import (
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// Cause is a part of the pipeline that all others wait for.
type Cause string

// The causes.
const (
	Unknown    Cause = ""
	SourceDisk Cause = "source-disk" // reading, or the command that is read
	SourceCPU  Cause = "source-cpu"  // digests, compression, the cipher
	Limit      Cause = "limit"       // a limit of the rate that was asked for
	Link       Cause = "link"        // the network
	TargetDisk Cause = "target-disk" // writing, reading back, or the command that is fed
	TargetCPU  Cause = "target-cpu"  // digests, decompression
)

// Find finds what holds a chain back, and at which of its members; a link
// counts as its receiving end's. spent is what the members did in one stretch
// of time, the source first, nil for those of whom nothing is known.
//
// It takes what all of them did: a sender that is blocked in a write has a slow
// link or a slow peer, and only what the peer does meanwhile tells which.
func Find(spent []*control.Times) (Cause, int) {
	source := spent[0]
	if source == nil || source.Alive <= 0 {
		return Unknown, 0
	}
	own := source.Alive - source.Idle - source.Sending - source.Paced
	switch most := max(source.Paced, source.Sending, source.Idle, own); {
	case most == source.Paced:
		return Limit, 0
	case most == source.Sending, most == source.Idle && source.Full > source.Disk+source.CPU+source.Braked:
		return heldBelow(spent)
	case most == source.Idle && source.Braked > max(source.Disk, source.CPU):
		return Limit, 0
	case most == source.Idle && source.Disk >= source.CPU:
		return SourceDisk, 0
	}
	return SourceCPU, 0
}

// heldBelow goes down the chain from a source that is not the cause.
func heldBelow(spent []*control.Times) (Cause, int) {
	for i, t := range spent[1:] {
		i++
		switch {
		case t == nil || t.Alive <= 0:
			return Unknown, 0
		case hasAll(t):
			continue
		case t.Taking >= t.Idle:
			return Work(t), i
		case !passes(spent[i-1], t) || i+1 == len(spent):
			return Link, i
		}
	}
	return Unknown, 0
}

// passes reports whether a target that has nothing to do waits for the next of
// the chain, and not for the one before it: its buffers are full; or it is blocked
// in sending, while those of the one before are full and that has nothing to
// send, since it keeps what the next has not got.
func passes(before, t *control.Times) bool {
	return t.Full >= t.Idle/2 || t.Sending >= t.Alive/2 && before.Full >= before.Alive/2 && before.Sending < before.Alive/2
}

// Work is what a target's workers spend most of their time with.
func Work(t *control.Times) Cause {
	if t.Disk >= t.CPU {
		return TargetDisk
	}
	return TargetCPU
}

// Between is what was spent from a to b; nil if either does not tell, or if
// they are not two states of one member.
func Between(a, b *control.Times) *control.Times {
	if a == nil || b == nil || b.Alive < a.Alive {
		return nil
	}
	since := func(a, b time.Duration) time.Duration { return max(b-a, 0) } // the watches are not read at one moment
	return &control.Times{
		Alive: since(a.Alive, b.Alive), Idle: since(a.Idle, b.Idle), Sending: since(a.Sending, b.Sending), Paced: since(a.Paced, b.Paced),
		Taking: since(a.Taking, b.Taking), Full: since(a.Full, b.Full), Braked: since(a.Braked, b.Braked), Disk: since(a.Disk, b.Disk), CPU: since(a.CPU, b.CPU),
	}
}

// Slow finds the target that the others wait for and could do without: it holds
// the chain back, while at least half of the other targets have nothing to do for
// half of the time or more, and so could take at least twice of what they get.
// Targets that have got all count for neither side. 0: there is none such, as
// where all are equally slow.
func Slow(spent []*control.Times) (Cause, int) {
	cause, at := Find(spent)
	if at == 0 || cause == Link && at == 1 { // which may be the source's own, and so slow to all
		return Unknown, 0
	}
	wait, others := 0, 0
	for i, t := range spent[1:] {
		if i+1 == at || t == nil || hasAll(t) {
			continue
		}
		others++
		if t.Idle >= t.Alive/2 {
			wait++
		}
	}
	if wait == 0 || 2*wait < others {
		return Unknown, 0
	}
	return cause, at
}

// hasAll reports whether a target has got all that is to come to it, or takes
// nothing any more.
func hasAll(t *control.Times) bool { return t.Taking+t.Idle < t.Alive/10 }

// Package progress makes of what agents count what people want to know of a
// transfer under way: how much of what, how fast, how long still, and what
// holds it back. It claims nothing that it cannot know.
package progress

import (
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/sdk"
)

// Window is the stretch of time over which rates and causes are taken: long
// enough to be calm, short enough to follow. Where answers come more rarely,
// it is from one to the next.
const Window = 10 * time.Second

// longest is a time left beyond which there is no use in telling it.
const longest = 365 * 24 * time.Hour

// Expected is what is known beforehand of the whole.
type Expected struct {
	Bytes    int64 // -1: unknown
	AtLeast  bool  // Bytes is a lower bound
	ReadBack bool  // targets read back what they have written
}

// Reading is what was last heard of one member.
type Reading struct {
	Host   string
	Path   sdk.Raw
	Status control.MemberStatus
	At     time.Time // when it was heard; zero: nothing was yet
}

// Member is a reading and what follows from it and those before.
type Member struct {
	Reading

	// Done of Total bytes are moved or, by a target that verifies, read back.
	// Total is -1 where it is unknown. With AtLeast it is a lower bound, and
	// larger than Done.
	Done, Total int64
	AtLeast     bool

	Rate  float64       // Done's growth in bytes a second; -1: not known yet
	Ratio float64       // bytes moved for each byte on the wire; 0: not known yet
	Left  time.Duration // until Done is Total, at this rate, from At on; -1: not known

	Held     holdup.Cause // what holds a target back
	HeldHost string       // the host concerned; for holdup.Link the receiving one
}

// Verifying reports whether Done counts what is read back.
func (m *Member) Verifying() bool { return m.Status.Phase == control.PhaseVerifying }

// AtWork reports whether a member has something left to do before it waits
// for the commit.
func (m *Member) AtWork() bool { return !m.Status.Phase.AtLeast(control.PhaseVerified) }

// Tracker remembers the readings of one transfer for as long as they matter.
// It is not safe for concurrent use.
type Tracker struct {
	expected Expected
	members  []history
}

// New makes a Tracker.
func New(expected Expected) *Tracker { return &Tracker{expected: expected} }

// history are the readings of one member within the window, in one phase.
type history []Reading

// Add takes the readings of all members, the source first and the targets in
// the order of the chain, and tells what follows. Readings that are not newer
// than the last count once.
func (t *Tracker) Add(readings []Reading) []Member {
	if len(t.members) != len(readings) {
		t.members = make([]history, len(readings))
	}
	out, spent := make([]Member, len(readings)), make([]*control.Times, len(readings))
	for i, r := range readings {
		t.members[i] = t.members[i].add(r)
		out[i] = t.member(r, t.members[i])
		spent[i] = t.members[i].spent()
	}
	cause, where := holdup.Find(spent)
	for i := 1; i < len(out); i++ {
		m := &out[i]
		if out[0].Ratio > 0 {
			// Frames are compressed once for all; what a target has of them and
			// has not written yet would count for nothing.
			m.Ratio = out[0].Ratio
		}
		switch {
		case m.Verifying() && spent[i] != nil:
			m.Held, m.HeldHost = holdup.Work(spent[i]), m.Host
		case m.Status.Phase == control.PhaseMoving && cause != holdup.Unknown:
			m.Held, m.HeldHost = cause, out[where].Host
		}
	}
	return out
}

// add appends what is new and drops what is older than the window, but for
// the last two, and all that was another phase's.
func (h history) add(r Reading) history {
	if n := len(h); r.At.IsZero() || n > 0 && !r.At.After(h[n-1].At) {
		return h
	}
	if n := len(h); n > 0 && (passed(h[n-1], control.PhaseMoving) != passed(r, control.PhaseMoving) ||
		passed(h[n-1], control.PhaseVerifying) != passed(r, control.PhaseVerifying)) {
		h = nil
	}
	h = append(h, r)
	for len(h) > 2 && r.At.Sub(h[0].At) > Window {
		h = h[1:]
	}
	return h
}

func passed(r Reading, p control.Phase) bool { return r.Status.Phase.AtLeast(p) }

// spent is what the member did within the window.
func (h history) spent() *control.Times {
	if len(h) < 2 {
		return nil
	}
	return holdup.Between(h[0].Status.Times, h[len(h)-1].Status.Times)
}

// elapsed is the time between the oldest and the newest reading: by the
// member's own clock if it tells, since an answer may have been long under
// way.
func (h history) elapsed() time.Duration {
	if len(h) < 2 {
		return 0
	}
	if spent := h.spent(); spent != nil && spent.Alive > 0 {
		return spent.Alive
	}
	return h[len(h)-1].At.Sub(h[0].At)
}

func (t *Tracker) member(r Reading, h history) Member {
	m := Member{Reading: r, Rate: -1, Left: -1}
	m.Done, m.Total, m.AtLeast = t.extent(r.Status)
	if r.Status.Wire > 0 {
		m.Ratio = float64(r.Status.Bytes) / float64(r.Status.Wire)
	}
	if elapsed := h.elapsed().Seconds(); elapsed > 0 && (t.expected.ReadBack || !m.Verifying()) {
		first, _, _ := t.extent(h[0].Status)
		last, _, _ := t.extent(h[len(h)-1].Status)
		m.Rate = max(float64(last-first)/elapsed, 0)
	}
	if m.Total >= m.Done && !m.AtLeast && m.Rate >= 1 && m.AtWork() {
		if left := float64(m.Total-m.Done) / m.Rate; left < longest.Seconds() {
			m.Left = time.Duration(left * float64(time.Second))
		}
	}
	return m
}

// extent is how much of what a member has done. More than was expected is no
// "100 %": then what was expected was wrong.
func (t *Tracker) extent(s control.MemberStatus) (done, total int64, atLeast bool) {
	if s.Phase == control.PhaseVerifying && t.expected.ReadBack {
		if s.Checked > s.Bytes { // links that are files of their own count once each
			return s.Checked, -1, false
		}
		return s.Checked, s.Bytes, false
	}
	total, atLeast = t.expected.Bytes, t.expected.AtLeast
	if s.Total > 0 {
		total, atLeast = s.Total, false
	}
	if total < s.Bytes || atLeast && total == s.Bytes {
		total, atLeast = -1, false
	}
	return s.Bytes, total, atLeast
}

package progress

import (
	"math"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
)

var began = time.Date(2026, 11, 23, 15, 30, 0, 0, time.UTC)

// feed gives a tracker of a source and one target a status of the target for
// each of seconds, and returns the last answer on it.
func feed(e Expected, seconds []int, status func(second int) control.MemberStatus) Member {
	t := New(e)
	var m Member
	for _, s := range seconds {
		at := began.Add(time.Duration(s) * time.Second)
		m = t.Add([]Reading{{Host: "db1", At: at}, {Host: "db2", Status: status(s), At: at}})[1]
	}
	return m
}

// TestRatioIsTheSources: what a target holds and has not written yet is no
// worse compression.
func TestRatioIsTheSources(t *testing.T) {
	got := New(Expected{Bytes: 1000}).Add([]Reading{
		{Host: "db1", At: began, Status: control.MemberStatus{Phase: control.PhaseMoving, Bytes: 300, Wire: 100}},
		{Host: "db2", At: began, Status: control.MemberStatus{Phase: control.PhaseMoving, Bytes: 50, Wire: 100}},
	})
	if got[1].Ratio != 3 {
		t.Errorf("ratio %v", got[1].Ratio)
	}
}

// upTo is 0 to n.
func upTo(n int) []int {
	var list []int
	for i := range n + 1 {
		list = append(list, i)
	}
	return list
}

func TestMember(t *testing.T) {
	moving := func(rate int64) func(int) control.MemberStatus {
		return func(s int) control.MemberStatus {
			return control.MemberStatus{Phase: control.PhaseMoving, Bytes: int64(s) * rate, Wire: int64(s) * rate / 2}
		}
	}
	verifying := func(s int) control.MemberStatus {
		if s < 5 {
			return moving(200)(s)
		}
		return control.MemberStatus{Phase: control.PhaseVerifying, Bytes: 1000, Checked: int64(s-5) * 100, Wire: 500}
	}
	cases := map[string]struct {
		expected    Expected
		seconds     []int
		status      func(int) control.MemberStatus
		done, total int64
		atLeast     bool
		rate, ratio float64
		left        time.Duration
	}{
		"one answer":         {Expected{Bytes: 1000}, []int{0}, moving(10), 0, 1000, false, -1, 0, -1},
		"steady":             {Expected{Bytes: 1000}, upTo(20), moving(10), 200, 1000, false, 10, 2, 80 * time.Second},
		"unknown total":      {Expected{Bytes: -1}, upTo(20), moving(10), 200, -1, false, 10, 2, -1},
		"a lower bound":      {Expected{Bytes: 1000, AtLeast: true}, upTo(20), moving(10), 200, 1000, true, 10, 2, -1},
		"past a lower bound": {Expected{Bytes: 150, AtLeast: true}, upTo(20), moving(10), 200, -1, false, 10, 2, -1},
		"at a lower bound":   {Expected{Bytes: 200, AtLeast: true}, upTo(20), moving(10), 200, -1, false, 10, 2, -1},
		"more than expected": {Expected{Bytes: 150}, upTo(20), moving(10), 200, -1, false, 10, 2, -1},
		"all there":          {Expected{Bytes: 200}, upTo(20), moving(10), 200, 200, false, 10, 2, 0},
		"nothing moves":      {Expected{Bytes: 1000}, upTo(20), moving(0), 0, 1000, false, 0, 0, -1},
		"too slow to tell":   {Expected{Bytes: math.MaxInt64}, upTo(20), moving(1), 20, math.MaxInt64, false, 1, 0, -1},
		"once a minute":      {Expected{Bytes: 6000}, []int{0, 60, 120}, moving(10), 1200, 6000, false, 10, 2, 480 * time.Second},
		"the agent's own total": {Expected{Bytes: 100, AtLeast: true}, upTo(20), func(s int) control.MemberStatus {
			m := moving(10)(s)
			m.Total = 400
			return m
		}, 200, 400, false, 10, 2, 20 * time.Second},
		"the rate of the last 10 s only": {Expected{Bytes: 30000}, upTo(30), func(s int) control.MemberStatus {
			return control.MemberStatus{Phase: control.PhaseMoving, Bytes: int64(min(s, 20))*1000 + int64(max(s-20, 0))*10, Wire: 1}
		}, 20100, 30000, false, 10, 20100, 990 * time.Second},
		"verifying counts anew":    {Expected{Bytes: 1000, ReadBack: true}, upTo(8), verifying, 300, 1000, false, 100, 2, 7 * time.Second},
		"verifying has just begun": {Expected{Bytes: 1000, ReadBack: true}, upTo(5), verifying, 0, 1000, false, -1, 2, -1},
		"nothing is read back":     {Expected{Bytes: 1000}, upTo(8), verifying, 1000, 1000, false, -1, 2, -1},
		"verified": {Expected{Bytes: 1000}, upTo(8), func(s int) control.MemberStatus {
			return control.MemberStatus{Phase: control.PhaseVerified, Bytes: 1000, Wire: 500}
		}, 1000, 1000, false, 0, 2, -1},
		"an agent's own clock": {Expected{Bytes: 1000}, []int{0, 1, 2}, func(s int) control.MemberStatus { // the second answer was late
			m := moving(10)([]int{0, 1, 4}[s])
			m.Times = &control.Times{Alive: time.Duration([]int{0, 1, 4}[s]) * time.Second}
			return m
		}, 40, 1000, false, 10, 2, 96 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := feed(c.expected, c.seconds, c.status)
			if m.Done != c.done || m.Total != c.total || m.AtLeast != c.atLeast || m.Rate != c.rate || m.Left != c.left ||
				c.ratio > 0 && m.Ratio != c.ratio {
				t.Errorf("%d of %d (at least: %v), rate %v, ratio %v, left %v; want %d of %d (%v), %v, %v, %v",
					m.Done, m.Total, m.AtLeast, m.Rate, m.Ratio, m.Left, c.done, c.total, c.atLeast, c.rate, c.ratio, c.left)
			}
		})
	}
}

// TestSilentMember holds what is said of a member whose agent does not answer
// any more to what it said last, with its time.
func TestSilentMember(t *testing.T) {
	tr := New(Expected{Bytes: 1000})
	var m Member
	for s := range 60 {
		at := began.Add(time.Duration(min(s, 5)) * time.Second)
		status := control.MemberStatus{Phase: control.PhaseMoving, Bytes: int64(min(s, 5)) * 10}
		m = tr.Add([]Reading{{At: began.Add(time.Duration(s) * time.Second)}, {Status: status, At: at}})[1]
	}
	if m.Rate != 10 || m.Left != 95*time.Second || !m.At.Equal(began.Add(5*time.Second)) {
		t.Errorf("%+v", m)
	}
	if n := len(tr.members[1]); n > 12 {
		t.Errorf("%d readings are remembered", n)
	}
}

// share makes times of ten seconds out of hundredths of them.
func share(idle, sending, paced, taking, full, disk, cpu int) *control.Times {
	part := func(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }
	return &control.Times{Alive: part(100), Idle: part(idle), Sending: part(sending), Paced: part(paced),
		Taking: part(taking), Full: part(full), Disk: part(disk), CPU: part(cpu)}
}

func TestHeldOfMembers(t *testing.T) {
	tr := New(Expected{Bytes: 1000, ReadBack: true})
	add := func(second int, spent [4]*control.Times) []Member {
		var list []Reading
		for i, host := range []string{"db1", "db2", "db3", "db4"} {
			s := control.MemberStatus{Phase: control.PhaseMoving, Times: &control.Times{}}
			if i == 3 {
				s.Phase = control.PhaseVerifying
			}
			if second > 0 {
				s.Times = spent[i]
			}
			list = append(list, Reading{Host: host, Status: s, At: began.Add(time.Duration(second) * time.Second)})
		}
		return tr.Add(list)
	}
	add(0, [4]*control.Times{})
	got := add(10, [4]*control.Times{share(3, 90, 0, 0, 0, 20, 10), share(80, 90, 0, 15, 85, 20, 10), share(2, 0, 0, 95, 90, 300, 40), share(0, 0, 0, 0, 0, 50, 300)})
	for i, want := range []struct {
		cause holdup.Cause
		host  string
	}{{holdup.Unknown, ""}, {holdup.TargetDisk, "db3"}, {holdup.TargetDisk, "db3"}, {holdup.TargetCPU, "db4"}} {
		if got[i].Held != want.cause || got[i].HeldHost != want.host {
			t.Errorf("member %d is held by %q of %s, want %q of %s", i, got[i].Held, got[i].HeldHost, want.cause, want.host)
		}
	}
}

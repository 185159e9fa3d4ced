package codec

import (
	"math/rand/v2"
	"testing"
)

// Loads as they are seen.
var (
	slowLink  = Load{Held: 0.95, Idle: 0.7, Coding: 0.1}
	fastLink  = Load{Held: 0.05, Starved: 0.8, Coding: 0.5, Idle: 0.02}
	busyPeer  = Load{Held: 0.1, Starved: 0.1, Coding: 0.3, Idle: 0.01} // on the same processors
	slowDisk  = Load{Held: 0.05, Starved: 0.9, Coding: 0.05, Idle: 0.8}
	slowPeer  = Load{Held: 0.1, Idle: 0.6, Coding: 0.1}
	heldBusy  = Load{Held: 0.9, Idle: 0.05, Coding: 0.6}
	manyCores = Load{Held: 0.05, Starved: 0.8, Coding: 0.6, Idle: 0.7}
	balanced  = Load{Held: 0.5, Starved: 0.25, Coding: 0.3, Idle: 0.1}
)

// phase is a Load that lasts.
type phase struct {
	load    Load
	periods int
}

func TestStepper(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   int
		phases []phase
		want   int
	}{
		{"a slow link ends at the top", 1, []phase{{slowLink, 10}}, 4},
		{"one period is not enough", 1, []phase{{slowLink, 1}}, 1},
		{"two are", 1, []phase{{slowLink, 2}}, 2},
		{"two that do not follow each other are not", 1, []phase{{slowLink, 1}, {balanced, 1}, {slowLink, 1}}, 1},
		{"a fast link and slow processors end with none", 4, []phase{{fastLink, 10}}, 0},
		{"compressing gives way to who works on the same processors", 1, []phase{{busyPeer, 4}}, 0},
		{"a slow disk changes nothing", 2, []phase{{slowDisk, 100}}, 2},
		{"a target that does not keep up changes nothing", 2, []phase{{slowPeer, 100}}, 2},
		{"busy processors are no reason to send more, as long as frames come in time", 1, []phase{{heldBusy, 10}}, 4},
		{"a file on one core among many is compressed less", 3, []phase{{manyCores, 2}}, 2},
		{"a moment without processors is forgotten", 1, []phase{{slowLink, 10}, {fastLink, 8}, {slowLink, 24}}, 4},
		{"nothing goes uncompressed that the link has no room for", 1, []phase{{Load{Held: 0.35, Starved: 0.5, Coding: 0.5}, 100}}, 1},
		{"what is in balance stays", 2, []phase{{balanced, 100}}, 2},
		{"a link that becomes slow", 1, []phase{{fastLink, 20}, {slowLink, 30}}, 4},
		{"a link that becomes fast", 1, []phase{{slowLink, 30}, {fastLink, 10}}, 0},
	} {
		s := NewStepper(c.from, 4)
		for _, p := range c.phases {
			for range p.periods {
				s.Next(p.load)
			}
		}
		if s.Rung() != c.want {
			t.Errorf("%s: rung %d, not %d", c.name, s.Rung(), c.want)
		}
	}
}

// TestStepperDoesNotFlap: where one rung is too low and the next too high,
// the steps become rare.
func TestStepperDoesNotFlap(t *testing.T) {
	s, steps, before := NewStepper(1, 4), 0, 1
	for range 2000 {
		l := slowLink
		if s.Rung() > 2 {
			l = fastLink
		}
		if rung := s.Next(l); rung != before {
			steps, before = steps+1, rung
		}
	}
	if steps > 90 {
		t.Errorf("%d steps in 2000 periods", steps)
	}
}

// TestStepperStaysOnTheLadder: whatever it sees, a step is one rung and stays
// on the ladder.
func TestStepperStaysOnTheLadder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	loads := []Load{slowLink, fastLink, busyPeer, slowDisk, slowPeer, heldBusy, manyCores, balanced, {}}
	s := NewStepper(0, 4)
	for range 10000 {
		before := s.Rung()
		rung := s.Next(loads[rng.IntN(len(loads))])
		if rung < 0 || rung > 4 || rung-before > 1 || before-rung > 1 {
			t.Fatalf("from rung %d to %d", before, rung)
		}
	}
}

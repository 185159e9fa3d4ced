package codec

// Load is what was seen of a sender in one period. All four are shares, from
// 0 to 1.
type Load struct {
	Held    float64 // of the time, in which the link held the sender back
	Starved float64 // of the time, in which the sender waited for a frame to be made
	Coding  float64 // of the workers' time, that went into compressing
	Idle    float64 // of the host's processors' time
}

// What a Load has to be like for a step, and how long. Between the marks
// nothing happens, and a step up that turned out wrong is not repeated soon:
// so the choice does not flap.
const (
	patience = 2 // periods in a row

	heldUp    = 0.6  // the link is what it waits for,
	idleUp    = 0.15 // there are processors for more work,
	starvedUp = 0.2  // and the frames are made in time

	heldDown    = 0.4  // the link is not what it waits for,
	starvedDown = 0.3  // but for frames, because
	codingDown  = 0.25 // compressing takes the time;
	idleDown    = 0.05 // or somebody else on the host could use the time

	barLeast = 4   // periods without a step up after the first step down,
	barMost  = 256 // doubled with each up to here,
	barClear = 32  // until there was none for so long
)

// Stepper chooses a rung of a Ladder, period by period, from the Load: up when
// the link is too slow for what the host could compress, down when compressing
// costs more time than the link would. It is one goroutine's.
type Stepper struct {
	rung, top  int
	up, down   int // periods in a row that ask for a step
	bar, quiet int // how long no step up follows a step down; periods since that
}

// NewStepper returns a Stepper for rungs 0 to top that begins at rung.
func NewStepper(rung, top int) *Stepper { return &Stepper{rung: rung, top: top} }

// Rung is the rung that holds now.
func (s *Stepper) Rung() int { return s.rung }

// Next takes the Load of a period and returns the rung for the next one: the
// same or one beside it.
func (s *Stepper) Next(l Load) int {
	s.quiet++
	up, down := wants(l)
	s.up, s.down = count(s.up, up && s.rung < s.top), count(s.down, down && s.rung > 0)
	switch {
	case s.up >= patience && s.quiet > s.bar:
		s.rung++
		s.up = 0
	case s.down >= patience:
		if s.quiet > s.bar+barClear {
			s.bar = 0
		}
		s.rung--
		s.down, s.quiet, s.bar = 0, 0, min(max(2*s.bar, barLeast), barMost)
	}
	return s.rung
}

// wants tells which step a period asks for.
func wants(l Load) (up, down bool) {
	up = l.Held >= heldUp && l.Idle >= idleUp && l.Starved <= starvedUp
	slow := l.Starved >= starvedDown && l.Coding >= codingDown
	down = l.Held <= heldDown && (slow || l.Idle <= idleDown)
	return up, down
}

func count(n int, more bool) int {
	if more {
		return n + 1
	}
	return 0
}

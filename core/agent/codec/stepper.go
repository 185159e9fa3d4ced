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

	heldUp    = 0.6 // the link is what it waits for,
	starvedUp = 0.2 // and the frames are made in time: also beside others' work

	heldDown    = 0.4  // the link is not what it waits for,
	heldNone    = 0.3  // and has room for what is not compressed at all;
	starvedDown = 0.3  // but for frames, because
	codingDown  = 0.25 // compressing takes the time;
	idleDown    = 0.05 // or somebody else on the host could use the time

	barLeast = 4  // periods for which a rung is barred when it turned out too high,
	barMost  = 8  // doubled each time up to this, itself doubled for each rung,
	barClear = 32 // unless it had held for so many
)

// Stepper chooses a rung of a Ladder, period by period, from the Load: up while
// the link is slower than what is compressed for it, down when compressing
// costs more time than the link would. It is one goroutine's.
type Stepper struct {
	rung     int
	up, down int // periods in a row that ask for a step
	held     int // periods on this rung
	now      int // periods in all
	bars     []bar
}

// bar keeps a Stepper from a rung.
type bar struct{ length, until int }

// NewStepper returns a Stepper for rungs 0 to top that begins at rung.
func NewStepper(rung, top int) *Stepper { return &Stepper{rung: rung, bars: make([]bar, top+1)} }

// Rung is the rung that holds now.
func (s *Stepper) Rung() int { return s.rung }

// Next takes the Load of a period and returns the rung for the next one: the
// same or one beside it.
func (s *Stepper) Next(l Load) int {
	s.now++
	s.held++
	up, down := s.wants(l)
	s.up, s.down = count(s.up, up), count(s.down, down)
	switch {
	case s.up >= patience && s.now > s.bars[s.rung+1].until:
		s.step(+1)
	case s.down >= patience:
		b := &s.bars[s.rung]
		if s.held > barClear {
			b.length = 0
		}
		b.length = min(max(2*b.length, barLeast), barMost<<s.rung)
		b.until = s.now + b.length
		s.step(-1)
	}
	return s.rung
}

func (s *Stepper) step(by int) {
	s.rung += by
	s.up, s.down, s.held = 0, 0, 0
}

// wants tells which step a period asks for.
func (s *Stepper) wants(l Load) (up, down bool) {
	room := heldDown
	if s.rung == 1 {
		room = heldNone
	}
	up = l.Held >= heldUp && l.Starved <= starvedUp
	slow := l.Starved >= starvedDown && l.Coding >= codingDown
	down = l.Held <= room && (slow || l.Idle <= idleDown)
	return up && s.rung < len(s.bars)-1, down && s.rung > 0
}

func count(n int, more bool) int {
	if more {
		return n + 1
	}
	return 0
}

package codec

import "sync"

// maxSkip bounds how many frames in a row are stored without a try: what has
// begun to compress is noticed within so many.
const maxSkip = 63

// Attempts remembers how well frames that are alike, those of one file say,
// have compressed, so that data which does not is hardly ever tried. The zero
// value tries. Safe for concurrent use.
type Attempts struct {
	mu  sync.Mutex
	run [Zstd + 1]streak // by ID: zstd may save where minlz does not
}

// streak is how it goes with one codec.
type streak struct {
	missed int // tries in a row that saved nothing
	skip   int // frames still to be stored without a try
}

// Try reports whether the next frame is worth a try with a codec; Stored
// never is. After two tries that saved nothing 1 frame goes by untried, after
// the next 3, 7 and so on, at most 63.
func (a *Attempts) Try(id ID) bool {
	if id == Stored || id > Zstd {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.run[id]
	if s.skip > 0 {
		s.skip--
		return false
	}
	// Whoever comes while this one is being tried waits for no answer.
	s.skip = s.gap()
	return true
}

// Note says how a try has gone.
func (a *Attempts) Note(id ID, saved bool) {
	if id == Stored || id > Zstd {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &a.run[id]
	if saved {
		*s = streak{}
		return
	}
	s.missed = min(s.missed+1, 16)
	s.skip = s.gap()
}

// Next returns what to begin the next file with: its first frame is tried,
// and if that saves nothing it is taken to be like the file before.
func (a *Attempts) Next() *Attempts {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := &Attempts{run: a.run}
	for i := range next.run {
		next.run[i].skip = 0
	}
	return next
}

func (s *streak) gap() int {
	if s.missed < 2 {
		return 0
	}
	return min(1<<(s.missed-1)-1, maxSkip)
}

package codec

import "testing"

// tries counts how many of n frames are tried, when each try goes as saved
// says.
func tries(a *Attempts, id ID, n int, saved func(i int) bool) (tried int) {
	for i := range n {
		if a.Try(id) {
			tried++
			a.Note(id, saved(i))
		}
	}
	return tried
}

func TestAttempts(t *testing.T) {
	never, always := func(int) bool { return false }, func(int) bool { return true }
	for _, c := range []struct {
		name   string
		frames int
		saved  func(int) bool
		least  int
		most   int
	}{
		{"what compresses is always tried", 1000, always, 1000, 1000},
		{"two misses are not yet a rule", 2, never, 2, 2},
		{"what does not compress is hardly ever tried", 4000, never, 60, 70},
		{"a change is noticed within 64 frames", 4064, func(i int) bool { return i >= 4000 }, 61, 200},
		{"one miss in two costs nothing", 1000, func(i int) bool { return i%2 == 0 }, 1000, 1000},
	} {
		if got := tries(&Attempts{}, MinLZ, c.frames, c.saved); got < c.least || got > c.most {
			t.Errorf("%s: %d of %d frames were tried", c.name, got, c.frames)
		}
	}
}

func TestAttemptsOfOtherCodecs(t *testing.T) {
	a := &Attempts{}
	tries(a, MinLZ, 500, func(int) bool { return false })
	if got := tries(a, Zstd, 10, func(int) bool { return true }); got != 10 {
		t.Errorf("zstd is tried on %d of 10 frames after minlz saved nothing", got)
	}
	if a.Try(Stored) || a.Try(200) {
		t.Error("what is no compression is tried")
	}
}

func TestAttemptsOfTheNextFile(t *testing.T) {
	a := &Attempts{}
	tries(a, MinLZ, 500, func(int) bool { return false })
	next := a.Next()
	if !next.Try(MinLZ) {
		t.Error("the first frame of the next file is not tried")
	}
	next.Note(MinLZ, false)
	if next.Try(MinLZ) {
		t.Error("a file like the one before is tried again at once")
	}
	next = a.Next()
	if got := tries(next, MinLZ, 10, func(int) bool { return true }); got != 10 {
		t.Errorf("%d of 10 frames of a file that compresses are tried", got)
	}
}

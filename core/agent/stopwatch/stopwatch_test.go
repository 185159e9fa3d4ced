package stopwatch

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		real := began
		defer func() { began = real }()
		began = time.Now() // of the test's own clock
		var w Watch
		if w.Spent() != 0 {
			t.Error("a new watch has measured something")
		}
		var wg sync.WaitGroup
		for i := range 3 { // one, two and three seconds
			wg.Go(func() {
				w.Start()
				defer w.Stop()
				time.Sleep(time.Duration(i+1) * time.Second)
			})
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if got, want := w.Spent(), 4*time.Second; got != want {
			t.Errorf("while two run: %s, want %s", got, want)
		}
		wg.Wait()
		time.Sleep(time.Hour)
		if got, want := w.Spent(), 6*time.Second; got != want {
			t.Errorf("after all have stopped: %s, want %s", got, want)
		}
	})
}

func TestNil(t *testing.T) {
	var w *Watch
	w.Start()
	w.Stop()
	if w.Spent() != 0 {
		t.Error("nothing was measured, and it is not zero")
	}
}

func BenchmarkWatch(b *testing.B) {
	var w Watch
	for b.Loop() {
		w.Start()
		w.Stop()
	}
}

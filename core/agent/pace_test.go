package agent

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestPacerHoldsTheRate: from the first byte on, whatever the size of what is
// asked for.
func TestPacerHoldsTheRate(t *testing.T) {
	const perSecond = 10_000_000
	for _, chunk := range []int{1000, 100_000, 3_000_000} {
		p, began, n := newPacer(perSecond), time.Now(), 0
		for ; n < 3_000_000; n += chunk {
			if err := p.wait(t.Context(), chunk); err != nil {
				t.Fatal(err)
			}
		}
		// No more than was allowed; how much less depends on the machine.
		if rate := float64(n) / time.Since(began).Seconds(); rate > perSecond*1.01 || rate < perSecond*0.5 {
			t.Errorf("%.0f bytes a second in steps of %d", rate, chunk)
		}
	}
}

func TestPacerEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	if err := newPacer(1).wait(ctx, 1<<20); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestOnWire(t *testing.T) {
	// What TLS adds, and a little for the headers of packets.
	if got := onWire(1_000_000); got < 1_020_000 || got > 1_025_000 {
		t.Errorf("%d bytes for 1,000,000", got)
	}
}

package agent

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pacer lets bytes go at a rate, from an empty start and in steps of a tenth
// of a second at most, so that the rate is even and a short transfer is not
// over it. Safe for concurrent use.
type pacer struct {
	limiter *rate.Limiter
	start   sync.Once
}

// leastStep is the smallest step, in bytes; slower rates have longer ones.
const leastStep = 1 << 10

// newPacer makes a pacer of bytes a second.
func newPacer(perSecond int64) *pacer {
	step := int(max(perSecond/10, leastStep))
	return &pacer{limiter: rate.NewLimiter(rate.Limit(perSecond), step)}
}

// step is how many bytes go at once at most.
func (p *pacer) step() int { return p.limiter.Burst() }

// wait waits until n bytes may go, or ctx ends.
func (p *pacer) wait(ctx context.Context, n int) error {
	p.start.Do(func() { p.limiter.AllowN(time.Now(), p.step()) }) // a limiter begins full
	for n > 0 {
		step := min(n, p.step())
		if err := p.limiter.WaitN(ctx, step); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err // the deadline of ctx is nearer than the turn
		}
		n -= step
	}
	return nil
}

// onWire is what n bytes of frames take of --limit-rate: TLS adds 22 bytes to
// each 16 KiB. The headers of packets take 1 to 6 %, by the packets' size, and
// count with 2 %: so what an interface counts is within 5 % of the rate.
func onWire(n int) int { return n + n/50 + n/745 }

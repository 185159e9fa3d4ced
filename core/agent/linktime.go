package agent

import (
	"context"
	"time"
)

// Where a firewall is in play, a peer that refuses may be alive behind a filter
// that was loaded anew: the controller needs this long to see it and to have
// the port opened again.
const refusedBehindFirewall = 10 * time.Second

// refusedFor is how long a peer whose links were proven may refuse before its
// agent counts as dead.
func (c *chain) refusedFor() time.Duration {
	if c.plan.Settings.OpenFor > 0 {
		return refusedBehindFirewall
	}
	return refusedFor
}

// linkLimit is the longest that links may take to be proven.
func (c *chain) linkLimit() time.Duration {
	return c.plan.Settings.LinkTimeout + c.plan.Settings.OpenFor
}

// linking bounds the making of links: by the link timeout, and where a port is
// closed by then, by the longer time in which it may be opened. That its time is over shows in the
// context's cause, DeadlineExceeded, alone.
func (c *chain) linking(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	more := time.AfterFunc(time.Hour, func() { cancel(context.DeadlineExceeded) })
	more.Stop()
	timer := time.AfterFunc(c.plan.Settings.LinkTimeout, func() {
		if c.plan.Settings.OpenFor == 0 || !c.closed.any() {
			cancel(context.DeadlineExceeded)
			return
		}
		more.Reset(c.plan.Settings.OpenFor)
	})
	return ctx, func() {
		timer.Stop()
		more.Stop()
		cancel(nil)
	}
}

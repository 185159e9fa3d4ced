package daemon

import (
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// leaseTick is how often the lease is looked at.
func leaseTick(p control.Prepare) time.Duration {
	return min(max(min(p.Lease, p.Hold)/10, 10*time.Millisecond), 5*time.Second)
}

// expired says why the agent must end by itself; empty while it must not. A
// controller that was not heard for the lease is gone; once data flows that
// matters no more, and the agent holds what it has for longer.
func (s *server) expired(now time.Time) string {
	silent, bound := s.silence(now)
	switch {
	case silent <= bound:
		return ""
	case s.job.Flowing():
		return fmt.Sprintf("nobody has asked for the data for %v", bound)
	}
	return fmt.Sprintf("the controller was not heard for %v", bound)
}

// silence is how long the controller was not heard, and for how long it may
// not be.
func (s *server) silence(now time.Time) (silent, bound time.Duration) {
	s.mu.Lock()
	if s.waiting == 0 {
		silent = now.Sub(s.asked)
	}
	s.mu.Unlock()
	if s.job.Flowing() {
		return silent, s.config.Prepare.Hold
	}
	return silent, s.config.Prepare.Lease
}

// observed is the state for somebody who is not the controller.
func (s *server) observed(now time.Time) *control.Status {
	status := s.status()
	silent, bound := s.silence(now)
	status.Unasked, status.EndsIn = max(silent, 0), max(bound-silent, 0)
	return status
}

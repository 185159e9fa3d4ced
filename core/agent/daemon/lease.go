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
	s.mu.Lock()
	silent, waiting := now.Sub(s.asked), s.waiting > 0
	s.mu.Unlock()
	if waiting {
		return ""
	}
	if s.job.Flowing() {
		if silent > s.config.Prepare.Hold {
			return fmt.Sprintf("nobody has asked for the data for %v", s.config.Prepare.Hold)
		}
		return ""
	}
	if silent > s.config.Prepare.Lease {
		return fmt.Sprintf("the controller was not heard for %v", s.config.Prepare.Lease)
	}
	return ""
}

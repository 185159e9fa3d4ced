package journal

import (
	"errors"
	"fmt"
	"net/netip"
)

// Bounds of a hole.
const (
	maxSources   = 1 << 12
	maxFirewalls = 64
)

// Hole is an agent's port that firewalls are to open or have opened: so whoever
// takes the transfer over can renew it. What removes it is an undo.
type Hole struct {
	Host      string   `json:"host"`
	Agent     string   `json:"agent"`
	Port      int      `json:"port"`
	Sources   []string `json:"sources"`   // literal addresses
	Firewalls []string `json:"firewalls"` // plugin names
}

func (h *Hole) check() error {
	switch {
	case h.Host == "" || h.Agent == "":
		return errors.New("a hole of no agent")
	case h.Port < 1 || h.Port > 65535:
		return fmt.Errorf("a hole for port %d", h.Port)
	case len(h.Sources) > maxSources || len(h.Firewalls) > maxFirewalls:
		return fmt.Errorf("a hole for %d addresses by %d firewalls", len(h.Sources), len(h.Firewalls))
	}
	for _, s := range h.Sources {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("a hole for %.80q", s)
		}
	}
	return nil
}

func (s *State) setHole(h Hole) error {
	if err := h.check(); err != nil {
		return err
	}
	for i := range s.Holes {
		if s.Holes[i].Agent == h.Agent {
			s.Holes[i] = h
			return nil
		}
	}
	if len(s.Holes) >= maxHosts {
		return fmt.Errorf("more than %d holes", maxHosts)
	}
	s.Holes = append(s.Holes, h)
	return nil
}

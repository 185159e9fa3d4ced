package transfer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// explain says why a port stays closed, as far as can be seen: who finds it so,
// what was done, what stands on the hosts, and what else may be the cause.
func (r *run) explain(h *hole, s *shut) *sdk.Error {
	port, host := h.agent.ready.Port, h.agent.host
	words := []string{fmt.Sprintf("port %d stays closed to %s", port, r.finders(s))}
	if len(h.rules) > 0 {
		var texts []string
		for _, rule := range h.rules {
			texts = append(texts, rule.Text)
		}
		words = append(words, fmt.Sprintf("firewall %s has opened it, which did not help, and is undone (%s)", strings.Join(h.firewalls, " and "), strings.Join(texts, "; ")))
	} else if h.name == FirewallAuto {
		words = append(words, "no firewall was found there that could be opened")
	} else {
		words = append(words, fmt.Sprintf("firewall %s has found nothing there that it could open", h.name))
	}
	words = append(words, r.sightings(h)...)
	words = append(words, "what nobody can see from here: something between the hosts that filters, or a route that is missing")
	return &sdk.Error{Kind: sdk.KindUnreachable, Host: host, Message: strings.Join(words, "; "), Hint: r.adviceFor(h)}
}

// sightings are what the firewalls have seen: on the target what filters, and
// on all hosts what may drop beside it.
func (r *run) sightings(h *hole) []string {
	var words []string
	for _, s := range h.seen {
		there := s.Host == h.agent.host
		switch {
		case s.Err != nil:
			words = append(words, fmt.Sprintf("firewall %s could not look at %s: %v", s.firewall, s.Host, s.Err))
		case there:
			words = append(words, fmt.Sprintf("firewall %s sees on %s: %s (%s)", s.firewall, s.Host, s.What, s.Why))
		}
		for _, b := range s.Others {
			if !there && b.Hook != hookOutput || there && slices.Contains(h.firewalls, b.Firewall) {
				continue // what comes in there is of no matter, and what was opened does not drop any more
			}
			text := fmt.Sprintf("what may drop at %s of %s: %s", b.Hook, s.Host, b.What)
			if !slices.Contains(words, text) {
				words = append(words, text)
			}
		}
	}
	return words
}

// hookOutput is the hook of what a host lets out, in sdk.Barrier.
const hookOutput = "output"

// adviceFor is what the operator can do.
func (r *run) adviceFor(h *hole) string {
	for _, s := range h.seen {
		for _, b := range s.Others {
			if s.Host == h.agent.host && b.Firewall != "" && !slices.Contains(h.firewalls, b.Firewall) {
				return fmt.Sprintf("firewall %s opens that: use --firewall %s, or auto, which finds out", b.Firewall, b.Firewall)
			}
		}
	}
	var from []string
	for _, d := range r.diallers(h) {
		if host := r.agents[d.Host].host; !slices.Contains(from, host) {
			from = append(from, host)
		}
	}
	return fmt.Sprintf("let %s reach port %d of %s, or choose the network with --data-network", strings.Join(from, " and "), h.agent.ready.Port, h.agent.host)
}

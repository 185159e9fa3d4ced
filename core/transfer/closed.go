package transfer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// tryAgain is how long an opening that failed in mid-transfer is let alone.
const tryAgain = 30 * time.Second

// shut is a port that somebody finds closed, as the agents told last.
type shut struct {
	agent *agent // whose port it is
	by    []*agent
	found []control.ClosedPort // by each of these
	since time.Time            // when it was told first
}

// closedPorts are the ports that are closed now, in the order of the chain.
func (r *run) closedPorts() []*shut {
	var list []*shut
	by := map[*agent]*shut{}
	for _, m := range r.members {
		from := r.agents[m.Host]
		if from.over() {
			continue
		}
		for _, p := range from.closed {
			to := r.agentOf(p.Member)
			if to == nil || to.over() {
				continue
			}
			s := by[to]
			if s == nil {
				s = &shut{agent: to, since: time.Now()}
				if old := r.firewalls.closed[to.id]; old != nil {
					s.since = old.since
				}
				by[to], list = s, append(list, s)
			}
			if !slices.Contains(s.by, from) {
				s.by, s.found = append(s.by, from), append(s.found, p)
			}
		}
	}
	return list
}

// heedClosed does something about ports that agents find closed: it has them
// opened, opened anew where a ruleset was loaded again in the middle, or says
// why that did not help. While links are made the latter refuses the transfer;
// the rules are undone with all else at its end.
func (r *run) heedClosed(ctx context.Context) error {
	if !r.firewalls.any() {
		return nil
	}
	list := r.closedPorts()
	r.noteReached(list)
	var fresh, again []*hole
	for _, s := range list {
		h := r.holeOf(s.agent)
		switch {
		case h.name == FirewallNone, time.Now().Before(h.rests), !r.believed(s):
		case h.opened.IsZero() && h.looked.IsZero():
			if !h.told {
				r.tellClosed(s, "")
			}
			fresh = append(fresh, h)
		case h.works:
			if !h.told {
				r.tellClosed(s, " any more; its firewall may have been loaded anew")
			}
			again = append(again, h)
		case r.staysClosed(h, s):
			if err := r.giveUp(h, s); err != nil {
				return err
			}
		}
	}
	err := r.openHoles(ctx, fresh)
	if err == nil {
		err = r.change(ctx, again, newMemory(), "has opened again")
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if r.linking() {
		return &refusal{ExitRefused, err}
	}
	r.warn("", "a port could not be opened again, it is tried once more: "+err.Error())
	for _, h := range slices.Concat(fresh, again) {
		h.rest()
	}
	return nil
}

// rest lets a hole alone for a while; then it is looked at anew or, where it has
// a rule, which goes on being renewed, opened again.
func (h *hole) rest() {
	h.rests = time.Now().Add(tryAgain)
	if h.opened.IsZero() {
		h.looked, h.seen = time.Time{}, nil
	} else {
		h.works = true
	}
}

// believed reports whether it is worth looking at a port that is told closed:
// in mid-transfer it may be that its agent, or all of its host, has gone, so
// that has to have answered since.
func (r *run) believed(s *shut) bool {
	return !s.agent.silent && (r.linking() || s.agent.told.After(s.since))
}

// staysClosed reports whether what was done about a port has not helped. A
// dialler's word counts if the question for it was asked after the opening; its
// first attempt that was told since then may have begun before, and the one
// after that as well.
func (r *run) staysClosed(h *hole, s *shut) bool {
	if h.opened.IsZero() { // nothing could be done
		return !r.linking() || time.Now().After(r.firewalls.linkBy)
	}
	stays := false
	for i, from := range s.by {
		if !from.told.After(h.opened) {
			continue
		}
		first, heard := h.rounds[from.id]
		if !heard {
			h.rounds[from.id] = s.found[i].Rounds
			continue
		}
		stays = stays || s.found[i].Rounds >= first+2
	}
	return stays
}

// giveUp says why a port stays closed. While links are made that refuses the
// transfer.
func (r *run) giveUp(h *hole, s *shut) error {
	err := r.explain(h, s)
	if r.linking() {
		return &refusal{ExitRefused, err}
	}
	if !h.told {
		r.warn(h.agent.host, err.Error()+"; it is looked at again while links to it are retried")
	}
	h.told = true
	h.rest()
	return nil
}

// tellClosed says who finds a port closed, and how.
func (r *run) tellClosed(s *shut, more string) {
	r.emit(Event{Type: EventFirewall, Host: s.agent.host, Message: fmt.Sprintf("port %d is not open to %s%s", s.agent.ready.Port, r.finders(s), more)})
}

// maxFinders bounds the diallers and the addresses that one message names.
const maxFinders = 6

// finders are who finds a port closed, by which addresses, and what came back.
func (r *run) finders(s *shut) string {
	var who []string
	for i, from := range s.by {
		var how []string
		for _, a := range s.found[i].Addresses {
			way := a.Address
			if a.Local != "" {
				way = a.Local + " to " + a.Address
			}
			how = append(how, way+": "+a.Outcome)
		}
		who = append(who, fmt.Sprintf("%s (%s)", from.host, strings.Join(how[:min(len(how), maxFinders)], ", ")))
	}
	if len(who) > maxFinders {
		who = append(who[:maxFinders], fmt.Sprintf("%d more", len(who)-maxFinders))
	}
	return strings.Join(who, " and ")
}

// noteReached notes which holes are reached, and since when the others are not.
func (r *run) noteReached(list []*shut) {
	clear(r.firewalls.closed)
	for _, s := range list {
		r.firewalls.closed[s.agent.id] = s
	}
	for _, h := range r.firewalls.holes {
		if r.firewalls.closed[h.agent.id] != nil || !r.linked(h) {
			continue
		}
		h.works, h.told = true, false
		if h.opened.IsZero() {
			h.looked, h.seen = time.Time{}, nil
		}
	}
}

// linked reports whether all links to the targets behind a hole were proven.
func (r *run) linked(h *hole) bool {
	for _, m := range r.targets() {
		if m.Agent == h.agent.id && !m.status.Phase.AtLeast(control.PhaseReady) {
			return false
		}
	}
	return true
}

// linking reports whether links are still made for the first time.
func (r *run) linking() bool {
	return slices.ContainsFunc(r.members, func(m *member) bool { return !m.status.Phase.AtLeast(control.PhaseReady) })
}

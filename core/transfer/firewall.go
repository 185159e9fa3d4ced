package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// leastExpiry is the least that a hole stays open by itself.
const leastExpiry = time.Hour

// openFirewall opens a hole on each target for the source and its two nearest
// predecessors. The undo of each, which the firewall hands over before it
// opens, is the normal end: nothing is closed here.
func (r *run) openFirewall(ctx context.Context) error {
	for i, t := range r.targets() {
		hole := sdk.Hole{Host: t.Host, Port: t.Port}
		for _, from := range r.predecessors(i + 1) {
			hole.Sources = append(hole.Sources, from.Addresses...)
		}
		r.holes = append(r.holes, hole)
	}
	if err := r.openHoles(ctx); err != nil {
		return &refusal{ExitRefused, err}
	}
	return nil
}

// predecessors are the members that dial member i: the source and the two
// before it in the chain.
func (r *run) predecessors(i int) []*member {
	from := []*member{r.members[0]}
	for j := max(1, i-2); j < i; j++ {
		from = append(from, r.members[j])
	}
	return from
}

// openHoles opens the holes, or opens them again with a later expiry.
func (r *run) openHoles(ctx context.Context) error {
	lasts := max(r.req.ControlLostFor, leastExpiry) + leastExpiry
	holes := make([]sdk.Hole, len(r.holes))
	for i, h := range r.holes {
		// By the host's own clock, which is what its kernel compares with.
		offset := r.facts[h.Host].Now.Sub(r.report.Began)
		h.Expiry = time.Now().Add(offset + lasts)
		holes[i] = h
	}
	var rules []sdk.Rule
	err := r.alive(ctx, func(ctx context.Context) (err error) {
		rules, err = r.firewall.Open(ctx, r.id, holes, r.hostOfAgents())
		return err
	})
	if err != nil {
		return err
	}
	for _, rule := range rules {
		r.emit(Event{Type: EventFirewall, Host: rule.Host, Message: fmt.Sprintf("firewall %s: %s", r.req.Firewall, rule.Text)})
	}
	r.renewAt = time.Now().Add(lasts / 2)
	return nil
}

// renewHoles opens the holes of a long transfer again at half of their time.
func (r *run) renewHoles(ctx context.Context) {
	if r.firewall == nil || time.Now().Before(r.renewAt) {
		return
	}
	if err := r.openHoles(ctx); err != nil {
		r.warn("", "a firewall rule could not be renewed, it is tried again: "+err.Error())
		r.renewAt = time.Now().Add(leastExpiry / 4)
	}
}

package transfer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// Names of firewalls that are no plugins' choice.
const (
	// FirewallAuto changes nothing where the port is reachable; where it is
	// closed, what the plugins find there decides which of them opens it.
	FirewallAuto = "auto"
	// FirewallNone opens nothing.
	FirewallNone = "none"
)

const (
	// leastExpiry is the least that a rule lasts by itself.
	leastExpiry = time.Hour
	// expirySlack is for what hosts' clocks are measured wrongly by, and for a
	// renewal that comes a little late.
	expirySlack = 10 * time.Minute
	// openLimit bounds one look at firewalls, and one opening.
	openLimit = time.Minute
	// openFor is how much longer diallers go on where a port is closed: for both.
	openFor = 2 * openLimit
)

// firewalls are the firewall plugins of a transfer, and the ports that they
// have to do with.
type firewalls struct {
	plugins map[string]sdk.Firewall
	auto    []string         // the plugins that auto chooses from, in order
	holes   []*hole          // in the order of the chain
	swept   map[string]bool  // hosts whose old rules were looked for
	linkBy  time.Time        // when all links should be proven
	closed  map[string]*shut // by agent: since when its port is closed, as of the last look
}

// hole is the port of an agent that has targets.
type hole struct {
	agent     *agent
	name      string   // of the firewall: auto, or a plugin's
	firewalls []string // the plugins that open it; none until auto has chosen
	sources   []string // literal addresses
	rules     []sdk.Rule
	seen      []sighting

	looked time.Time      // when auto looked for what filters; zero: it has to
	opened time.Time      // zero: it is not
	works  bool           // it was reached since then
	rounds map[string]int // by dialling agent: what it had tried when it was heard first since then
	rests  time.Time      // until when nothing is done about it
	told   bool           // that it stays closed in mid-transfer
}

// sighting is what a plugin found on a host.
type sighting struct {
	firewall string
	sdk.Filter
}

// firewallOf names the firewall for a target's host.
func (q *Request) firewallOf(host string) string {
	if name := q.HostFirewalls[host]; name != "" {
		return name
	}
	return q.Firewall
}

// FirewallPlugins names the firewall plugins that the request may need, sorted;
// where it says FirewallAuto, all of auto.
func (q *Request) FirewallPlugins(auto []string) []string {
	names := map[string]bool{}
	for _, t := range q.Targets {
		switch name := q.firewallOf(t.Host); name {
		case FirewallNone:
		case FirewallAuto:
			for _, n := range auto {
				names[n] = true
			}
		default:
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// startFirewalls starts the plugins that the request may need.
func (r *run) startFirewalls(ctx context.Context) error {
	names := r.req.FirewallPlugins(r.deps.Firewalls)
	list := make([]sdk.Firewall, len(names))
	starting, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		starting.Go(func() (err error) {
			list[i], _, err = r.deps.Plugins.Firewall(ctx, name)
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	r.firewalls = firewalls{plugins: map[string]sdk.Firewall{}, auto: r.deps.Firewalls, swept: map[string]bool{}, closed: map[string]*shut{}}
	for i, name := range names {
		r.firewalls.plugins[name] = list[i]
	}
	return nil
}

// any reports whether a port may be opened at all.
func (f *firewalls) any() bool { return len(f.plugins) > 0 }

// named reports whether a firewall opens a port before it is tried.
func (r *run) named() bool {
	return slices.ContainsFunc(r.req.Targets, func(t Endpoint) bool {
		name := r.req.firewallOf(t.Host)
		return name != FirewallAuto && name != FirewallNone
	})
}

// openFor is how much longer agents may take to make links.
func (r *run) openFor() time.Duration {
	if r.firewalls.any() {
		return openFor
	}
	return 0
}

// openFirewall opens the ports whose firewall was named. The undo of each rule,
// which the firewall hands over before it makes it, is the normal end: nothing
// is closed here.
func (r *run) openFirewall(ctx context.Context) error {
	var holes []*hole
	for _, t := range r.targets() {
		if h := r.holeOf(r.agents[t.Host]); h.name != FirewallAuto && h.name != FirewallNone && !slices.Contains(holes, h) {
			holes = append(holes, h)
		}
	}
	if err := r.openHoles(ctx, holes); err != nil {
		return &refusal{ExitRefused, err}
	}
	for _, h := range holes {
		for _, d := range r.diallers(h) {
			h.rounds[d.Agent] = 0 // all that is tried is tried later
		}
	}
	return nil
}

// holeOf is the hole of an agent, made when it is asked for first.
func (r *run) holeOf(a *agent) *hole {
	for _, h := range r.firewalls.holes {
		if h.agent == a {
			return h
		}
	}
	h := &hole{agent: a, name: r.req.firewallOf(a.host), rounds: map[string]int{}}
	if h.name != FirewallAuto && h.name != FirewallNone {
		h.firewalls = []string{h.name}
	}
	r.firewalls.holes = append(r.firewalls.holes, h)
	return h
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

// diallers are the members that dial a target behind the hole.
func (r *run) diallers(h *hole) []*member {
	var from []*member
	for i, m := range r.members {
		if i == 0 || m.Agent != h.agent.id {
			continue
		}
		for _, d := range r.predecessors(i) {
			if !slices.Contains(from, d) {
				from = append(from, d)
			}
		}
	}
	return from
}

// openHoles opens holes: first a look, in one broadcast, at what the firewalls need
// to know, then the change.
func (r *run) openHoles(ctx context.Context, holes []*hole) error {
	seen := newMemory()
	if err := r.look(ctx, holes, seen); err != nil {
		return err
	}
	holes = slices.DeleteFunc(slices.Clone(holes), func(h *hole) bool { return len(h.firewalls) == 0 })
	return r.change(ctx, holes, seen, "has opened")
}

// change has every hole opened by its firewalls, or opened again with a later
// expiry. What was seen a moment ago need not be asked again; did is for the
// operator.
func (r *run) change(ctx context.Context, holes []*hole, seen *memory, did string) error {
	if len(holes) == 0 {
		return nil
	}
	for _, h := range holes {
		if err := r.journal.Add(journal.Record{Hole: r.recordOf(h)}); err != nil {
			return err
		}
		h.rules = nil
	}
	asked := map[string][]sdk.Hole{}
	var names []string
	for _, h := range holes {
		for _, name := range h.firewalls {
			if asked[name] == nil {
				names = append(names, name)
			}
			asked[name] = append(asked[name], r.sdkHole(h))
		}
	}
	parties := make([]party, len(names))
	rules := make([][]sdk.Rule, len(names))
	for i, name := range names {
		parties[i].act = func(ctx context.Context, host sdk.Host) (err error) {
			rules[i], err = r.firewalls.plugins[name].Open(ctx, r.id, asked[name], host)
			return err
		}
	}
	errs := r.withAgents(ctx, seen, parties)
	for i, name := range names {
		if errs[i] != nil {
			return errs[i]
		}
		r.tellRules(holes, name, did, rules[i])
	}
	now := time.Now()
	for _, h := range holes {
		h.opened, h.works, h.rounds = now, false, map[string]int{}
	}
	r.renewAt = now.Add(r.lasts() / 2)
	return nil
}

// withAgents runs parties that reach the hosts through the agents, whose leases
// it keeps alive meanwhile.
func (r *run) withAgents(ctx context.Context, seen *memory, parties []party) []error {
	var errs []error
	limited, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	err := r.alive(limited, func(ctx context.Context) error {
		errs = (&hostAccess{run: r}).share(ctx, seen, parties...)
		return nil
	})
	for i := range errs {
		switch {
		case ctx.Err() != nil:
			errs[i] = context.Cause(ctx)
		case errs[i] == nil:
			errs[i] = err
		}
	}
	return errs
}

// tellRules tells of the rules that a firewall has made.
func (r *run) tellRules(holes []*hole, name, did string, rules []sdk.Rule) {
	for _, h := range holes {
		if !slices.Contains(h.firewalls, name) {
			continue
		}
		for _, rule := range rules {
			if rule.Host != h.agent.host {
				continue
			}
			h.rules = append(h.rules, rule)
			message := fmt.Sprintf("firewall %s %s port %d to %s, until the transfer ends or %s", name, did, h.agent.ready.Port,
				strings.Join(h.sources, " and "), rule.Expiry.UTC().Format("2006-01-02 15:04:05 UTC"))
			if did != hasRenewed { // else it has been shown
				message += ": " + rule.Text
			}
			r.emit(Event{Type: EventFirewall, Host: rule.Host, Message: message,
				Rule: &Rule{Firewall: name, Text: rule.Text, Port: h.agent.ready.Port, Sources: h.sources, Expiry: rule.Expiry}})
		}
	}
}

// sdkHole is the hole as plugins take it. Its expiry is by the host's own
// clock, which is what its kernel compares with.
func (r *run) sdkHole(h *hole) sdk.Hole {
	return sdk.Hole{Host: h.agent.host, Port: h.agent.ready.Port, Sources: h.sources, Expiry: time.Now().Add(r.clocks[h.agent.host] + r.lasts())}
}

// lasts is how long a rule lasts by itself. When half of it has passed it is
// renewed, and until then as much is left as agents hold on without the
// controller.
func (r *run) lasts() time.Duration {
	if r.clock.expiry > 0 {
		return r.clock.expiry
	}
	return 2*max(r.req.ControlLostFor, leastExpiry) + expirySlack
}

// hasRenewed is what was done to a rule that is there.
const hasRenewed = "has renewed"

// renewHoles opens the holes of a long transfer again at half of their time.
func (r *run) renewHoles(ctx context.Context) {
	var open []*hole
	for _, h := range r.firewalls.holes {
		if !h.opened.IsZero() && !h.agent.over() {
			open = append(open, h)
		}
	}
	if len(open) == 0 || time.Now().Before(r.renewAt) {
		return
	}
	works := map[*hole]bool{}
	for _, h := range open {
		works[h] = h.works
	}
	if err := r.change(ctx, open, newMemory(), hasRenewed); err != nil {
		r.warn("", "a firewall rule could not be renewed, it is tried again: "+err.Error())
		r.renewAt = time.Now().Add(r.lasts() / 8)
		return
	}
	for _, h := range open {
		h.works = works[h]
	}
}

// recordOf is what a controller that takes over needs to know of a hole.
func (r *run) recordOf(h *hole) *journal.Hole {
	return &journal.Hole{Host: h.agent.host, Agent: h.agent.id, Port: h.agent.ready.Port, Sources: h.sources, Firewalls: h.firewalls}
}

// adoptHoles takes over what an earlier controller of the same agents has
// opened, and renews it soon.
func (r *run) adoptHoles(holes []journal.Hole) {
	for _, recorded := range holes {
		a := r.agents[recorded.Host]
		known := !slices.ContainsFunc(recorded.Firewalls, func(name string) bool { return r.firewalls.plugins[name] == nil })
		if a == nil || a.id != recorded.Agent || !known {
			continue
		}
		h := r.holeOf(a)
		h.firewalls, h.sources, h.opened, h.works = recorded.Firewalls, recorded.Sources, time.Now(), true
	}
	r.renewAt = time.Now()
}

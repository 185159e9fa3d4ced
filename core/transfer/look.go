package transfer

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// look asks the hosts, in one broadcast, what has to be known before holes are
// opened: by which addresses the diallers come, what filters where auto has to
// choose, and which rules are left there from transfers that have died.
func (r *run) look(ctx context.Context, holes []*hole, seen *memory) error {
	if len(holes) == 0 {
		return nil
	}
	routes := map[string]map[string][]string{}
	parties := []party{{rights: looks, act: func(ctx context.Context, host sdk.Host) (err error) {
		routes, err = r.routes(ctx, holes, host)
		return err
	}}}
	detections := r.detections(holes)
	for _, d := range detections {
		parties = append(parties, d.party(r))
	}
	parties = append(parties, r.sweepers(holes)...)
	errs := r.withAgents(ctx, seen, parties)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errs[0] != nil {
		return errs[0]
	}
	for _, h := range holes {
		h.sources = r.sourcesOf(h, routes)
		h.looked = time.Now()
	}
	for i, d := range detections {
		r.heedFilters(d, errs[1+i])
	}
	return nil
}

// routes asks the diallers of holes by which of their addresses they come. A
// host that cannot say is left out.
func (r *run) routes(ctx context.Context, holes []*hole, host sdk.Host) (map[string]map[string][]string, error) {
	to := map[string][]control.RouteTo{} // by the dialler's host
	var order []string
	for _, h := range holes {
		for _, d := range r.diallers(h) {
			if to[d.Host] == nil {
				order = append(order, d.Host)
			}
			to[d.Host] = append(to[d.Host], r.routeTo(h))
		}
	}
	var work []sdk.HostCommands
	for _, from := range order {
		req := control.Request{Verb: control.VerbRoute, Call: control.NewID(), Route: &control.Route{To: to[from], Networks: r.req.DataNetworks}}
		message, err := control.EncodeRequest(&req)
		if err != nil {
			return nil, err
		}
		argv := []sdk.Raw{r.fleet.PlaceOf(from).Program, sdk.Raw(control.VerbRoute)}
		work = append(work, sdk.HostCommands{Host: from, Commands: []sdk.Command{{Argv: argv, Stdin: message, Timeout: openLimit / 2}}})
	}
	results, err := host.Run(ctx, work)
	if err != nil {
		return nil, err
	}
	routes := map[string]map[string][]string{}
	for _, res := range results {
		if res.Err != nil || len(res.Results) != 1 {
			continue
		}
		if reply, err := control.DecodeReply(bytes.NewReader(res.Results[0].Stdout)); err == nil {
			routes[res.Host] = reply.Routes
		}
	}
	return routes, nil
}

// routeTo is what a dialler has to know of the agent behind a hole; its id
// names it in the answer.
func (r *run) routeTo(h *hole) control.RouteTo {
	ready, host := h.agent.ready, h.agent.host
	return control.RouteTo{Member: h.agent.id, Host: host, DataAddress: r.req.DataAddresses[host], Addresses: ready.Addresses, BootID: ready.BootID, NetNS: ready.NetNS}
}

// sourcesOf are the addresses that a hole is to admit: those that its
// diallers' kernels pick, as they say or as their failed attempts have shown.
// Of a dialler that tells neither, all that its host has.
func (r *run) sourcesOf(h *hole, routes map[string]map[string][]string) []string {
	sources := slices.Clone(h.sources)
	for _, d := range r.diallers(h) {
		known := slices.Clone(routes[d.Host][h.agent.id])
		for _, p := range r.agents[d.Host].closed {
			if r.agentOf(p.Member) == h.agent {
				for _, a := range p.Addresses {
					known = append(known, a.Local)
				}
			}
		}
		if len(known) == 0 {
			known = d.Addresses
		}
		sources = withAddresses(sources, known)
	}
	return sources
}

// detection is one firewall that is asked what filters.
type detection struct {
	firewall string
	holes    []*hole
	hosts    []string
	filters  []sdk.Filter
}

// detections are the firewalls that may open holes, each to be asked about
// these, and about the hosts of those who dial them: what these let out matters
// too.
func (r *run) detections(holes []*hole) []*detection {
	var list []*detection
	by := map[string]*detection{}
	for _, h := range holes {
		names := h.firewalls
		if h.name == FirewallAuto {
			names, h.firewalls, h.seen = r.firewalls.auto, nil, nil
		}
		for _, name := range names {
			d := by[name]
			if d == nil {
				d = &detection{firewall: name}
				by[name], list = d, append(list, d)
			}
			d.holes = append(d.holes, h)
		}
	}
	for _, d := range list {
		for _, h := range d.holes {
			d.hosts = append(d.hosts, h.agent.host)
		}
		for _, h := range d.holes {
			for _, m := range r.diallers(h) {
				if a := r.agents[m.Host]; !slices.Contains(d.hosts, a.host) && !a.over() && !a.silent {
					d.hosts = append(d.hosts, a.host)
				}
			}
		}
	}
	return list
}

// party asks.
func (d *detection) party(r *run) party {
	return party{rights: looks, act: func(ctx context.Context, host sdk.Host) (err error) {
		d.filters, err = r.firewalls.plugins[d.firewall].Detect(ctx, d.hosts, host)
		return err
	}}
}

// heedFilters takes what a firewall has found. Where auto is to choose, it opens
// what it finds filtering.
func (r *run) heedFilters(d *detection, err error) {
	if err != nil {
		r.warn("", fmt.Sprintf("firewall %s could not look at the hosts: %v", d.firewall, err))
		return
	}
	for _, h := range d.holes {
		h.note(r, d)
		for _, f := range d.filters {
			switch {
			case f.Host != h.agent.host:
			case f.Err != nil:
				r.warn(f.Host, fmt.Sprintf("firewall %s could not look: %v", d.firewall, f.Err))
			case f.Filters:
				r.emit(Event{Type: EventFirewall, Host: f.Host, Message: fmt.Sprintf("firewall %s finds %s (%s)", d.firewall, f.What, f.Why)})
				if h.name == FirewallAuto {
					h.firewalls = append(h.firewalls, d.firewall)
				}
			}
		}
	}
}

// note keeps what a firewall has seen at the hole, and at those who dial it.
func (h *hole) note(r *run, from *detection) {
	about := []string{h.agent.host}
	for _, d := range r.diallers(h) {
		about = append(about, r.agents[d.Host].host)
	}
	for _, f := range from.filters {
		if slices.Contains(about, f.Host) {
			h.seen = append(h.seen, sighting{from.firewall, f})
		}
	}
}

// sweepers remove what dead transfers have left on the hosts of holes, each
// host once in a transfer. A rule that cannot be removed is no reason to stop.
func (r *run) sweepers(holes []*hole) []party {
	hosts := map[string][]string{}
	var names []string
	for _, h := range holes {
		if r.firewalls.swept[h.agent.host] {
			continue
		}
		r.firewalls.swept[h.agent.host] = true
		plugins := []string{h.name}
		if h.name == FirewallAuto {
			plugins = r.firewalls.auto
		}
		for _, name := range plugins {
			if hosts[name] == nil {
				names = append(names, name)
			}
			hosts[name] = append(hosts[name], h.agent.host)
		}
	}
	var parties []party
	for _, name := range names {
		parties = append(parties, party{rights: sweeps, act: func(ctx context.Context, host sdk.Host) error {
			removed, err := r.firewalls.plugins[name].Sweep(ctx, hosts[name], host)
			tellSwept(name, removed, r.emit)
			if err != nil {
				r.warn("", fmt.Sprintf("firewall %s could not look for rules of transfers that have died: %v", name, err))
			}
			return nil
		}})
	}
	return parties
}

// tellSwept tells of rules that were removed.
func tellSwept(name string, removed []sdk.Rule, emit func(Event)) {
	for _, rule := range removed {
		emit(Event{Type: EventFirewall, Host: rule.Host, Rule: &Rule{Firewall: name, Text: rule.Text, Expiry: rule.Expiry},
			Message: fmt.Sprintf("firewall %s has removed a rule that a dead transfer has left: %s", name, rule.Text)})
	}
}

// agentOf is the agent of a member; nil where there is none such.
func (r *run) agentOf(name string) *agent {
	for _, m := range r.members {
		if m.Name == name {
			return r.agents[m.Host]
		}
	}
	return nil
}

package transfer

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// foresight is what a dry run finds out about firewalls, in one call that
// changes nothing: by which addresses each target would be dialled, and what
// filters there.
type foresight struct {
	sources map[string][]string   // by the target's member
	seen    map[string][]sighting // by host
}

// foresee finds out what would be opened. No plugin's Open is called: who knows
// what it would do.
func (r *run) foresee(ctx context.Context) error {
	f := &foresight{sources: map[string][]string{}, seen: map[string][]sighting{}}
	parties := []party{{rights: looks, act: func(ctx context.Context, host sdk.Host) error { return r.foreseeRoutes(ctx, f, host) }}}
	hosts := map[string][]string{}
	for _, t := range r.req.Targets {
		for _, name := range r.firewallsFor(t.Host) {
			if !slices.Contains(hosts[name], t.Host) {
				hosts[name] = append(hosts[name], t.Host)
			}
		}
	}
	names := r.req.FirewallPlugins(r.firewalls.auto)
	found := make([][]sdk.Filter, len(names))
	for i, name := range names {
		parties = append(parties, party{rights: looks, act: func(ctx context.Context, host sdk.Host) (err error) {
			found[i], err = r.firewalls.plugins[name].Detect(ctx, hosts[name], host)
			return err
		}})
	}
	limited, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	errs := (&hostAccess{run: r, oneShot: true}).share(limited, newMemory(), parties...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, name := range names {
		if errs[i+1] != nil {
			r.warn("", fmt.Sprintf("firewall %s could not look at the hosts: %v", name, errs[i+1]))
		}
		for _, filter := range found[i] {
			f.seen[filter.Host] = append(f.seen[filter.Host], sighting{name, filter})
		}
	}
	r.foreseen = f
	return nil
}

// firewallsFor are the plugins that may open the port of a target on a host.
func (r *run) firewallsFor(host string) []string {
	switch name := r.req.firewallOf(host); name {
	case FirewallNone:
		return nil
	case FirewallAuto:
		return r.firewalls.auto
	default:
		return []string{name}
	}
}

// foreseeRoutes asks the source and the predecessors of each target by which of
// their addresses they would come. Of a host that cannot say, all count.
func (r *run) foreseeRoutes(ctx context.Context, f *foresight, host sdk.Host) error {
	ends := r.req.endpoints()
	to, from := map[string][]control.RouteTo{}, map[string][]string{} // by the dialler's host; by the member
	for i := 1; i < len(ends); i++ {
		facts := r.facts[ends[i].Host]
		route := control.RouteTo{Member: r.names[i-1], Host: ends[i].Host, DataAddress: r.req.DataAddresses[ends[i].Host], Addresses: facts.Addresses, BootID: facts.BootID, NetNS: facts.NetNS}
		for j := range i {
			if d := ends[j].Host; (j == 0 || j >= i-2) && !slices.Contains(from[route.Member], d) {
				to[d], from[route.Member] = append(to[d], route), append(from[route.Member], d)
			}
		}
	}
	var work []sdk.HostCommands
	for _, h := range r.hosts {
		if len(to[h]) == 0 {
			continue
		}
		req := control.Request{Verb: control.VerbRoute, Call: control.NewID(), Route: &control.Route{To: to[h], Networks: r.req.DataNetworks}}
		message, err := control.EncodeRequest(&req)
		if err != nil {
			return err
		}
		argv := []sdk.Raw{r.fleet.PlaceOf(h).Program, sdk.Raw(control.VerbRoute)}
		work = append(work, sdk.HostCommands{Host: h, Commands: []sdk.Command{{Argv: argv, Stdin: message, Timeout: openLimit / 2}}})
	}
	results, err := host.Run(ctx, work)
	if err != nil {
		return err
	}
	routes := map[string]map[string][]string{}
	for _, res := range results {
		if res.Err == nil && len(res.Results) == 1 {
			if reply, err := control.DecodeReply(bytes.NewReader(res.Results[0].Stdout)); err == nil {
				routes[res.Host] = reply.Routes
			}
		}
	}
	for member, diallers := range from {
		for _, d := range diallers {
			known := routes[d][member]
			if len(known) == 0 {
				known = r.facts[d].Addresses
			}
			f.sources[member] = withAddresses(f.sources[member], known)
		}
	}
	return nil
}

// withAddresses adds addresses that are not there yet, in their plain form.
func withAddresses(list, more []string) []string {
	for _, s := range more {
		a, err := netip.ParseAddr(s)
		if err != nil {
			continue
		}
		if plain := a.Unmap().WithZone("").String(); !slices.Contains(list, plain) {
			list = append(list, plain)
		}
	}
	return list
}

// viewFirewall tells what is done about a target's port; a dry run knows more
// of it.
func (r *run) viewFirewall(add func(format string, args ...any), i int) {
	host := r.req.Targets[i].Host
	names := r.firewallsFor(host)
	if len(names) == 0 {
		return
	}
	auto := r.req.firewallOf(host) == FirewallAuto
	if auto {
		add("firewall auto: only if the port is closed to the source or to one of the two predecessors in the chain, have it opened for them by what filters there (%s)", strings.Join(names, ", "))
	} else {
		add("firewall %s: open the port for the source and the two predecessors in the chain", names[0])
	}
	if r.foreseen == nil {
		return
	}
	expiry := time.Now().Add(r.clocks[host] + r.lasts())
	var told []string
	sources := strings.Join(r.foreseen.sources[r.names[i]], ", ")
	for _, s := range r.foreseen.seen[host] {
		switch {
		case s.Err != nil:
			add("firewall %s could not look: %v", s.firewall, s.Err)
		case s.Filters:
			add("firewall %s sees %s", s.firewall, s.What)
			add("firewall %s would put in front of it: accept tcp from %s to the port, with the comment transferpy:%s:%d, which ends by itself at %s; undone at the end", s.firewall,
				sources, r.id, expiry.Unix(), expiry.UTC().Format("2006-01-02 15:04:05 UTC"))
		default:
			add("firewall %s would change nothing: it sees %s", s.firewall, s.What)
		}
		for _, b := range s.Others {
			if text := "what may drop beside it, at " + b.Hook + ": " + b.What; !slices.Contains(names, b.Firewall) && !slices.Contains(told, text) {
				told = append(told, text)
				add("%s", text)
			}
		}
	}
}

package transfer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// sweepLimit bounds the search for old rules by cleanup.
const sweepLimit = time.Minute

// sweep removes the rules of dead transfers from the hosts that a transfer had
// opened, or might have. What goes wrong is a warning: the rules expire.
func (c *cleaner) sweep(ctx context.Context, state *journal.State, req *Request) {
	access := &oneShots{fleet: c.fleet, instances: map[string]string{}}
	for _, h := range state.Hosts {
		access.instances[h.Host] = h.Instance
	}
	var names []string
	hosts := map[string][]string{}
	for _, t := range req.Targets {
		plugins := []string{req.firewallOf(t.Host)}
		switch plugins[0] {
		case FirewallNone:
			plugins = nil
		case FirewallAuto:
			plugins = c.deps.Firewalls
		}
		for _, name := range plugins {
			if access.instances[t.Host] == "" || slices.Contains(hosts[name], t.Host) {
				continue
			}
			if hosts[name] == nil {
				names = append(names, name)
			}
			hosts[name] = append(hosts[name], t.Host)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	for _, name := range names {
		plugin, _, err := c.deps.Plugins.Firewall(ctx, name)
		if err == nil {
			var removed []sdk.Rule
			removed, err = plugin.Sweep(ctx, hosts[name], access)
			tellSwept(name, removed, c.emit)
		}
		if err != nil {
			c.emit(Event{Type: EventWarning, Message: fmt.Sprintf("firewall %s could not look for rules of transfers that have died: %v", name, err)})
		}
	}
}

// oneShots is the sdk.Host for what is done without agents and needs no undo,
// since it removes what is nobody's any more.
type oneShots struct {
	fleet     *remote.Fleet
	instances map[string]string // by host
}

var _ sdk.Host = (*oneShots)(nil)

// Run implements sdk.Host.
func (o *oneShots) Run(ctx context.Context, work []sdk.HostCommands) ([]sdk.HostResults, error) {
	results := make([]sdk.HostResults, len(work))
	req := control.Request{Verb: control.VerbDo, Call: control.NewID(), Do: &control.Do{Parts: map[string]control.DoPart{}}}
	var hosts []string
	for _, w := range work {
		instance := o.instances[w.Host]
		if instance == "" {
			return nil, &sdk.Error{Kind: sdk.KindPermission, Host: w.Host, Message: "the host is none of this transfer's"}
		}
		if _, twice := req.Do.Parts[instance]; !twice { // two names of one host want the same
			req.Do.Parts[instance] = control.DoPart{Commands: w.Commands}
		}
		hosts = append(hosts, w.Host)
	}
	answers := o.fleet.Broadcast(ctx, req, hosts...)
	for i, w := range work {
		results[i] = resultsOf(w.Host, o.instances[w.Host], 0, answers[w.Host], true)
	}
	return results, nil
}

// Change implements sdk.Host. Nobody keeps the undos.
func (o *oneShots) Change(ctx context.Context, work []sdk.HostChange) ([]sdk.HostResults, error) {
	commands := make([]sdk.HostCommands, len(work))
	for i, w := range work {
		commands[i] = sdk.HostCommands{Host: w.Host, Commands: w.Commands}
	}
	return o.Run(ctx, commands)
}

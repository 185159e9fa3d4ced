package doctor

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// filters asks the firewalls what filters on the hosts that others could not
// reach.
func (v *visit) filters(ctx context.Context) {
	var hosts []string
	for _, h := range v.alive() {
		if v.shut[h.Host.Host] {
			hosts = append(hosts, h.Host.Host)
		}
	}
	if len(hosts) == 0 || ctx.Err() != nil {
		return
	}
	seen, opens := map[string][]string{}, map[string]bool{}
	for _, name := range v.req.Firewalls {
		list, err := v.detect(ctx, name, hosts)
		for _, h := range hosts {
			if err != nil {
				v.bad(h, "firewall", err.Hint, "%s could not look: %s", name, err.Message)
			}
		}
		for _, f := range list {
			if known := v.hosts[f.Host]; known == nil || f.Err != nil {
				continue
			}
			seen[f.Host] = append(seen[f.Host], v.whatFilters(name, f)...)
			opens[f.Host] = opens[f.Host] || f.Filters
		}
	}
	for _, h := range hosts {
		if len(v.req.Firewalls) == 0 {
			v.bad(h, "firewall", "look at the packet filter there", "no firewall plugin is there that could look")
			continue
		}
		if len(seen[h]) == 0 {
			v.bad(h, "firewall", "look at OUTPUT on the host that dials, and at what lies between", "nothing here was seen to filter")
			continue
		}
		advice := "open the port there"
		if opens[h] {
			advice = "nothing, if transferpy may open the port for the time of each transfer (--firewall auto, or by name); else open it there"
		}
		v.bad(h, "firewall", advice, "%s", strings.Join(seen[h], "; "))
	}
}

// whatFilters is what one firewall has seen on a host, in words. What another one
// opens, that one tells.
func (v *visit) whatFilters(name string, f sdk.Filter) []string {
	var list []string
	if f.Filters {
		list = append(list, f.What+" (--firewall "+name+" opens it)")
	}
	for _, b := range f.Others {
		if slices.Contains(v.req.Firewalls, b.Firewall) {
			continue
		}
		text := b.Hook + ": " + b.What
		if b.Firewall != "" {
			text += " (--firewall " + b.Firewall + " opens it)"
		}
		list = append(list, text)
	}
	return list
}

// detect asks one firewall.
func (v *visit) detect(ctx context.Context, name string, hosts []string) ([]sdk.Filter, *sdk.Error) {
	firewall, _, err := v.deps.Plugins.Firewall(ctx, name)
	if err != nil {
		return nil, sdk.AsError(err)
	}
	list, err := firewall.Detect(ctx, hosts, &looker{v})
	return list, sdk.AsError(err)
}

// looker is the sdk.Host of a firewall that detects: it runs read-only
// commands on the hosts of the visit, and changes nothing.
type looker struct{ visit *visit }

// lookFor bounds the commands of one call.
const lookFor = 2 * time.Minute

// Change implements sdk.Host.
func (l *looker) Change(context.Context, []sdk.HostChange) ([]sdk.HostResults, error) {
	return nil, &sdk.Error{Kind: sdk.KindPermission, Message: "nothing may be changed: the doctor only looks"}
}

// Run implements sdk.Host.
func (l *looker) Run(ctx context.Context, work []sdk.HostCommands) ([]sdk.HostResults, error) {
	req := control.Request{Verb: control.VerbDo, Call: control.NewID(), Do: &control.Do{Parts: map[string]control.DoPart{}}}
	req.Wait = lookFor
	var names []string
	from := make([]int, len(work)) // where an entry's commands begin in its part, which several may share
	for i, w := range work {
		h := l.visit.hosts[w.Host]
		if h == nil || h.facts == nil {
			return nil, &sdk.Error{Kind: sdk.KindPermission, Host: w.Host, Message: "the host is none of those that are looked at"}
		}
		part := req.Do.Parts[h.facts.Instance]
		from[i] = len(part.Commands)
		part.Commands = append(part.Commands, w.Commands...)
		req.Do.Parts[h.facts.Instance] = part
		names = append(names, w.Host)
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	answers := l.visit.fleet.Broadcast(ctx, req, names...)
	results := make([]sdk.HostResults, len(work))
	for i, w := range work {
		results[i] = sdk.HostResults{Host: w.Host, Err: answers[w.Host].Err}
		if results[i].Err != nil {
			continue
		}
		for _, d := range answers[w.Host].Reply.Done {
			if d.Part == l.visit.hosts[w.Host].facts.Instance {
				begin := min(from[i], len(d.Results))
				end := min(begin+len(w.Commands), len(d.Results))
				results[i].Results, results[i].Err = slices.Clone(d.Results[begin:end]), d.Error
			}
		}
		for j := range results[i].Results {
			results[i].Results[j].Host = w.Host
		}
	}
	return results, nil
}

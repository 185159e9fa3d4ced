package iptables

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/plugins/firewalls/netfilter"
	"github.com/transferpy/transferpy/sdk"
)

// opening is what is to be done on one host.
type opening struct {
	places   []place
	commands []sdk.Command // one for each place
	ports    []int
}

// place is where a hole is opened: one chain.
type place struct {
	chain   netfilter.Chain
	hole    netfilter.Hole
	sources []netip.Addr // of the chain's family
}

// Open implements sdk.Firewall. On a host where nothing of iptables drops it
// changes nothing. All hosts are tried; the error is the first host's that
// failed.
func (f firewall) Open(ctx context.Context, transferID string, holes []sdk.Hole, host sdk.Host) ([]sdk.Rule, error) {
	wanted, err := netfilter.Check(transferID, holes)
	if err != nil {
		return nil, err
	}
	rulesets, err := netfilter.LookAt(ctx, wanted, host)
	if err != nil {
		return nil, err
	}
	var failed error
	var openings []opening
	var work []sdk.HostChange
	for i, h := range wanted {
		if err := rulesets[i].Err; err != nil {
			failed = netfilter.First(failed, err)
			continue
		}
		if o := plan(transferID, h, rulesets[i].Chains); len(o.commands) > 0 {
			openings = append(openings, o)
			work = append(work, sdk.HostChange{Host: h.Host, Commands: o.commands,
				Undo: f.Undo(transferID, o.ports)})
		}
	}
	if len(work) == 0 {
		return nil, failed
	}
	results, err := host.Change(ctx, work)
	if err != nil {
		return nil, err
	}
	var rules []sdk.Rule
	for i, o := range openings {
		made, err := o.made(transferID, results[i])
		rules = append(rules, made...)
		failed = netfilter.First(failed, err)
	}
	return rules, failed
}

// plan makes a command for each hole and chain that drops.
func plan(id string, h netfilter.HostHoles, chains []netfilter.Chain) opening {
	o := opening{ports: h.Ports()}
	for _, c := range chains {
		if !c.Opens(netfilter.IPTables) {
			continue
		}
		for _, hole := range h.Holes {
			sources := hole.Of(c.Family == "ip6")
			if len(sources) == 0 {
				continue
			}
			args := []string{"open", c.Tool, c.Table, id, strconv.FormatInt(hole.Expiry.Unix(), 10), date(hole.Expiry)}
			for _, s := range sources {
				args = append(args, fmt.Sprintf("%d,%s", hole.Port, s))
			}
			o.places = append(o.places, place{c, hole, sources})
			o.commands = append(o.commands, netfilter.Script(rulesScript, args...))
		}
	}
	return o
}

// date is how iptables takes a time: without a zone it is UTC.
func date(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05") }

// made are the rules that stand now.
func (o opening) made(id string, res sdk.HostResults) ([]sdk.Rule, *sdk.Error) {
	var rules []sdk.Rule
	for i, p := range o.places {
		if i >= len(res.Results) || res.Results[i].Err != nil || res.Results[i].ExitCode != 0 {
			break
		}
		rules = append(rules, p.rule(id, res.Host, string(res.Results[i].Stdout)))
	}
	return rules, netfilter.Failed("open a port in iptables", res)
}

// rule is what stands in the chain now, from what the script said about each
// source: its expiry, which may be an earlier opening's, and "untimed" if the
// kernel does not see to it.
func (p place) rule(id, host, said string) sdk.Rule {
	lines := strings.Split(said, "\n")
	r := sdk.Rule{Host: host, ID: fmt.Sprintf("%d %s %s", p.hole.Port, p.chain.Tool, p.chain.Table), Expiry: p.hole.Expiry}
	var texts []string
	for i, s := range p.sources {
		expiry, match, note := p.hole.Expiry, "", ""
		if i < len(lines) {
			first, rest, _ := strings.Cut(lines[i], " ")
			if unix, err := strconv.ParseInt(first, 10, 64); err == nil {
				expiry = time.Unix(unix, 0)
			}
			note = strings.TrimSpace(rest)
		}
		if note == "untimed" {
			note = " (the kernel knows no -m time: it does not expire by itself)"
		} else {
			match = " -m time --datestop " + date(expiry)
		}
		if i == 0 || expiry.Before(r.Expiry) {
			r.Expiry = expiry
		}
		texts = append(texts, fmt.Sprintf("%s -t %s -I INPUT 1 -s %s -p tcp --dport %d%s -m comment --comment %s -j ACCEPT%s",
			p.chain.Tool, p.chain.Table, s, p.hole.Port, match, netfilter.Tag{ID: id, Expiry: expiry}, note))
	}
	r.Text = strings.Join(texts, "; ")
	return r
}

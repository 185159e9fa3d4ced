package netfilter

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// detect is the Detect of firewall.
func detect(ctx context.Context, firewall string, hosts []string, host sdk.Host) ([]sdk.Filter, error) {
	rulesets, err := Look(ctx, hosts, host)
	if err != nil {
		return nil, err
	}
	filters := make([]sdk.Filter, len(rulesets))
	for i, r := range rulesets {
		filters[i] = r.Filter(firewall)
	}
	return filters, nil
}

// LookAt reads the rulesets of the hosts in which holes are wanted.
func LookAt(ctx context.Context, wanted []HostHoles, host sdk.Host) ([]Ruleset, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	hosts := make([]string, len(wanted))
	for i, h := range wanted {
		hosts[i] = h.Host
	}
	return Look(ctx, hosts, host)
}

// closeRules is the Close of firewall: remove makes the command that removes a
// transfer's rules for some ports, and succeeds where there are none.
func closeRules(ctx context.Context, firewall, id string, rules []sdk.Rule, host sdk.Host, remove func(id string, ports []int) sdk.Command) error {
	if err := CheckID(id); err != nil {
		return err
	}
	hosts, err := ByHost(rules)
	if err != nil || len(hosts) == 0 {
		return err
	}
	work := make([]sdk.HostChange, len(hosts))
	for i, h := range hosts {
		command := remove(id, h.Ports())
		// The undo of the opening may have run: this one has another name.
		undo := undo(firewall, id, h.Ports(), command)
		undo.ID += "-closed"
		work[i] = sdk.HostChange{Host: h.Host, Undo: undo, Commands: []sdk.Command{command}}
	}
	results, err := host.Change(ctx, work)
	if err != nil {
		return err
	}
	var failed error
	for _, res := range results {
		failed = First(failed, Failed("remove the "+firewall+" rules", res))
	}
	return failed
}

// sweep is the Sweep of firewall: sweep is the command that removes what is
// over and prints a line for each, "ID PORT EXPIRY PLACE".
func sweep(ctx context.Context, firewall string, hosts []string, host sdk.Host, sweep sdk.Command) ([]sdk.Rule, error) {
	if len(hosts) == 0 {
		return nil, nil
	}
	work := make([]sdk.HostChange, len(hosts))
	for i, name := range hosts {
		work[i] = sdk.HostChange{Host: name, Commands: []sdk.Command{sweep}, Undo: sdk.Undo{
			ID: "firewall-" + firewall + "-sweep", What: "nothing: what Sweep removes is nobody's any more",
			When: sdk.WhenEnd, Commands: []sdk.Command{command("true")},
		}}
	}
	results, err := host.Change(ctx, work)
	if err != nil {
		return nil, err
	}
	var rules []sdk.Rule
	var failed error
	for _, res := range results {
		if len(res.Results) > 0 {
			rules = append(rules, swept(res.Host, string(res.Results[0].Stdout))...)
		}
		failed = First(failed, Failed("sweep the "+firewall+" rules", res))
	}
	return rules, failed
}

// swept reads what a sweeping script printed.
func swept(host, out string) []sdk.Rule {
	var rules []sdk.Rule
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 4 || !idForm.MatchString(words[0]) || slices.ContainsFunc(words[3:], func(w string) bool { return !plainName.MatchString(w) }) {
			continue
		}
		port, err := strconv.ParseUint(words[1], 10, 16)
		unix, bad := strconv.ParseInt(words[2], 10, 64)
		if err != nil || bad != nil || port == 0 {
			continue
		}
		expiry := time.Unix(unix, 0)
		place := strings.Join(words[3:], " ")
		rules = append(rules, sdk.Rule{Host: host, ID: fmt.Sprintf("%d %s", port, place), Expiry: expiry,
			Text: fmt.Sprintf("%s for port %d in %s", Tag{ID: words[0], Expiry: expiry}, port, place)})
	}
	return rules
}

// First is the first of two errors that is one.
func First(first error, next *sdk.Error) error {
	if first == nil && next != nil {
		return next
	}
	return first
}

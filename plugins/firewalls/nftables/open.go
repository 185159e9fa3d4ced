package nftables

import (
	"context"
	"strings"

	"github.com/transferpy/transferpy/plugins/firewalls/netfilter"
	"github.com/transferpy/transferpy/sdk"
)

// attempts bounds how often an opening is planned anew, because the ruleset
// was changed by somebody else between our look and our transaction.
const attempts = 4

// state is one host's part of an Open.
type state struct {
	netfilter.HostHoles
	untimed bool // its kernel or its nft knows no `meta time`
	rules   []sdk.Rule
	err     *sdk.Error // of the last attempt
	open    bool       // still to be opened
}

// Open implements sdk.Firewall. On a host where no native table drops it
// changes nothing. All hosts are tried; the error is the first host's that
// failed.
func (f firewall) Open(ctx context.Context, transferID string, holes []sdk.Hole, host sdk.Host) ([]sdk.Rule, error) {
	wanted, err := netfilter.Check(transferID, holes)
	if err != nil {
		return nil, err
	}
	states := make([]*state, len(wanted))
	for i, h := range wanted {
		states[i] = &state{HostHoles: h, open: true}
	}
	for try := 0; try < attempts; try++ {
		more, err := f.attempt(ctx, transferID, states, host)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	var rules []sdk.Rule
	var failed error
	for _, s := range states {
		rules = append(rules, s.rules...)
		failed = netfilter.First(failed, s.err)
	}
	return rules, failed
}

// attempt looks at the hosts that are still to be opened, and opens them. It
// reports whether another attempt may help.
func (f firewall) attempt(ctx context.Context, id string, states []*state, host sdk.Host) (more bool, err error) {
	var todo []*state
	var wanted []netfilter.HostHoles
	for _, s := range states {
		if s.open {
			todo = append(todo, s)
			wanted = append(wanted, s.HostHoles)
		}
	}
	rulesets, err := netfilter.LookAt(ctx, wanted, host)
	if err != nil {
		return false, err
	}
	var changed []*state
	var work []sdk.HostChange
	for i, s := range todo {
		s.open, s.err = false, rulesets[i].Err
		if s.err != nil {
			continue
		}
		b := plan(id, s.HostHoles, rulesets[i], !s.untimed)
		if s.rules = b.rules; len(b.rules) == 0 {
			continue
		}
		command := netfilter.Script("exec nft -f -")
		command.Stdin = []byte(strings.Join(b.lines, "\n") + "\n")
		changed = append(changed, s)
		work = append(work, sdk.HostChange{Host: s.Host, Commands: []sdk.Command{command},
			Undo: f.Undo(id, s.Ports())})
	}
	if len(work) == 0 {
		return false, nil
	}
	results, err := host.Change(ctx, work)
	if err != nil {
		return false, err
	}
	for i, s := range changed {
		if s.err = netfilter.Failed("open a port in nftables", results[i]); s.err != nil {
			s.rules = nil
			s.again()
		}
		more = more || s.open
	}
	return more, nil
}

// again decides by the error, which shows each line that failed, whether to try
// again, and how: chains that were there and are not, or the other way round,
// mean that the ruleset is another one by now.
func (s *state) again() {
	text := s.err.Stderr
	changed := strings.Contains(text, "No such file or directory") || strings.Contains(text, "File exists")
	for _, line := range []string{"create chain ", "flush chain ", "insert rule ", "delete rule "} {
		if changed && strings.Contains(text, line) {
			s.open = true
			return
		}
	}
	if strings.Contains(text, "meta time ") && !s.untimed {
		s.open, s.untimed = true, true
	}
}

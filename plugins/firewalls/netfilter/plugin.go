package netfilter

import (
	"context"

	"github.com/transferpy/transferpy/sdk"
)

// Plugin is what the firewalls of netfilter have in common: all but Open. It
// has no configuration and no state.
type Plugin struct {
	Name    string // IPTables or NFTables
	Summary string
	// Rules is the script of sh that changes rules on a host; it knows
	// `remove ID PORT...` and `sweep`.
	Rules string
}

// Describe implements sdk.Plugin.
func (p Plugin) Describe() sdk.Description {
	return sdk.Description{Kind: sdk.KindFirewall, Name: p.Name, Version: sdk.Version, Summary: p.Summary}
}

// Configure implements sdk.Plugin.
func (Plugin) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

// Detect implements sdk.Firewall.
func (p Plugin) Detect(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Filter, error) {
	return detect(ctx, p.Name, hosts, host)
}

// Close implements sdk.Firewall.
func (p Plugin) Close(ctx context.Context, transferID string, rules []sdk.Rule, host sdk.Host) error {
	return closeRules(ctx, p.Name, transferID, rules, host, p.remove)
}

// Sweep implements sdk.Firewall.
func (p Plugin) Sweep(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Rule, error) {
	return sweep(ctx, p.Name, hosts, host, Script(Alive+p.Rules, "sweep"))
}

// Undo makes the undo of the rules of a transfer for these ports.
func (p Plugin) Undo(id string, ports []int) sdk.Undo {
	return undo(p.Name, id, ports, p.remove(id, ports))
}

// remove is the command that removes the rules of a transfer for some ports.
func (p Plugin) remove(id string, ports []int) sdk.Command {
	return Script(p.Rules, append([]string{"remove", id}, Decimal(ports)...)...)
}

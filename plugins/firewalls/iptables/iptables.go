// Package iptables is the firewall plugin for hosts that filter with
// iptables, of either kind (nf_tables and legacy) and for IPv4 and IPv6: by
// rules of their own, or of ufw, ferm or whoever else calls iptables.
//
// For each source address and port it puts one rule in front of the INPUT
// chain of every table that drops. The rule's comment is the transfer's id and
// the expiry, at which the kernel stops to apply it. All is done by a script
// of sh on the host (rules.sh).
package iptables

import (
	"context"
	_ "embed"

	"github.com/transferpy/transferpy/plugins/firewalls/netfilter"
	"github.com/transferpy/transferpy/sdk"
)

//go:embed rules.sh
var rulesScript string

type firewall struct{}

// New returns the firewall. It has no configuration and no state.
func New() sdk.Firewall { return firewall{} }

// Describe implements sdk.Plugin.
func (firewall) Describe() sdk.Description {
	return sdk.Description{
		Kind:    sdk.KindFirewall,
		Name:    netfilter.IPTables,
		Version: sdk.Version,
		Summary: "opens ports in iptables and ip6tables, nf_tables and legacy, ufw's too",
	}
}

// Configure implements sdk.Plugin.
func (firewall) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

// Detect implements sdk.Firewall.
func (firewall) Detect(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Filter, error) {
	return netfilter.Detect(ctx, netfilter.IPTables, hosts, host)
}

// Close implements sdk.Firewall.
func (firewall) Close(ctx context.Context, transferID string, rules []sdk.Rule, host sdk.Host) error {
	return netfilter.Close(ctx, netfilter.IPTables, transferID, rules, host, remove)
}

// Sweep implements sdk.Firewall.
func (firewall) Sweep(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Rule, error) {
	return netfilter.Sweep(ctx, netfilter.IPTables, hosts, host, netfilter.Script(netfilter.Alive+rulesScript, "sweep"))
}

// remove is the command that removes the rules of a transfer for some ports.
func remove(id string, ports []int) sdk.Command {
	return netfilter.Script(rulesScript, append([]string{"remove", id}, netfilter.Decimal(ports)...)...)
}

// Package nftables is the firewall plugin for hosts that filter with native
// nftables rules, for IPv4 and IPv6.
//
// For each port it makes a chain of its own, transferpy-ID-PORT, in every
// table with an input chain that drops, and puts a rule that jumps there in
// front of each such chain. The own chain has one rule for each source
// address, whose comment is the transfer's id and the expiry, at which the
// kernel stops to apply it. A whole opening is one transaction. Tables that
// iptables-nft owns are left to package iptables.
package nftables

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
		Name:    netfilter.NFTables,
		Version: sdk.Version,
		Summary: "opens ports in native nftables rulesets, firewalld's too",
	}
}

// Configure implements sdk.Plugin.
func (firewall) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

// Detect implements sdk.Firewall.
func (firewall) Detect(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Filter, error) {
	return netfilter.Detect(ctx, netfilter.NFTables, hosts, host)
}

// Close implements sdk.Firewall.
func (firewall) Close(ctx context.Context, transferID string, rules []sdk.Rule, host sdk.Host) error {
	return netfilter.Close(ctx, netfilter.NFTables, transferID, rules, host, remove)
}

// Sweep implements sdk.Firewall.
func (firewall) Sweep(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Rule, error) {
	return netfilter.Sweep(ctx, netfilter.NFTables, hosts, host, netfilter.Script(netfilter.Alive+rulesScript, "sweep"))
}

// remove is the command that removes the rules of a transfer for some ports.
func remove(id string, ports []int) sdk.Command {
	return netfilter.Script(rulesScript, append([]string{"remove", id}, netfilter.Decimal(ports)...)...)
}

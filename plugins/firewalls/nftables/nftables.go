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
	_ "embed"

	"github.com/transferpy/transferpy/plugins/firewalls/netfilter"
	"github.com/transferpy/transferpy/sdk"
)

//go:embed rules.sh
var rulesScript string

// firewall adds Open to what all firewalls of netfilter have.
type firewall struct{ netfilter.Plugin }

// New returns the firewall. It has no configuration and no state.
func New() sdk.Firewall {
	return firewall{netfilter.Plugin{Name: netfilter.NFTables, Rules: rulesScript,
		Summary: "opens ports in native nftables rulesets, firewalld's too"}}
}

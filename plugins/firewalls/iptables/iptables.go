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
	return firewall{netfilter.Plugin{Name: netfilter.IPTables, Rules: rulesScript,
		Summary: "opens ports in iptables and ip6tables, nf_tables and legacy, ufw's too"}}
}

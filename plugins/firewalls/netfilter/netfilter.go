// Package netfilter reads what filters packets on hosts, for the firewalls
// that open holes there: which chains would drop a new connection, why, and
// with which tool a rule may be added to each. It changes nothing. What the
// firewalls share beyond that, the form of a tag and the check of holes, is
// here too.
package netfilter

import (
	"github.com/transferpy/transferpy/sdk"
)

// The firewalls that may own a chain.
const (
	IPTables = "iptables"
	NFTables = "nftables"
)

// Level is how a chain treats a new connection that no rule of it names.
type Level int

// The levels, in rising order.
const (
	Passes  Level = iota // nothing in it drops
	MayDrop              // some rule drops what it matches
	Drops                // what nothing accepts is dropped
)

// Ruleset is what filters on one host.
type Ruleset struct {
	Host   string
	Chains []Chain    // base chains of the hooks ingress, prerouting, input and output
	Read   []string   // the commands whose output this is, in words
	Err    *sdk.Error // the host could not be looked at
	// Native is the listing of nft, for the firewall that looks for its own
	// rules there.
	Native []Table
}

// Chain is a base chain.
type Chain struct {
	// Owner is the firewall whose tool may change the chain; empty: none may.
	Owner string
	// Tool is the command that changes it, as it is called on the host:
	// "nft", "iptables-nft", "ip6tables-legacy".
	Tool   string
	Family string // ip, ip6, inet, netdev, bridge
	Table  string
	Name   string
	Type   string // filter, nat, route
	Hook   string
	Level  Level
	Reason string // in words, why Level; empty: Passes
	// SetBy is the program that made the chain, where its names tell: ufw,
	// firewalld.
	SetBy string
	// Shared says that iptables-nft owns the table: an expression in it that
	// iptables does not know would hide the table's rules from iptables-save.
	Shared bool
}

// Opens reports whether firewall can let a new connection through c, and
// there is need to.
func (c Chain) Opens(firewall string) bool {
	return c.Owner == firewall && c.Hook == "input" && c.Type == "filter" && c.Level > Passes
}

// String names the chain as an operator would look for it.
func (c Chain) String() string {
	name := c.Tool + ": " + c.Table + " " + c.Name
	if c.Tool == "nft" {
		name = "nftables: " + c.Family + " " + c.Table + " " + c.Name
	}
	if c.Reason != "" {
		name += ": " + c.Reason
	}
	if c.SetBy != "" {
		name += " (set up by " + c.SetBy + ")"
	}
	return name
}

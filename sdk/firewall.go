package sdk

import (
	"context"
	"time"
)

// Firewall opens a hole on a target for the time of a transfer.
type Firewall interface {
	Plugin

	// Detect says what filters on each host: one answer for each, in the
	// order of hosts. Read-only: host.Change is refused. Of several firewalls
	// the right ones for a host are those whose answer says Filters; where
	// rulesets of two kinds drop, both have to be opened.
	Detect(ctx context.Context, hosts []string, host Host) ([]Filter, error)

	// Open lets the sources of each hole reach its port: in front of what
	// drops, in every chain that drops, tagged with transfer id and expiry.
	// Idempotent: the same hole again makes one rule, with the later expiry,
	// in front again where others have put theirs before it. Each rule goes
	// through host.Change with its undo. Where nothing drops no rule is made.
	// All hosts are tried; the error is that of one that failed.
	Open(ctx context.Context, transferID string, holes []Hole, host Host) ([]Rule, error)

	// Close removes the rules, which Open returned for this transfer; it
	// succeeds when they are gone already.
	Close(ctx context.Context, transferID string, rules []Rule, host Host) error

	// Sweep removes tagged rules that are past their expiry by the host's
	// own clock, or whose agent's directory exists there with no living
	// lock; never a living one of another control host.
	Sweep(ctx context.Context, hosts []string, host Host) ([]Rule, error)
}

// Filter is what Detect found on a host.
type Filter struct {
	Host    string
	Filters bool   // something drops or rejects incoming connections, and this firewall can open it
	What    string // "iptables (nf_tables): INPUT policy DROP"
	Why     string // how it was seen
	Others  []Barrier
	Err     *Error // the host could not be looked at; then Filters means nothing
}

// Barrier is something that may drop packets on a host and that the firewall
// which saw it does not open.
type Barrier struct {
	Hook     string // where packets meet it: ingress, prerouting, input or output
	What     string // "nftables: inet base input: policy drop"
	Firewall string // the firewall that opens it, where one is known
}

// Hole is a port of a host that addresses are to reach.
type Hole struct {
	Host    string
	Port    int
	Sources []string // literal addresses, IPv4 or IPv6
	Expiry  time.Time
}

// Rule is a rule that Open made or Sweep removed.
type Rule struct {
	Host   string
	ID     string // the firewall's own name for it
	Text   string // as its tool prints it
	Expiry time.Time
}

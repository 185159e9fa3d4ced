package agent

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// chain answers who is who and who dials whom, from the plan's order: every
// target is dialled by the source and by its two nearest predecessors.
type chain struct {
	plan *control.Start
	self control.Member // any member of this agent: tells where this agent is

	closed *closedPorts // what its dialers find
}

// newChain checks the plan as far as this agent can.
func newChain(plan *control.Start, agent string) (*chain, error) {
	refuse := func(format string, args ...any) (*chain, error) {
		return nil, &sdk.Error{Kind: sdk.KindInternal, Message: "the plan is refused: " + fmt.Sprintf(format, args...)}
	}
	if len(plan.Members) < 2 {
		return refuse("%d members", len(plan.Members))
	}
	c := &chain{plan: plan, closed: &closedPorts{by: make(map[string]*closedPort)}}
	names := make(map[string]bool)
	for i, m := range plan.Members {
		if names[m.Name] || m.Name == "" {
			return refuse("member name %q is empty or taken", m.Name)
		}
		names[m.Name] = true
		if (i == 0) != (m.Destination == nil) {
			return refuse("member %s: the first is the source and the others have destinations", m.Name)
		}
		if m.Agent == agent {
			c.self = m
		}
	}
	if c.self.Name == "" {
		return refuse("no member of it is agent %s's", agent)
	}
	if (plan.Read.Builtin == sdk.BuiltinTree) != (plan.Write.Builtin == sdk.BuiltinTree) {
		return refuse("a tree goes with a tree, a stream with a stream")
	}
	return c, nil
}

// stream reports whether one stream of bytes is moved, and no tree.
func (c *chain) stream() bool { return c.plan.Read.Builtin != sdk.BuiltinTree }

// digests reports whether digests of files are wanted.
func (c *chain) digests() bool { return c.plan.Settings.Verify != control.VerifySigned }

func (c *chain) index(name string) int {
	for i, m := range c.plan.Members {
		if m.Name == name {
			return i
		}
	}
	return -1
}

// purposes returns how member i reaches member j; empty: it does not.
func (c *chain) purposes(i, j int) []link.Purpose {
	var out []link.Purpose
	if j < 1 || i >= j {
		return nil
	}
	if i == 0 {
		out = append(out, link.PurposeNotes)
	}
	switch j - i {
	case 1:
		out = append(out, link.PurposeData)
	case 2:
		out = append(out, link.PurposeProof)
	}
	return out
}

// incoming is the set of connections that member j waits for.
func (c *chain) incoming(j int) map[string]bool {
	want := make(map[string]bool)
	for i := range j {
		for _, p := range c.purposes(i, j) {
			want[slot(c.plan.Members[i].Name, p)] = true
		}
	}
	return want
}

func slot(from string, p link.Purpose) string { return from + "/" + string(p) }

// dialer makes the Dialer towards a member.
func (c *chain) dialer(ctx context.Context, id *link.Identity, m control.Member) *link.Dialer {
	_, host, found := strings.Cut(m.Host, "@")
	if !found {
		host = m.Host
	}
	return &link.Dialer{
		Identity:    id,
		Fingerprint: m.Fingerprint,
		Host:        m.Host,
		Tried:       c.closed.watch(c.index(m.Name), m.Name),
		Addresses: link.Candidates(ctx, link.Reach{
			Host:        host,
			DataAddress: m.DataAddress,
			Addresses:   m.Addresses,
			Port:        m.Port,
			SameHost:    m.BootID == c.self.BootID && m.NetNS == c.self.NetNS,
			Networks:    c.plan.Settings.DataNetworks,
		}),
	}
}

// planned reports whether addr is that of a member's host.
func (c *chain) planned(addr netip.Addr) bool {
	for _, m := range c.plan.Members {
		for _, text := range append([]string{m.DataAddress}, m.Addresses...) {
			if a, err := netip.ParseAddr(text); err == nil && a.Unmap() == addr {
				return true
			}
		}
	}
	return addr.IsLoopback()
}

// acceptor makes the Acceptor for this agent's members.
func (c *chain) acceptor(id *link.Identity, transfer string, deliver func(*link.Conn)) *link.Acceptor {
	keys := make(map[string]string)
	known := make(map[string]bool)
	for _, m := range c.plan.Members {
		keys[m.Name] = m.Fingerprint
		known[m.Fingerprint] = true
	}
	return &link.Acceptor{
		Identity:    id,
		Transfer:    transfer,
		Fingerprint: func(member string) string { return keys[member] },
		Known:       func(fp string) bool { return known[fp] },
		Planned:     c.planned,
		Check:       c.checkHello,
		Deliver:     deliver,
	}
}

// checkHello refuses a connection that is none of the chain's.
func (c *chain) checkHello(h link.Hello) error {
	i, j := c.index(h.From), c.index(h.To)
	if i < 0 || j < 0 || c.plan.Members[j].Agent != c.self.Agent {
		return fmt.Errorf("no member %q here for %q", h.To, h.From)
	}
	allowed := c.purposes(i, j)
	switch {
	case i == 0 && j > 0:
		allowed = append(allowed, link.PurposeRepair, link.PurposeData)
	case j-i == 2: // when the one between them is lost
		allowed = append(allowed, link.PurposeData)
	}
	for _, p := range allowed {
		carries := p == link.PurposeData || p == link.PurposeRepair
		if p == h.Purpose && h.Plain == (carries && !c.plan.Settings.Encrypt) {
			return nil
		}
	}
	return fmt.Errorf("%s has no %s connection to %s", h.From, h.Purpose, h.To)
}

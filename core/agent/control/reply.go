package control

import (
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Validate checks all of a: a host that lies can only lie about itself, not
// make the controller keep, show or trust what no agent would say. The error
// is a *sdk.Error of KindConfig. Texts may hold anything that is UTF-8; who
// prints them makes them safe.
func (a *Reply) Validate() error {
	c := &check{}
	c.that(a.V == Version, "the reply's version is %d, not %d", a.V, Version)
	if a.Facts != nil {
		a.Facts.validate(c)
	}
	c.count("agents", len(a.Agents), MaxAgents)
	seen := map[string]bool{}
	for _, answer := range a.Agents {
		answer.validate(c)
		c.that(!seen[answer.Agent], "agent %.80q answered twice", answer.Agent)
		seen[answer.Agent] = true
	}
	doResults(c, a.Done)
	validRoutes(c, a.Routes)
	c.fault(a.Error)
	return c.result()
}

func (a *Answer) validate(c *check) {
	c.id("an agent", a.Agent)
	if r := a.Ready; r != nil {
		c.that(hexDigest.MatchString(r.Fingerprint), "agent %.80q has no fingerprint", a.Agent)
		c.that(len(r.SigningKey) == 32, "agent %.80q has no signing key", a.Agent)
		c.that(r.Port > 0, "agent %.80q has no port", a.Agent)
		c.port("an agent's port", r.Port)
		c.addresses(r.Addresses)
		c.text("a boot id", r.BootID, maxName)
		c.text("a network namespace", r.NetNS, maxName)
	}
	if a.Status != nil {
		a.Status.validate(c)
	}
	if a.Piece != nil {
		a.Piece.validate(c)
	}
	if a.Verified != nil {
		a.Verified.validate(c)
	}
	c.that(a.Superseded == 0 || a.Error != nil, "agent %.80q has refused, and says not why", a.Agent)
	doResults(c, a.Done)
	c.fault(a.Error)
}

func (s *Status) validate(c *check) {
	c.count("members", len(s.Members), MaxMembers)
	for _, m := range s.Members {
		m.validate(c)
	}
	c.that(s.Unasked >= 0 && s.EndsIn >= 0, "an agent measures a time below zero")
	c.count("undos", len(s.Undos), MaxQuestions)
	for _, u := range s.Undos {
		c.text("an undo's id", u.ID, maxName)
		c.text("what an undo does", u.What, maxText)
		c.fault(u.Error)
	}
	c.count("closed ports", len(s.Closed), MaxClosed)
	for _, p := range s.Closed {
		p.validate(c)
	}
}

func (p *ClosedPort) validate(c *check) {
	c.id("a member", p.Member)
	c.that(p.Rounds > 0, "a closed port that nobody tried: %d", p.Rounds)
	c.count("addresses", len(p.Addresses), maxAddresses)
	for _, a := range p.Addresses {
		c.address(a.Address)
		if a.Local != "" {
			c.address(a.Local)
		}
		c.text("an outcome", a.Outcome, maxName)
	}
}

func (m *MemberStatus) validate(c *check) {
	c.id("a member", m.Name)
	c.that(phaseOrder[m.Phase] > 0, "member %.80q is in an unknown phase: %.80q", m.Name, m.Phase)
	for _, n := range []int64{m.Entries, m.Files, m.Bytes, m.Wire, m.Checked, m.Total} {
		c.that(n >= 0, "member %.80q has counted below zero", m.Name)
	}
	if t := m.Times; t != nil {
		for _, d := range []time.Duration{t.Alive, t.Idle, t.Sending, t.Paced, t.Taking, t.Full, t.Braked, t.Disk, t.CPU} {
			c.that(d >= 0, "member %.80q has measured a time below zero", m.Name)
		}
	}
	c.that(m.Root == "" || hexDigest.MatchString(m.Root), "member %.80q has no root digest: %.80q", m.Name, m.Root)
	c.text("a peer", m.Peer, maxName)
	c.text("an own address", m.Reached, maxName)
	c.count("warnings", len(m.Warnings), maxWarnings)
	for _, w := range m.Warnings {
		c.text("a warning", w.What, maxText)
		c.raw("a warning's example", w.Example, maxPath)
	}
	c.count("published paths", len(m.Paths), MaxQuestions)
	for _, p := range m.Paths {
		c.raw("a published path", p, maxPath)
	}
	c.count("targets given up", len(m.Failed), MaxMembers)
	c.count("slow targets", len(m.Slow), MaxMembers)
	c.count("detours", len(m.Detours), MaxMembers)
	for _, d := range m.Detours {
		c.count("members of a detour", len(d.Lost), MaxMembers)
		c.fault(d.Error)
	}
	c.raw("what was kept", m.Kept, maxPath)
	c.fault(m.Error)
}

func doResults(c *check, list []DoResult) {
	c.count("parts", len(list), MaxMembers)
	for _, d := range list {
		c.id("a part", d.Part)
		c.count("results", len(d.Results), MaxCommands)
		for _, r := range d.Results {
			result(c, r)
		}
		c.fault(d.Error)
	}
}

func result(c *check, r sdk.Result) {
	c.text("a result's host", r.Host, maxName)
	c.fault(r.Err)
}

func (f *Facts) validate(c *check) {
	c.id("an instance", f.Instance)
	c.text("a boot id", f.BootID, maxName)
	c.text("a network namespace", f.NetNS, maxName)
	c.text("a host name", f.Hostname, maxName)
	c.text("an architecture", f.Arch, maxName)
	c.text("a kernel", f.Kernel, maxName)
	c.absolute("the state directory", f.StateDir)
	c.absolute("the agent's path", f.Program)
	c.addresses(f.Addresses)
	c.count("resolved names", len(f.Resolved), MaxQuestions)
	for name, list := range f.Resolved {
		c.text("a resolved name", name, maxName)
		c.addresses(list)
	}
	c.count("paths", len(f.Paths), MaxQuestions)
	for id, p := range f.Paths {
		c.text("an answer's id", id, maxName)
		c.that(p.Size >= 0 && p.FreeBytes >= 0 && p.FreeInodes >= -1 && p.Entries >= 0 && p.Bytes >= 0, "answer %.80q has counted below zero", id)
		c.text("a file system", p.FileSystem, maxName)
		c.fault(p.Err)
	}
	c.count("commands", len(f.Commands), MaxQuestions)
	for id, r := range f.Commands {
		c.text("an answer's id", id, maxName)
		result(c, r)
	}
}

package netfilter

// Bounds on what a host's ruleset makes us do.
const (
	maxDepth  = 32  // of chains that jump to chains; both tools allow 16
	maxReason = 160 // bytes of a foreign rule in our words
)

// verdict is what a rule does with what it matches.
type verdict int

const (
	goesOn verdict = iota
	accepts
	returns
	drops
	mayDrop // hands the decision to somebody else
)

// rule is a rule of either tool, as far as it decides about a new connection.
type rule struct {
	text    string
	always  bool // it matches every packet
	does    verdict
	calls   []string // chains that it goes to
	forGood bool     // it does not come back from them
}

// chain is a chain of either tool.
type chain struct {
	name   string
	hook   string // empty: no base chain
	kind   string
	policy verdict
	rules  []rule
}

// finding is what was found out about a chain.
type finding struct {
	level  Level
	reason string
	ends   bool // no packet comes out at its end
}

func (f *finding) raise(level Level, reason string) {
	if level > f.level {
		f.level, f.reason = level, reason
	}
}

// judge finds out about the chains of one table, which call each other by
// name.
type judge struct {
	chains map[string]*chain
	known  map[string]finding
}

func newJudge(chains []*chain) *judge {
	j := &judge{chains: map[string]*chain{}, known: map[string]finding{}}
	for _, c := range chains {
		j.chains[c.name] = c
	}
	return j
}

// base judges a base chain.
func (j *judge) base(c *chain) finding {
	f := j.follow(c, 0)
	if !f.ends && c.policy == drops {
		f.raise(Drops, "policy drop")
	}
	return f
}

// called judges a chain that a rule goes to. A chain that is not known, or is
// being judged already, decides nothing.
func (j *judge) called(name string, depth int) finding {
	if f, ok := j.known[name]; ok {
		return f
	}
	c := j.chains[name]
	if c == nil || depth > maxDepth {
		return finding{}
	}
	j.known[name] = finding{}
	f := j.follow(c, depth)
	j.known[name] = f
	return f
}

// follow goes through a chain's rules as a packet would that matches nothing
// but rules that match every packet.
func (j *judge) follow(c *chain, depth int) finding {
	var f finding
	for _, r := range c.rules {
		switch {
		case r.does == drops && r.always:
			f.raise(Drops, "the rule "+clip(r.text)+" in "+c.name)
			f.ends = true
			return f
		case r.does == drops || r.does == mayDrop:
			f.raise(MayDrop, "what matches "+clip(r.text)+" in "+c.name)
		}
		for _, name := range r.calls {
			sub := j.called(name, depth+1)
			if !r.always {
				sub.level, sub.ends = min(sub.level, MayDrop), false
			}
			f.raise(sub.level, sub.reason)
			f.ends = f.ends || sub.ends
		}
		if f.ends {
			return f
		}
		if r.always && (r.does == accepts || r.does == returns || r.forGood) {
			f.ends = r.does == accepts
			return f
		}
	}
	return f
}

// clip shortens a foreign rule and takes what is not printable out of it.
func clip(s string) string {
	b := make([]rune, 0, min(len(s), maxReason))
	for _, r := range s {
		if len(b) == maxReason {
			b = append(b[:maxReason-3], '.', '.', '.')
			break
		}
		if r < ' ' || r == 0x7f || r == '\uFFFD' || (r >= 0x80 && r < 0xa0) {
			r = '?'
		}
		b = append(b, r)
	}
	return "\"" + string(b) + "\""
}

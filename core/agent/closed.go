package agent

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
)

const (
	// slowLinks is how long links may take before the controller is woken: one
	// of them may be closed, and it could not hear of that for as long as it
	// waits for hosts that cannot be told. A little longer than a dialler needs
	// to see it.
	slowLinks = 4 * time.Second
	// wantAgain is the least time between two calls for the controller about
	// one port.
	wantAgain = 5 * time.Second
)

// closedPorts are the peers whose port this agent finds closed. What they need
// is the controller: it may have a firewall open them, while diallers go on
// trying. Safe for concurrent use.
type closedPorts struct {
	want func() // called without locks held, from any goroutine

	mu      sync.Mutex
	by      map[string]*closedPort // by the peer's name
	first   int                    // dials under way of which nothing is known yet
	waiting bool                   // the controller is to be called for once that is known
}

// closedPort is one of them.
type closedPort struct {
	index  int // in the chain
	rounds int
	round  []link.Attempt // the last
	wanted time.Time      // when the controller was called for last
	asked  int            // rounds by then
}

// watch is Dialer.Tried for one dial to a member of the chain.
func (p *closedPorts) watch(index int, name string) func([]link.Attempt) {
	p.mu.Lock()
	p.first++
	p.mu.Unlock()
	var once sync.Once
	return func(round []link.Attempt) {
		wanted := p.take(index, name, round)
		once.Do(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.first--
		})
		if p.due(wanted) && p.want != nil {
			p.want()
		}
	}
}

// due reports whether the controller is to be called for now. Dials that began
// together find their ports closed at nearly the same time, and the controller
// is to hear of all of them at once.
func (p *closedPorts) due(wanted bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = p.waiting || wanted
	if !p.waiting || p.first > 0 {
		return false
	}
	p.waiting = false
	return true
}

// take notes what came of a round. It reports whether the controller should
// hear of it at once: when the port is found closed, and from time to time
// while it stays so, since the controller wants to know whether what it did
// has helped.
func (p *closedPorts) take(index int, name string, round []link.Attempt) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if round != nil && len(round) == 0 {
		return false // broken off
	}
	if !link.Closed(round) {
		delete(p.by, name)
		return false
	}
	c := p.by[name]
	if c == nil {
		c = &closedPort{index: index}
		p.by[name] = c
	}
	c.rounds++
	c.round = round
	now := time.Now()
	if c.asked > 0 && (c.rounds < c.asked+2 || now.Sub(c.wanted) < wantAgain) {
		return false
	}
	c.asked, c.wanted = c.rounds, now
	return true
}

// any reports whether a port is closed.
func (p *closedPorts) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.by) > 0
}

// list is what the controller is told.
func (p *closedPorts) list() []control.ClosedPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.by))
	for name := range p.by {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return p.by[a].index - p.by[b].index })
	var list []control.ClosedPort
	for _, name := range names[:min(len(names), control.MaxClosed)] {
		c := p.by[name]
		told := control.ClosedPort{Member: name, Rounds: c.rounds}
		for _, a := range c.round {
			host, _, err := net.SplitHostPort(a.Address)
			if err != nil {
				continue // Candidates makes none such
			}
			told.Addresses = append(told.Addresses, control.ClosedAddress{Address: host, Local: a.Local, Outcome: string(a.Outcome)})
		}
		list = append(list, told)
	}
	return list
}

// Closed tells which members' ports this agent finds closed; empty before
// Start.
func (j *Job) Closed() []control.ClosedPort {
	j.mu.Lock()
	closed := j.closed
	j.mu.Unlock()
	if closed == nil {
		return nil
	}
	return closed.list()
}

// want makes all agents that can be told answer their waiting controller: a
// backend that waits for its slowest host has to come back.
func (j *Job) want() {
	j.cfg.Wanted()
	j.mu.Lock()
	members := make([]member, 0, len(j.members))
	for _, m := range j.members {
		members = append(members, m)
	}
	j.mu.Unlock()
	for _, m := range members {
		m.wake()
	}
}

// remind calls for the controller, once, where links take long.
func (j *Job) remind() {
	timer := time.NewTimer(slowLinks)
	defer timer.Stop()
	select {
	case <-j.ctx.Done():
		return
	case <-timer.C:
	}
	for _, m := range j.Members() {
		if !m.Phase.AtLeast(control.PhaseReady) {
			j.want()
			return
		}
	}
}

// wake implements member: every target is told.
func (s *source) wake() { s.broadcast(note{Type: noteWake}) }

// wake implements member: the source is told, and tells the others.
func (t *target) wake() {
	t.mu.Lock()
	notes := t.notes
	t.mu.Unlock()
	if notes != nil {
		_ = notes.WriteMessage(note{Type: noteWake}) // a lost link is seen by its reader
	}
}

package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/monitor"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// cleanupLimit bounds the end of one transfer by cleanup: an undo may start a
// replication again and wait for it.
const cleanupLimit = 5 * time.Minute

// Cleanup ends the transfer id, whose process has died: agents that live are
// stopped, what was committed is rolled forward, all else is undone. It is
// idempotent and returns nil only when every host has answered that nothing
// is left. It is refused while a living process runs the transfer.
func Cleanup(ctx context.Context, id string, deps Deps, events Events) error {
	deps, err := deps.complete()
	if err != nil {
		return err
	}
	c := &cleaner{deps: deps, events: events, told: map[string]bool{}}
	return c.clean(ctx, id, false)
}

// CleanupAll ends every transfer of this user whose process has died, but
// for those whose agents still hold data, and those of which something is kept
// for Resume: of these it tells by an EventWarning how to end them. What
// agents have of a transfer with KeepPartial is kept, while all else that it
// changed is undone. It goes on after one that fails and returns the first
// error.
func CleanupAll(ctx context.Context, deps Deps, events Events) error {
	deps, err := deps.complete()
	if err != nil {
		return err
	}
	list, err := journal.List(deps.StateDir)
	if err != nil {
		return err
	}
	var first error
	for _, s := range list {
		if s.Ended || s.Held || ctx.Err() != nil {
			continue
		}
		c := &cleaner{deps: deps, events: events, id: s.Transfer, told: map[string]bool{}}
		if s.Kept != nil {
			c.tellKept(s.Kept.Time)
			continue
		}
		if err := c.clean(ctx, s.Transfer, true); err != nil && first == nil {
			first = err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return first
}

// cleaner ends one transfer from its journal.
type cleaner struct {
	deps    Deps
	events  Events
	id      string
	journal *journal.Journal
	fleet   *remote.Fleet
	hosts   []string
	told    map[string]bool
	agents  map[string]string               // host -> the agent that was prepared there
	owners  map[string]string               // a target's member -> its agent
	members map[string]control.MemberStatus // of targets, as their agents told
}

// clean takes the journal over and ends the transfer. With spare, one whose
// agents hold data is left alone, and what is to be resumed is kept.
func (c *cleaner) clean(ctx context.Context, id string, spare bool) error {
	c.id = id
	if spare {
		if held, err := c.isHeld(ctx); err != nil || held {
			return err
		}
	}
	j, err := journal.Takeover(c.deps.StateDir, id)
	if err != nil {
		return err
	}
	defer j.Close()
	monitor.Remove(c.deps.StateDir, id) // the dead process's
	c.journal = j
	state := j.State()
	if state.Ended {
		c.ended()
		return nil
	}
	req, err := requestOf(&state)
	if err != nil {
		return err
	}
	if err := c.connect(ctx, &state, &req); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	held, err := c.look(ctx, c.request(control.VerbStatus))
	if err != nil {
		return err
	}
	if err := c.notePublished(); err != nil { // before what tells of it is removed
		return err
	}
	if held && spare {
		c.tellHeld(&req)
		return nil
	}
	keep := spare && req.KeepPartial
	if err := c.end(ctx, keep); err != nil {
		return err
	}
	removeRests(&req, id)
	c.sweep(ctx, &state, &req)
	c.enlist(&state, &req, keep && c.hasKept())
	if keep && c.hasKept() {
		now := time.Now().UTC()
		c.tellKept(now)
		return j.Add(journal.Record{Kept: &journal.Kept{Time: now, Members: c.without(&req)}})
	}
	c.ended()
	return j.Add(journal.Record{Ended: true})
}

// isHeld looks whether agents hold data, and says then what to do about it.
// Nothing is changed by it, here or there: whoever attaches finds all as it was
// left, and agents wait no longer.
func (c *cleaner) isHeld(ctx context.Context) (held bool, err error) {
	state, living, err := journal.Read(c.deps.StateDir, c.id)
	if err != nil || state.Ended || living { // the journal's lock decides of the last
		return false, err
	}
	req, err := requestOf(&state)
	if err != nil {
		return false, err
	}
	if err := c.connect(ctx, &state, &req); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	question := control.Request{Verb: control.VerbStatus, Transfer: c.id, Call: control.NewID(), Observe: true}
	if held, err = c.look(ctx, question); held {
		c.tellHeld(&req)
	}
	return held, err
}

// connect makes the fleet of all hosts that the transfer has touched.
func (c *cleaner) connect(ctx context.Context, state *journal.State, req *Request) (err error) {
	if c.fleet, err = newFleet(ctx, c.deps, *req, func(string, string, string) {}); err != nil {
		return err
	}
	c.hosts, c.agents, c.owners, c.members = nil, map[string]string{}, map[string]string{}, map[string]control.MemberStatus{}
	for _, h := range state.Hosts {
		c.hosts = append(c.hosts, h.Host)
		c.agents[h.Host] = h.Agent
		c.fleet.SetPlace(h.Host, remote.Place{Program: h.Program, StateDir: h.StateDir})
	}
	for i, t := range req.Targets {
		c.owners[memberName(i)] = c.agents[t.Host]
	}
	return nil
}

// request makes a request of the transfer under the cleaner's generation.
func (c *cleaner) request(verb control.Verb) control.Request {
	state := c.journal.State()
	return control.Request{Verb: verb, Transfer: c.id, Generation: state.Generation(), Call: control.NewID()}
}

// end ends all agents and notes what is published.
func (c *cleaner) end(ctx context.Context, keep bool) error {
	e := ending{fleet: c.fleet, request: c.request, keep: keep, absorb: c.absorb}
	left := e.end(ctx, c.hosts)
	if keep && len(left) == 0 && !c.hasKept() {
		e.keep = false // nobody has anything to go on with
		left = e.end(ctx, c.hosts)
	}
	if err := c.notePublished(); err != nil {
		return err
	}
	if len(left) > 0 {
		return left.error(c.id, keep)
	}
	return nil
}

// notePublished writes into the journal which targets have said that they are
// published.
func (c *cleaner) notePublished() error {
	var published []string
	for name, s := range c.members {
		if s.Phase == control.PhaseCommitted {
			published = append(published, name)
		}
	}
	slices.Sort(published)
	return noteCommitted(c.journal, published)
}

// hasKept reports whether a target has left something.
func (c *cleaner) hasKept() bool {
	for _, s := range c.members {
		if s.Kept != "" {
			return true
		}
	}
	return false
}

// without are the targets that are not known to have their copy.
func (c *cleaner) without(req *Request) []string {
	state := c.journal.State()
	return slices.DeleteFunc(memberNames(req), func(name string) bool { return slices.Contains(state.Committed, name) })
}

// unknown are the targets of which nobody can say whether they have their
// copy: their agents were told to publish, and have gone without a trace.
func (c *cleaner) unknown(state *journal.State, req *Request) []string {
	if state.Phase != "commit" {
		return nil
	}
	var ends []string
	for i, name := range memberNames(req) {
		if _, told := c.members[name]; !told && slices.Contains(c.without(req), name) && mayBePublished(state, req.Targets[i]) {
			ends = append(ends, req.Targets[i].Host+":"+req.Targets[i].Path.Display())
		}
	}
	return ends
}

// mayBePublished reports whether a target's outcome is not known: nobody lived
// to note it, or it was noted so.
func mayBePublished(state *journal.State, target Endpoint) bool {
	if state.Outcome == nil {
		return true
	}
	var report Report
	if json.Unmarshal(state.Outcome.Report, &report) != nil {
		return true
	}
	return slices.ContainsFunc(report.Targets, func(t TargetReport) bool {
		return t.Host == target.Host && t.Path == target.Path && t.ExitCode == ExitControlLost
	})
}

func (c *cleaner) ended() {
	c.emit(Event{Type: EventPhase, Phase: "ended", Message: "nothing is left of transfer " + c.id})
}

// tellHeld says that agents hold data, and what to do about it.
func (c *cleaner) tellHeld(req *Request) {
	message := fmt.Sprintf("the agents of transfer %s are alive and hold data; to take it over: transferpy attach %s; to end it and undo what is not published: transferpy cleanup %s", c.id, c.id, c.id)
	if req.KeepPartial {
		message += ", or, to send anew what is missing: transferpy resume " + c.id
	}
	c.emit(Event{Type: EventWarning, Message: message})
}

// tellKept says that something is kept, since when, and what to do with it.
func (c *cleaner) tellKept(since time.Time) {
	c.emit(Event{Type: EventWarning, Message: fmt.Sprintf("what transfer %s has received is kept on its targets since %s (%s): %s",
		c.id, since.Local().Format(time.DateTime), age(time.Since(since)), keptAdvice(c.id))})
}

// age is how long ago something was, in the largest unit that has a whole
// number.
func age(d time.Duration) string {
	for _, u := range []struct {
		d    time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := int(d / u.d); n > 1 {
			return fmt.Sprintf("%d %ss ago", n, u.name)
		} else if n == 1 {
			return fmt.Sprintf("1 %s ago", u.name)
		}
	}
	return "just now"
}

// look asks the agents for their state: held says that one of them lives and
// has data. Hosts where the agent's file has gone get it anew.
func (c *cleaner) look(ctx context.Context, req control.Request) (held bool, err error) {
	answers := c.fleet.Broadcast(ctx, req, c.hosts...)
	c.absorb(answers)
	for _, h := range c.hosts {
		a := answers[h]
		if a.Err != nil {
			if a.Err.Kind == sdk.KindNotFound || a.Err.Kind == sdk.KindUnsupported {
				c.fleet.Probe(ctx, control.Probe{}, nil)
				break
			}
			continue
		}
		for _, agent := range a.Reply.Agents {
			held = held || !agent.Gone && agent.Status != nil && holdsData(agent.Status)
		}
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return held, nil
}

// holdsData reports whether an agent's member has begun to move data and has
// not come to its end.
func holdsData(s *control.Status) bool {
	for _, m := range s.Members {
		if m.Phase.AtLeast(control.PhaseMoving) && !m.Phase.AtLeast(control.PhaseCommitted) {
			return true
		}
	}
	return false
}

// absorb tells of the undos that ran or failed.
func (c *cleaner) absorb(answers map[string]remote.Answer) {
	for host, a := range answers {
		if a.Err != nil {
			continue
		}
		for _, agent := range a.Reply.Agents {
			if agent.Status != nil {
				c.take(host, &agent)
			}
		}
	}
}

// take takes the state of one agent. A host is believed only about the agent
// that it named when that was prepared.
func (c *cleaner) take(host string, agent *control.Answer) {
	for _, u := range agent.Status.Undos {
		tellUndo(c.told, agent.Agent, u, func(e Event) { e.Host = host; c.emit(e) })
		if err := markDone(c.journal, agent.Agent, u); err != nil {
			c.emit(Event{Type: EventWarning, Host: host, Message: "that an undo has run could not be written into the journal: " + err.Error()})
		}
	}
	if agent.Agent != c.agents[host] {
		return
	}
	for _, m := range agent.Status.Members {
		if old := c.members[m.Name]; c.owners[m.Name] == agent.Agent && old.Phase != control.PhaseCommitted {
			c.members[m.Name] = m
		}
	}
}

func (c *cleaner) emit(e Event) {
	if c.events != nil {
		e.Time, e.Transfer = time.Now(), c.id
		c.events(e)
	}
}

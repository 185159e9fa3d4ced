package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
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
// for those whose agents still hold data: of these it tells by an
// EventWarning how to end them. It goes on after one
// that fails and returns the first error.
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
		c := &cleaner{deps: deps, events: events, told: map[string]bool{}}
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
	deps   Deps
	events Events
	id     string
	fleet  *remote.Fleet
	hosts  []string
	told   map[string]bool
}

// clean takes the journal over and ends the transfer; with spare, one whose
// agents hold data is left alone.
func (c *cleaner) clean(ctx context.Context, id string, spare bool) error {
	c.id = id
	j, err := journal.Takeover(c.deps.StateDir, id)
	if err != nil {
		return err
	}
	defer j.Close()
	state := j.State()
	if state.Ended {
		c.emit(Event{Type: EventPhase, Phase: "ended", Message: "nothing is left of transfer " + id})
		return nil
	}
	req, err := decodeRequest(state)
	if err != nil {
		return err
	}
	if c.fleet, err = newFleet(ctx, c.deps, req, func(string, string, string) {}); err != nil {
		return err
	}
	for _, h := range state.Hosts {
		c.hosts = append(c.hosts, h.Host)
		c.fleet.SetPlace(h.Host, remote.Place{Program: h.Program, StateDir: h.StateDir})
	}
	request := func(verb control.Verb) control.Request {
		return control.Request{Verb: verb, Transfer: id, Generation: state.Generation(), Call: control.NewID()}
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	held, err := c.look(ctx, request(control.VerbStatus))
	if err != nil {
		return err
	}
	if held && spare {
		c.emit(Event{Type: EventWarning, Message: fmt.Sprintf("the agents of transfer %s are alive and hold data; to end it and undo what is not committed: transferpy cleanup %s", id, id)})
		return nil
	}
	e := ending{fleet: c.fleet, request: request, keep: req.KeepPartial, absorb: c.absorb}
	if left := e.end(ctx, c.hosts); len(left) > 0 {
		return left.error(id)
	}
	c.emit(Event{Type: EventPhase, Phase: "ended", Message: "nothing is left of transfer " + id})
	return j.Add(journal.Record{Ended: true})
}

// look asks the agents for their state: held says that one of them lives and
// has data. Hosts where the agent's file has gone get it anew.
func (c *cleaner) look(ctx context.Context, req control.Request) (held bool, err error) {
	answers := c.fleet.Broadcast(ctx, req, c.hosts...)
	for _, h := range c.hosts {
		a := answers[h]
		if a.Err != nil {
			if a.Err.Kind == sdk.KindNotFound || a.Err.Kind == sdk.KindUnsupported {
				c.fleet.Probe(ctx, control.Probe{})
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
			if agent.Status == nil {
				continue
			}
			for _, u := range agent.Status.Undos {
				tellUndo(c.told, agent.Agent, u, func(e Event) { e.Host = host; c.emit(e) })
			}
		}
	}
}

func (c *cleaner) emit(e Event) {
	if c.events != nil {
		e.Time, e.Transfer = time.Now(), c.id
		c.events(e)
	}
}

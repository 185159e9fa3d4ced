package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// Observe asks the agents of the transfer id how far they are, and tells it by
// events: EventProgress, an EventWarning for a host that cannot be asked, and an
// EventPhase that says until when the agents hold on. Nothing is changed, nothing
// is taken over, and who observes keeps no agent alive: it is for transfers whose
// process has died or detached. With follow it goes on, as often as the executors
// bear, until no agent is left, a process runs the transfer again, or ctx ends.
func Observe(ctx context.Context, id string, follow bool, deps Deps, events Events) error {
	deps, err := deps.complete()
	if err != nil {
		return err
	}
	state, _, err := read(deps.StateDir, id)
	if err != nil {
		return err
	}
	req, err := requestOf(&state)
	if err != nil {
		return err
	}
	o := &observer{run: newRun(id, deps, events), told: map[string]bool{}}
	o.run.attached, o.run.ending = true, true // an agent that has gone is no failure of ours
	o.run.report.Began = state.Header.Created
	if err := o.run.adoptState(&state, req); err != nil {
		return err
	}
	if o.run.fleet, err = newFleet(ctx, deps, req, func(string, string, string) {}); err != nil {
		return err
	}
	for _, h := range state.Hosts {
		o.run.hosts = append(o.run.hosts, h.Host)
		o.run.fleet.SetPlace(h.Host, remote.Place{Program: h.Program, StateDir: h.StateDir})
	}
	_, every := o.run.fleet.Patience()
	for every = max(every, progressEvery); ; {
		began := time.Now()
		if living := o.look(ctx); !follow || !living || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, held, err := read(deps.StateDir, id); err != nil || held {
			return err
		}
		if pause(ctx, every-time.Since(began)) != nil {
			return context.Cause(ctx)
		}
	}
}

// observer looks at the agents of a transfer that it does not run.
type observer struct {
	run  *run
	told map[string]bool // hosts that could not be asked last time
}

// look asks once. It reports whether there is anybody who may go on.
func (o *observer) look(ctx context.Context) (living bool) {
	req := o.run.request(control.VerbStatus)
	req.Observe = true
	answers := o.run.fleet.Retry(ctx, callTries, req, o.run.hosts...)
	if ctx.Err() != nil {
		return false
	}
	o.run.absorb(answers)
	agents, unasked, endsIn := 0, time.Duration(0), time.Duration(-1)
	for _, host := range o.run.hosts {
		a := answers[host]
		o.silent(host, a.Err)
		if a.Err != nil {
			living = true // for all we know
			continue
		}
		for i := range a.Reply.Agents {
			s := a.Reply.Agents[i].Status
			if s == nil || s.Ended || a.Reply.Agents[i].Gone {
				continue
			}
			agents, living = agents+1, true
			unasked = max(unasked, s.Unasked)
			if endsIn < 0 || s.EndsIn < endsIn {
				endsIn = s.EndsIn
			}
		}
	}
	if len(o.run.members) > 0 {
		o.run.progress()
	}
	advice := "transferpy attach " + o.run.id + " takes it over"
	if len(o.run.members) == 0 { // there is no plan to go on with
		advice = "transferpy cleanup " + o.run.id + " ends it now"
	}
	message := "no agent of it lives any more: transferpy attach " + o.run.id + " tells how it ended, and cleans up"
	if agents > 0 {
		message = fmt.Sprintf("%d agents hold it; nobody has asked them for %s, and in %s they undo what is not published: %s",
			agents, unasked.Round(time.Second), endsIn.Round(time.Second), advice)
	} else if living {
		message = "its agents could not be asked"
	}
	o.run.emit(Event{Type: EventPhase, Phase: "held", Message: message})
	return living
}

// silent tells once that a host cannot be asked.
func (o *observer) silent(host string, err *sdk.Error) {
	if err != nil && !o.told[host] {
		o.run.warn(host, "its agent could not be asked: "+err.Error())
	}
	o.told[host] = err != nil
}

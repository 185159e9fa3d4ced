package transfer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// How long the end of a run may take, from the first stop on: after a failure
// or an interrupt, and after a success, when an undo may still have to start a
// replication and wait for it. What is left by then stays in the journal.
const (
	stopLimit = time.Minute
	calmLimit = 10 * time.Minute
)

// stopWait bounds one wait for agents to end, so that a slow one leaves time
// to ask again.
const stopWait = 20 * time.Second

// stop ends every agent that may have been made, whatever state the run is
// in, and has what dead ones left undone. It does so under a deadline of its
// own, since ctx may have ended already.
func (r *run) stop(ctx context.Context, limit time.Duration) *sdk.Error {
	if !r.acquired {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	r.ending = true
	r.endAsking()
	e := ending{fleet: r.fleet, request: r.request, keep: r.keeps(), absorb: r.absorb}
	var hosts []string
	for _, h := range r.hosts {
		if a := r.agents[h]; a == nil || !a.ended {
			hosts = append(hosts, h)
		}
	}
	left := e.end(ctx, hosts)
	if len(left) == 0 && e.keep {
		left = r.settleKept(ctx, e)
	}
	r.noteCommitted()
	r.forget(ctx)
	if len(left) == 0 {
		return nil
	}
	return left.error(r.id, e.keep)
}

// forget has hosts remove the word of agents that had ended before this process
// took over; by now the journal knows all of it.
func (r *run) forget(ctx context.Context) {
	var hosts []string
	for _, h := range r.hosts {
		if a := r.agents[h]; a != nil && a.ended {
			hosts = append(hosts, h)
		}
	}
	if !r.attached || len(hosts) == 0 {
		return
	}
	req := r.request(control.VerbStop)
	req.Stop = &control.Stop{}
	r.fleet.Broadcast(ctx, req, hosts...)
}

// ending brings agents to their end on hosts: stop where they live, recover
// where they have died, again and again until a host says that nothing is
// left or ctx ends.
type ending struct {
	fleet   *remote.Fleet
	request func(control.Verb) control.Request
	keep    bool                           // what a resumed transfer can use
	absorb  func(map[string]remote.Answer) // takes each broadcast's answers
}

// remains are the hosts on which something is left, and why.
type remains map[string]*sdk.Error

// end returns what is left when it gives up.
func (e *ending) end(ctx context.Context, hosts []string) remains {
	left := remains{}
	wait, _ := e.fleet.Patience()
	wait = min(wait, stopWait)
	for try := 0; len(hosts) > 0; try++ {
		if try > 0 && pause(ctx, min(time.Duration(try)*500*time.Millisecond, 5*time.Second)) != nil {
			return left
		}
		stop := e.request(control.VerbStop)
		stop.Stop = &control.Stop{Keep: e.keep}
		stop.Until, stop.Wait = control.PhaseEnded, wait
		answers := e.fleet.Broadcast(ctx, stop, hosts...)
		e.absorb(answers)
		var dead []string
		for _, h := range hosts {
			switch state := judge(h, answers[h]); state.kind {
			case nothingLeft:
				delete(left, h)
			case died:
				dead = append(dead, h)
				left[h] = state.err
			default:
				left[h] = state.err
			}
		}
		e.recover(ctx, dead, left, wait)
		hosts = left.hosts(hosts)
	}
	return left
}

// recover has a new process undo what dead agents left.
func (e *ending) recover(ctx context.Context, hosts []string, left remains, wait time.Duration) {
	if len(hosts) == 0 {
		return
	}
	req := e.request(control.VerbRecover)
	req.Recover = &control.Recover{Keep: e.keep}
	req.Until, req.Wait = control.PhaseEnded, wait
	answers := e.fleet.Broadcast(ctx, req, hosts...)
	e.absorb(answers)
	for _, h := range hosts {
		if state := judge(h, answers[h]); state.kind == nothingLeft {
			delete(left, h)
		} else if state.err != nil {
			left[h] = state.err
		}
	}
}

// verdict is what a host's answer to stop or recover means.
type verdict struct {
	kind int
	err  *sdk.Error
}

const (
	nothingLeft = iota
	stillThere
	died
)

func judge(host string, a remote.Answer) verdict {
	if a.Err != nil {
		return verdict{stillThere, a.Err}
	}
	v := verdict{kind: nothingLeft}
	for _, agent := range a.Reply.Agents {
		switch {
		case agent.Status != nil && agent.Status.Ended:
		case agent.Superseded > 0: // its new controller ends it
		case agent.Gone:
			v = verdict{died, &sdk.Error{Kind: sdk.KindCrashed, Host: host, Message: fmt.Sprintf("agent %s has died and has left something to undo", agent.Agent)}}
		case agent.Error != nil:
			v = worse(v, verdict{stillThere, atHost(agent.Error, host)})
		default:
			v = worse(v, verdict{stillThere, &sdk.Error{Kind: sdk.KindTimeout, Host: host, Message: fmt.Sprintf("agent %s has not ended yet", agent.Agent)}})
		}
	}
	return v
}

func worse(a, b verdict) verdict {
	if b.kind > a.kind {
		return b
	}
	return a
}

// hosts returns those of all on which something is left.
func (l remains) hosts(all []string) []string {
	var hosts []string
	for _, h := range all {
		if l[h] != nil {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// error says what is left, and how to go on; kept says that a transfer can be
// resumed.
func (l remains) error(id string, kept bool) *sdk.Error {
	var lines []string
	kind := sdk.KindUnreachable
	hosts := slices.Sorted(maps.Keys(l))
	for _, h := range hosts {
		lines = append(lines, l[h].Error())
		kind = l[h].Kind
	}
	hint := "agents undo by themselves when their lease ends; to do it now: transferpy cleanup " + id
	if kept {
		hint += "; to go on with what they keep: transferpy resume " + id
	}
	return &sdk.Error{Kind: kind, Message: "something may be left on " + describe(hosts) + ": " + strings.Join(lines[:min(3, len(lines))], "; "), Hint: hint}
}

// describe is a short list of hosts for a message.
func describe(hosts []string) string {
	const most = 5
	if len(hosts) > most {
		return fmt.Sprintf("%v and %d more", hosts[:most], len(hosts)-most)
	}
	return fmt.Sprint(hosts)
}

// phase writes into the journal how far the transfer is.
func (r *run) phase(name string) error { return r.journal.Add(journal.Record{Phase: name}) }

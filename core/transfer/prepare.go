package transfer

import (
	"context"
	"fmt"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// prepare makes the agents: first the journal tells of the hosts, then each
// agent opens its port and makes its keys.
func (r *run) prepare(ctx context.Context) error {
	if err := r.enterJournal(); err != nil {
		return &refusal{ExitRefused, err}
	}
	r.acquired = true
	req := r.request(control.VerbPrepare)
	req.Prepare = &control.Prepare{Port: r.req.Port, Lease: r.clock.lease, Hold: r.clock.hold, Nice: r.req.Nice, NiceOn: []string{r.facts[r.req.Source.Host].Instance},
		Keep: r.req.KeepPartial, Checkpoint: r.clock.checkpoint}
	if r.resumed {
		req.Prepare.Resume = r.id
	}
	answers := r.fleet.Retry(ctx, callTries, req, r.hosts...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	byID := map[string]*agent{}
	var refusals []*sdk.Error
	for _, host := range r.hosts {
		a := answers[host]
		if a.Err != nil {
			refusals = append(refusals, a.Err)
			continue
		}
		ready, err := readyAgent(host, a.Reply)
		if err != nil {
			refusals = append(refusals, err)
			continue
		}
		if byID[ready.Agent] == nil {
			byID[ready.Agent] = &agent{id: ready.Agent, host: host, ready: *ready.Ready}
			r.emit(Event{Type: EventAgent, Host: host, Message: fmt.Sprintf("agent %s listens on port %d", ready.Agent, ready.Ready.Port)})
		}
		r.agents[host] = byID[ready.Agent]
	}
	if err := r.refuse(refusals); err != nil {
		return err
	}
	if err := r.journal.Add(journal.Record{Hosts: r.journalHosts()}); err != nil {
		return err
	}
	r.tellKept()
	r.makeMembers()
	return r.notePlan()
}

// readyAgent finds the agent that a host has prepared.
func readyAgent(host string, reply *control.Reply) (*control.Answer, *sdk.Error) {
	for i := range reply.Agents {
		a := &reply.Agents[i]
		if a.Error != nil {
			e := *a.Error
			e.Host = host
			return nil, &e
		}
		if a.Ready != nil {
			return a, nil
		}
	}
	return nil, &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "no agent was prepared, and nothing says why"}
}

// enterJournal makes the journal with the hosts in it, or writes into the one
// of a resumed transfer that it goes on.
func (r *run) enterJournal() error {
	if r.resumed {
		again := &journal.Resumed{Time: r.report.Began.UTC(), Members: r.names}
		if err := r.journal.Add(journal.Record{Resumed: again}); err != nil {
			return err
		}
		return r.journal.Add(journal.Record{Hosts: r.journalHosts()})
	}
	stored, err := encodeRequest(r.req)
	if err != nil {
		return err
	}
	r.journal, err = journal.Create(r.deps.StateDir, r.id, r.deps.Version, stored)
	if err != nil {
		return err
	}
	journal.Prune(r.deps.StateDir, r.report.Began)
	r.opened()
	return r.journal.Add(journal.Record{Hosts: r.journalHosts()})
}

// journalHosts is every host with what is known of it by now.
func (r *run) journalHosts() []journal.Host {
	executors := map[string]string{}
	for _, e := range r.req.endpoints() {
		executors[e.Host] = e.Executor
	}
	hosts := make([]journal.Host, 0, len(r.hosts))
	for _, h := range r.hosts {
		place := r.fleet.PlaceOf(h)
		record := journal.Host{Executor: executors[h], Host: h, Program: place.Program, StateDir: place.StateDir, Instance: r.facts[h].Instance, Skew: r.clocks[h]}
		if a := r.agents[h]; a != nil {
			record.Agent = a.id
		}
		hosts = append(hosts, record)
	}
	return hosts
}

// startPlan is the plan as agents get it, with what is known of them by now.
func (r *run) startPlan() control.Start {
	start := control.Start{Read: r.plan.Read, Write: r.plan.Write, Settings: r.settings(), Begins: r.plan.Begins}
	for i, e := range r.req.endpoints() {
		m := control.Member{Name: SourceName, Host: e.Host, DataAddress: r.req.DataAddresses[e.Host]}
		if i > 0 {
			m.Name, m.Destination = r.names[i-1], &r.plan.Targets[i-1]
		}
		if a := r.agents[e.Host]; a != nil {
			m.Agent, m.Fingerprint, m.Port = a.id, a.ready.Fingerprint, a.ready.Port
			m.Addresses, m.BootID, m.NetNS = a.ready.Addresses, a.ready.BootID, a.ready.NetNS
			if i == 0 {
				m.SigningKey = a.ready.SigningKey
			}
		}
		start.Members = append(start.Members, m)
	}
	return start
}

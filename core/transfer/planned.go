package transfer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// plannedVersion is the version of a stored plan. One of another version is
// refused: who takes a transfer over must mean what it meant.
const plannedVersion = 1

// planned is what was settled by the time all agents were prepared, as
// journals have it: what another process needs to take the transfer over.
type planned struct {
	V       int                      `json:"v"`
	Plan    sdk.Plan                 `json:"plan"`
	Entries int64                    `json:"entries"`
	AtLeast bool                     `json:"at_least,omitempty"` // of Plan.Bytes and Entries
	Verify  control.VerifyLevel      `json:"verify"`
	Agents  map[string]control.Ready `json:"agents"` // by agent
}

// notePlan writes into the journal what was settled.
func (r *run) notePlan() error {
	p := planned{V: plannedVersion, Plan: r.plan, Entries: r.found.Entries, AtLeast: r.found.AtLeast, Verify: r.verify, Agents: map[string]control.Ready{}}
	for _, a := range r.agents {
		p.Agents[a.id] = a.ready
	}
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("store the plan: %w", err)
	}
	return r.journal.Add(journal.Record{Plan: text})
}

// decodePlanned reads a stored plan, strictly.
func decodePlanned(text json.RawMessage) (*planned, error) {
	var p planned
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&p)
	if err == nil && p.V != plannedVersion {
		err = fmt.Errorf("it has version %d, this program reads version %d", p.V, plannedVersion)
	}
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: "the stored plan cannot be read: " + err.Error(),
			Hint: "the journal is damaged or was written by another version of transferpy"}
	}
	return &p, nil
}

// restore takes what the journal tells of the transfer: its plan, its hosts
// and agents, and who has failed or is published.
func (r *run) restore(state *journal.State) error {
	p, err := decodePlanned(state.Plan)
	if err != nil {
		return err
	}
	if len(p.Plan.Targets) != len(r.req.Targets) {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("the stored plan has %d targets, the request %d", len(p.Plan.Targets), len(r.req.Targets)), Hint: "the journal is damaged"}
	}
	r.plan, r.verify = p.Plan, p.Verify
	r.found = sdk.Findings{Bytes: p.Plan.Bytes, Entries: p.Entries, AtLeast: p.AtLeast}
	r.adoptHosts(state, p)
	r.makeMembers()
	failed := map[string]*sdk.Error{}
	for _, f := range state.Failed {
		failed[f.Member] = f.Error
	}
	committed := map[string]bool{}
	for _, name := range state.Committed {
		committed[name] = true
	}
	for _, m := range r.targets() {
		m.err = failed[m.Name]
		if committed[m.Name] {
			m.status.Phase, m.err = control.PhaseCommitted, nil
		}
	}
	return nil
}

// adoptHosts takes the hosts and agents that the journal knows.
func (r *run) adoptHosts(state *journal.State, p *planned) {
	byID := map[string]*agent{}
	for _, h := range state.Hosts {
		r.facts[h.Host], r.clocks[h.Host] = &control.Facts{Instance: h.Instance}, h.Skew
		ready, known := p.Agents[h.Agent]
		if !known {
			continue
		}
		if byID[h.Agent] == nil {
			byID[h.Agent] = &agent{id: h.Agent, host: h.Host, ready: ready, heard: time.Now()}
		}
		r.agents[h.Host] = byID[h.Agent]
	}
}

// makeMembers makes the members by the plan and the agents that there are.
func (r *run) makeMembers() {
	plan := r.startPlan()
	r.members = nil
	for i := range plan.Members {
		r.members = append(r.members, &member{Member: plan.Members[i], status: control.MemberStatus{Name: plan.Members[i].Name, Phase: control.PhasePrepared}})
	}
}

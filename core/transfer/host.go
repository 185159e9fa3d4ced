package transfer

import (
	"context"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// hostAccess is the sdk.Host that modes and firewalls get: the hosts of this
// transfer and no others. Before agents are prepared and after they have
// ended, commands are one-shots, addressed by instance, and nothing may be
// changed.
type hostAccess struct {
	run     *run
	oneShot bool
}

var _ sdk.Host = (*hostAccess)(nil)

// hostBefore is the read-only access of Inspect, Detect and Finish.
func (r *run) hostBefore() sdk.Host { return &hostAccess{run: r, oneShot: true} }

// hostOfAgents is the access of Begin and Open.
func (r *run) hostOfAgents() sdk.Host { return &hostAccess{run: r} }

// Run implements sdk.Host.
func (h *hostAccess) Run(ctx context.Context, work []sdk.HostCommands) ([]sdk.HostResults, error) {
	return h.do(ctx, lookingParts(work))
}

// Change implements sdk.Host.
func (h *hostAccess) Change(ctx context.Context, work []sdk.HostChange) ([]sdk.HostResults, error) {
	if h.oneShot {
		return nil, errOnlyLooks()
	}
	return h.do(ctx, changingParts(work))
}

func errOnlyLooks() *sdk.Error {
	return &sdk.Error{Kind: sdk.KindPermission, Message: "nothing may be changed in this phase", Hint: "changes belong into Begin and Open"}
}

func lookingParts(work []sdk.HostCommands) []part {
	parts := make([]part, len(work))
	for i, w := range work {
		parts[i] = part{host: w.Host, do: control.DoPart{Commands: w.Commands}}
	}
	return parts
}

func changingParts(work []sdk.HostChange) []part {
	parts := make([]part, len(work))
	for i, w := range work {
		undo := w.Undo
		parts[i] = part{host: w.Host, do: control.DoPart{Undo: &undo, Commands: w.Commands}}
	}
	return parts
}

// part is what one host is to do.
type part struct {
	host string
	key  string // of control.Do
	do   control.DoPart
}

// do carries out parts in one broadcast. Those that meet in one agent follow
// each other, in the order of the arguments.
func (h *hostAccess) do(ctx context.Context, parts []part) ([]sdk.HostResults, error) {
	byKey := map[string][]int{}
	var keys []string
	for i := range parts {
		key, err := h.key(parts[i].host)
		if err != nil {
			return nil, err
		}
		parts[i].key = key
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], i)
	}
	results := make([]sdk.HostResults, len(parts))
	if len(keys) == 0 {
		return results, nil
	}
	req := h.run.request(control.VerbDo)
	req.Do = &control.Do{Parts: map[string]control.DoPart{}}
	if h.oneShot {
		req.Transfer, req.Generation = "", 0
	}
	hosts, limit := make([]string, len(keys)), remoteSlack
	for k, key := range keys {
		hosts[k] = parts[byKey[key][0]].host // another name of it leads to the same
		spent := remoteSlack
		for n, i := range byKey[key] {
			if err := h.enter(parts[i]); err != nil {
				return nil, err
			}
			spent += commandTime(parts[i].do.Commands)
			whole := req.Do.Parts[key]
			if n == 0 {
				whole = parts[i].do
			} else {
				whole.Then = append(whole.Then, parts[i].do)
			}
			req.Do.Parts[key] = whole
		}
		limit = max(limit, spent)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answers := h.collect(ctx, req, hosts)
	for k, key := range keys {
		for n, i := range byKey[key] {
			results[i] = resultsOf(parts[i].host, key, n, answers[hosts[k]], h.oneShot)
		}
	}
	return results, nil
}

// enter notes in the journal what is to be undone, and in the log what is run.
func (h *hostAccess) enter(p part) error {
	if p.do.Undo != nil && !h.run.deferred(p.key, p.do.Undo.ID) {
		record := journal.Undo{Host: p.host, Agent: p.key, Undo: *p.do.Undo}
		if err := h.run.journal.Add(journal.Record{Undo: &record}); err != nil {
			return err
		}
	}
	for _, c := range p.do.Commands {
		h.run.deps.Log.Info("do", "transfer", h.run.id, "host", p.host, "command", argvText(c.Argv))
	}
	return nil
}

// key is how a host's part is addressed.
func (h *hostAccess) key(host string) (string, error) {
	facts, agent := h.run.facts[host], h.run.agents[host]
	switch {
	case facts == nil:
		return "", &sdk.Error{Kind: sdk.KindPermission, Host: host, Message: "the host is none of this transfer's"}
	case h.oneShot:
		return facts.Instance, nil
	case agent == nil:
		return "", &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "no agent is prepared there"}
	}
	return agent.id, nil
}

// deferred reports whether the journal has an undo of an agent that is still to
// be done: one that is handed over again replaces nothing and adds nothing.
func (r *run) deferred(agent, id string) bool {
	return slices.ContainsFunc(r.journal.State().Undos, func(u journal.Undo) bool { return u.Agent == agent && u.Undo.ID == id && !u.Done })
}

// collect repeats the call until no host says that its commands still run, or
// ctx has ended.
func (h *hostAccess) collect(ctx context.Context, req control.Request, hosts []string) map[string]remote.Answer {
	wait, every := h.run.fleet.Patience()
	req.Wait = wait
	done := map[string]remote.Answer{}
	for len(hosts) > 0 {
		began := time.Now()
		var running []string
		for host, answer := range h.run.fleet.Broadcast(ctx, req, hosts...) {
			if h.stillRuns(host, answer) && ctx.Err() == nil {
				running = append(running, host)
				continue
			}
			done[host] = answer
		}
		hosts = running
		if len(hosts) > 0 {
			pause(ctx, every-time.Since(began)) // an end of ctx shows in the next answers
		}
	}
	return done
}

// stillRuns reports whether the host's agent is to be asked again: it has not
// finished, or could not be reached while it works.
func (h *hostAccess) stillRuns(host string, answer remote.Answer) bool {
	if h.oneShot {
		return false
	}
	if answer.Err != nil {
		return wayBack(answer.Err)
	}
	for _, a := range answer.Reply.Agents {
		if a.Agent == h.run.agents[host].id {
			return a.Running
		}
	}
	return false
}

// resultsOf picks the results of one host's part out of its answer: of the one
// after n others of the same key.
func resultsOf(host, key string, n int, answer remote.Answer, oneShot bool) sdk.HostResults {
	res := sdk.HostResults{Host: host, Err: answer.Err}
	if answer.Err != nil {
		return res
	}
	done := answer.Reply.Done
	if !oneShot {
		done = nil
		for _, a := range answer.Reply.Agents {
			if a.Agent != key {
				continue
			}
			done = a.Done
			if a.Error != nil {
				res.Err = atHost(a.Error, host)
				return res
			}
		}
	}
	for _, d := range done {
		if d.Part != key {
			continue
		}
		if n--; n < 0 {
			for i := range d.Results {
				d.Results[i].Host = host
			}
			res.Results = d.Results
			if d.Error != nil {
				res.Err = atHost(d.Error, host)
			}
			return res
		}
	}
	res.Err = &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "the agent told no results"}
	return res
}

func atHost(err *sdk.Error, host string) *sdk.Error {
	e := *err
	e.Host = host
	return &e
}

// remoteSlack is what a do may take beyond its commands' own limits.
const remoteSlack = 2 * time.Minute

// commandTime is the longest that commands may run one after the other.
func commandTime(commands []sdk.Command) time.Duration {
	var sum time.Duration
	for _, c := range commands {
		if c.Timeout == 0 {
			sum += defaultCommandTime
		}
		sum += c.Timeout
	}
	return sum
}

// defaultCommandTime is what an agent gives a command that names no limit.
const defaultCommandTime = time.Minute

package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// Times of a pair. Agents that nobody asks any more end within lease, or
// hold once data flows.
const (
	linkFor   = 10 * time.Second // to make the links, at most
	lease     = 5 * time.Minute  // a pair may wait for others to be measured
	hold      = time.Minute
	rampUp    = 500 * time.Millisecond // in which TCP finds its pace
	endFor    = time.Minute
	dataFor   = "60" // seconds, after which the source of the data ends by itself
	pairTries = 3    // calls to a host in all that fails on the way
)

// pairsAtOnce is how many pairs make their links at once.
const pairsAtOnce = 8

// links looks at every pair: makes the links of a transfer between the two,
// then, one pair after the other, measures.
func (v *visit) links(ctx context.Context) {
	atOnce := int64(pairsAtOnce)
	if v.req.Port != 0 {
		atOnce = 1 // an agent more on a host would find the port taken
	}
	slots := semaphore.NewWeighted(atOnce)
	var measuring sync.Mutex
	var pairs sync.WaitGroup
	defer pairs.Wait()
	for _, p := range v.req.Pairs {
		from, to := v.hosts[v.req.Hosts[p[0]].Host], v.hosts[v.req.Hosts[p[1]].Host]
		if from.facts == nil || to.facts == nil {
			for _, check := range v.pairChecks() {
				v.found(Finding{Host: from.Host.Host, To: to.Host.Host, Check: check, State: Skipped, Text: "no agent runs on both"})
			}
			continue
		}
		if slots.Acquire(ctx, 1) != nil {
			return
		}
		pairs.Go(func() {
			defer slots.Release(1)
			(&pair{visit: v, from: from, to: to, id: journal.NewID(time.Now())}).look(ctx, &measuring)
		})
	}
}

// pairChecks are the checks of a pair.
func (v *visit) pairChecks() []string {
	if v.req.Measure == 0 {
		return []string{"link"}
	}
	return []string{"link", "rate"}
}

// pair is two hosts with an agent each, or one that both names lead to.
type pair struct {
	*visit
	from, to *host
	id       string            // of the transfer that the agents think they are in
	agents   map[string]string // by host
	ready    map[string]*control.Ready
}

// tellPair hands on a finding about the pair.
func (p *pair) tellPair(check string, state State, value int64, text, advice string) {
	p.found(Finding{Host: p.from.Host.Host, To: p.to.Host.Host, Check: check, State: state, Text: text, Advice: advice, Value: value})
}

// look makes the links and measures what they carry.
func (p *pair) look(ctx context.Context, measuring *sync.Mutex) {
	defer p.end(ctx)
	address, err := p.link(ctx)
	if err != nil {
		p.tellPair("link", Bad, 0, err.Message, err.Hint)
		if p.req.Measure > 0 {
			p.tellPair("rate", Skipped, 0, "there is no link", "")
		}
		p.mu.Lock()
		p.shut[p.to.Host.Host] = p.shut[p.to.Host.Host] || p.ready != nil
		p.mu.Unlock()
		return
	}
	p.tellPair("link", OK, 0, "at "+address, "")
	if p.req.Measure == 0 {
		return
	}
	measuring.Lock()
	defer measuring.Unlock()
	if ctx.Err() != nil {
		return
	}
	rate, err := p.measure(ctx)
	if err != nil {
		p.tellPair("rate", Bad, 0, err.Message, err.Hint)
		return
	}
	p.tellPair("rate", OK, rate, size(rate)+"/s", "")
}

// linkFor is how long the links may take to be made.
func (v *visit) linkFor() time.Duration {
	if v.req.LinkTimeout > 0 {
		return min(v.req.LinkTimeout, linkFor)
	}
	return linkFor
}

// request makes a request to the pair's agents.
func (p *pair) request(verb control.Verb) control.Request {
	return control.Request{Verb: verb, Transfer: p.id, Generation: 1, Call: control.NewID()}
}

func (p *pair) names() []string { return []string{p.from.Host.Host, p.to.Host.Host} }

// link prepares the agents and has them make the links of a transfer; it
// returns the address at which the source has reached the target.
func (p *pair) link(ctx context.Context) (address string, err *sdk.Error) {
	if err := p.prepare(ctx); err != nil {
		return "", err
	}
	start := p.request(control.VerbStart)
	plan := p.plan()
	start.Start, start.Until = &plan, control.PhaseReady
	start.Wait = p.linkFor() + time.Second
	status := p.request(control.VerbStatus)
	status.Until, status.Wait = start.Until, start.Wait
	req := start
	for deadline := time.Now().Add(2*p.linkFor() + 5*time.Second); ; req = status {
		members, err := p.ask(ctx, req)
		if err != nil {
			return "", err
		}
		if failed := failure(members); failed != nil {
			return "", failed
		}
		if ready(members) {
			return members[source].Peer, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return "", &sdk.Error{Kind: sdk.KindTimeout, Message: "the agents did not say in time whether they have reached each other", Hint: "see whether a host is overloaded"}
		}
		sleep(ctx, time.Second)
		status.Call = control.NewID()
	}
}

// The members of a pair's plan.
const (
	source = "source"
	target = "target-1"
)

// prepare makes the agents.
func (p *pair) prepare(ctx context.Context) *sdk.Error {
	req := p.request(control.VerbPrepare)
	req.Prepare = &control.Prepare{Port: p.req.Port, Lease: lease, Hold: hold}
	answers := p.fleet.Retry(ctx, pairTries, req, p.names()...)
	p.agents = map[string]string{}
	ready := map[string]*control.Ready{}
	for _, h := range p.names() {
		a := answers[h]
		if a.Err != nil {
			return at(h, a.Err)
		}
		for i := range a.Reply.Agents {
			switch r := &a.Reply.Agents[i]; {
			case r.Error != nil:
				return at(h, r.Error)
			case r.Ready != nil:
				p.agents[h], ready[h] = r.Agent, r.Ready
			}
		}
		if ready[h] == nil {
			return &sdk.Error{Kind: sdk.KindInternal, Message: h + ": no agent was prepared, and nothing says why"}
		}
	}
	p.ready = ready
	return nil
}

// at puts the host before an error that does not stand below its name.
func at(h string, err *sdk.Error) *sdk.Error {
	e := *err
	e.Message = h + ": " + e.Message
	return &e
}

// plan is a transfer of a stream without an end that is thrown away. It waits
// for a begin when the links are proven.
func (p *pair) plan() control.Start {
	member := func(name string, h *host) control.Member {
		r := p.ready[h.Host.Host]
		return control.Member{Name: name, Host: h.Host.Host, Agent: p.agents[h.Host.Host], Fingerprint: r.Fingerprint, Port: r.Port,
			DataAddress: h.DataAddress, Addresses: r.Addresses, BootID: r.BootID, NetNS: r.NetNS}
	}
	from, to := member(source, p.from), member(target, p.to)
	from.SigningKey = p.ready[p.from.Host.Host].SigningKey
	to.Destination = &sdk.Destination{External: true, Dir: p.to.facts.StateDir}
	return control.Start{
		Members: []control.Member{from, to}, Begins: true,
		Read:  sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"timeout", dataFor, "cat", "/dev/zero"}}},
		Write: sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"sh", "-c", "exec cat >/dev/null"}}},
		Settings: control.Settings{Encrypt: p.req.Encrypt, Codec: "none", Verify: control.VerifySigned, LimitRate: p.req.LimitRate,
			Owner: "numeric", DataNetworks: p.req.DataNetworks, LinkTimeout: p.linkFor(), RetryFor: linkFor},
	}
}

// measure lets data flow and counts what comes to the target, by the target's
// own clock; in bytes a second.
func (p *pair) measure(ctx context.Context) (int64, *sdk.Error) {
	if _, err := p.ask(ctx, p.request(control.VerbBegin)); err != nil {
		return 0, err
	}
	sleep(ctx, rampUp)
	first, err := p.target(ctx)
	if err != nil {
		return 0, err
	}
	sleep(ctx, p.req.Measure)
	second, err := p.target(ctx)
	if err != nil {
		return 0, err
	}
	if first.Times == nil || second.Times == nil || second.Times.Alive <= first.Times.Alive {
		return 0, &sdk.Error{Kind: sdk.KindInternal, Message: p.to.Host.Host + ": its agent does not tell the time"}
	}
	took := second.Times.Alive - first.Times.Alive
	rate := int64(float64(second.Wire-first.Wire) / took.Seconds())
	if rate <= 0 {
		return 0, &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("nothing came through in %s", took.Round(time.Millisecond)),
			Hint: "connections are made and then carry nothing: look for a filter on the way, or an MTU that is too large (ping -M do -s 1472)"}
	}
	return rate, nil
}

// target is the target's state.
func (p *pair) target(ctx context.Context) (control.MemberStatus, *sdk.Error) {
	members, err := p.ask(ctx, p.request(control.VerbStatus))
	if err == nil {
		err = failure(members)
	}
	return members[target], err
}

// ask asks both agents and returns the members that they tell of. A host is
// believed only about the agent that it has prepared, and its own members.
func (p *pair) ask(ctx context.Context, req control.Request) (map[string]control.MemberStatus, *sdk.Error) {
	answers := p.fleet.Retry(ctx, pairTries, req, p.names()...)
	members := map[string]control.MemberStatus{}
	for name, h := range map[string]string{source: p.from.Host.Host, target: p.to.Host.Host} {
		a := answers[h]
		if a.Err != nil {
			return nil, at(h, a.Err)
		}
		found := false
		for _, answer := range a.Reply.Agents {
			if answer.Agent != p.agents[h] {
				continue
			}
			if answer.Error != nil {
				return nil, at(h, answer.Error)
			}
			if answer.Status == nil {
				continue
			}
			found = true
			for _, m := range answer.Status.Members {
				if m.Name == name {
					members[name] = m
				}
			}
		}
		if !found {
			return nil, &sdk.Error{Kind: sdk.KindCrashed, Message: h + ": its agent has died", Hint: "see the host's log for a kill"}
		}
	}
	return members, nil
}

// failure is why the members have failed; nil: none has. The one that dials
// knows most.
func failure(members map[string]control.MemberStatus) *sdk.Error {
	for _, name := range []string{source, target} {
		m := members[name]
		for _, f := range m.Failed {
			if f.Error != nil {
				return f.Error
			}
		}
		if m.Error != nil {
			return m.Error
		}
	}
	return nil
}

// ready reports whether both have proven their links.
func ready(members map[string]control.MemberStatus) bool {
	for _, name := range []string{source, target} {
		if !members[name].Phase.AtLeast(control.PhaseReady) {
			return false
		}
	}
	return true
}

// end ends the agents, whatever became of them. It has a deadline of its own,
// since ctx may have ended.
func (p *pair) end(ctx context.Context) {
	if p.agents == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endFor)
	defer cancel()
	stop := p.request(control.VerbStop)
	stop.Stop = &control.Stop{}
	stop.Until, stop.Wait = control.PhaseEnded, endFor/3
	for h, a := range p.fleet.Retry(ctx, pairTries, stop, p.names()...) {
		if left := notEnded(a); left != nil {
			p.failed(h, "agent", &sdk.Error{Message: "an agent may be left: " + left.Message, Hint: fmt.Sprintf("it ends by itself in %s", lease)})
		}
	}
}

// notEnded says what is left on a host; nil: nothing.
func notEnded(a remote.Answer) *sdk.Error {
	if a.Err != nil {
		return a.Err
	}
	for _, agent := range a.Reply.Agents {
		if agent.Status == nil || !agent.Status.Ended {
			return &sdk.Error{Message: "it has not ended"}
		}
	}
	return nil
}

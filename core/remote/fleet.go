// Package remote is the controller's view of hosts: through executors it
// places agents, hands one message to all of them and collects what they
// answer. It obeys each executor's limits, believes a host only about
// itself, and knows nothing of transfers.
package remote

import (
	"cmp"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// Executor is an executor with its name and what it said of itself.
type Executor struct {
	Name   string
	Exec   sdk.Executor
	Traits sdk.ExecutorTraits // as described; zeros mean the defaults
}

// Name is a host as the operator calls it and the executor that reaches it.
type Name struct {
	Executor string
	Host     string
}

// Options are what a Fleet is made of.
type Options struct {
	Executors []Executor
	Hosts     []Name // host names are unique
	Agents    Agents
	// AgentDirs are directories on the hosts, absolute, that are tried for
	// the agent before the usual ones.
	AgentDirs []string
	// Placed, if set, is told of each agent that was placed; it may be
	// called from several goroutines at once.
	Placed func(host, arch, dir string)
}

// Answer is what came back from one host: a reply or an error, which names
// the host.
type Answer struct {
	Reply *control.Reply
	Err   *sdk.Error
}

// Place is where things lie on a host, once its agent has told it or a
// journal has.
type Place struct {
	Program  sdk.Raw // the agent's file
	StateDir sdk.Raw // messages may be put into its directory "in"
}

// Fleet is the hosts of one transfer. Its methods may be called from several
// goroutines at once, but for Probe and SetPlace, which come before all else.
type Fleet struct {
	options Options
	engines map[string]*engine
	hosts   map[string]*host
	calls   atomic.Int64
}

type host struct {
	name   string
	engine *engine
	place  Place
}

// New makes a Fleet; no host is touched.
func New(o Options) (*Fleet, error) {
	f := &Fleet{options: o, engines: map[string]*engine{}, hosts: map[string]*host{}}
	for _, e := range o.Executors {
		traits := withDefaults(e.Traits)
		f.engines[e.Name] = &engine{
			name: e.Name, exec: e.Exec, traits: traits, calls: &f.calls, slots: make(chan struct{}, traits.MaxCalls),
		}
	}
	for _, n := range o.Hosts {
		e := f.engines[n.Executor]
		if e == nil {
			return nil, &sdk.Error{Kind: sdk.KindInternal, Host: n.Host, Message: fmt.Sprintf("there is no executor %q", n.Executor)}
		}
		if old := f.hosts[n.Host]; old != nil && old.engine != e {
			return nil, &sdk.Error{Kind: sdk.KindConfig, Host: n.Host,
				Message: fmt.Sprintf("the host is reached by two executors, %s and %s", old.engine.name, e.name), Hint: "name one executor for it"}
		}
		f.hosts[n.Host] = &host{name: n.Host, engine: e}
	}
	return f, nil
}

// withDefaults fills in what sdk.ExecutorTraits says that zero means.
func withDefaults(t sdk.ExecutorTraits) sdk.ExecutorTraits {
	t.MaxCommand = cmp.Or(t.MaxCommand, 64<<10)
	t.MaxStdin = cmp.Or(t.MaxStdin, 64<<10)
	t.MaxOutput = cmp.Or(t.MaxOutput, 256<<10)
	t.MaxCalls = cmp.Or(t.MaxCalls, 1)
	t.Latency = cmp.Or(t.Latency, time.Second)
	t.MaxWait = cmp.Or(t.MaxWait, 30*time.Second)
	t.PollEvery = cmp.Or(t.PollEvery, time.Minute)
	return t
}

// Calls is how many executor calls have been made so far.
func (f *Fleet) Calls() int { return int(f.calls.Load()) }

// Patience is how long one call may wait for something to happen, and how
// long to leave between the beginnings of two polls, so that every executor
// of the fleet is content.
func (f *Fleet) Patience() (wait, every time.Duration) {
	for _, e := range f.engines {
		if w := e.longestWait(); wait == 0 || w < wait {
			wait = w
		}
		every = max(every, e.traits.PollEvery)
	}
	return wait, every
}

// SetPlace tells where things lie on a host that was not probed.
func (f *Fleet) SetPlace(name string, p Place) {
	if h := f.hosts[name]; h != nil {
		h.place = p
	}
}

// PlaceOf tells where things lie on a host; empty before its probe.
func (f *Fleet) PlaceOf(name string) Place {
	if h := f.hosts[name]; h != nil {
		return h.place
	}
	return Place{}
}

// all returns the names of all hosts, in the order of Options.Hosts.
func (f *Fleet) all() []string {
	names := make([]string, 0, len(f.hosts))
	seen := map[string]bool{}
	for _, n := range f.options.Hosts {
		if !seen[n.Host] {
			seen[n.Host] = true
			names = append(names, n.Host)
		}
	}
	return names
}

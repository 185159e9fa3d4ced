// Package doctor looks, without changing anything, at all that a transfer
// between hosts would need: that commands run there and an agent can, tools,
// clocks, free space; and for pairs of hosts which address would be used,
// whether the port is open and what else filters it, and how fast data goes.
//
// It does so as a transfer does: with real agents, placed where a transfer
// places them, over the links of a transfer; what is sent is made up on one
// host and thrown away on the other.
package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// Bounds of a Request.
const (
	MaxHosts = 500
	// MaxPairs is how many pairs are measured, one after the other.
	MaxPairs = 100
)

// Host is a host to be looked at.
type Host struct {
	Executor    string
	Host        string
	Path        sdk.Raw // a directory whose room matters; empty: none
	DataAddress string  // at which it is dialled first; empty: none
}

// Request is what is to be looked at.
type Request struct {
	Hosts []Host
	// Pairs are ordered pairs of Hosts, by index: from and to.
	Pairs        [][2]int
	Mode         string   // whose tools are looked for
	Firewalls    []string // that are asked what filters a port that is closed
	Port         int      // 0: the first free one of those that agents use
	Encrypt      bool
	LimitRate    int64         // bytes a second of the measurement; 0: no limit
	DataNetworks []string      // CIDR; strict where set
	LinkTimeout  time.Duration // how long links may take to be made; 0, or more than 10 s: 10 s
	Measure      time.Duration // how long each pair is measured; 0: not at all
}

// Plugins gives the doctor its plugins; pluginhost.Host implements it. The
// context bounds the start only.
type Plugins interface {
	Executor(ctx context.Context, name string) (sdk.Executor, sdk.Description, error)
	Mode(ctx context.Context, name string) (sdk.Mode, sdk.Description, error)
	Firewall(ctx context.Context, name string) (sdk.Firewall, sdk.Description, error)
}

// Deps is what the doctor needs from the program around it.
type Deps struct {
	Plugins Plugins
	Agents  remote.Agents // to be placed where they are missing
	// AgentDirs are directories on the hosts, absolute, that are tried for
	// the agent before the usual ones.
	AgentDirs []string
}

// State is what a finding means.
type State string

// The states.
const (
	OK      State = "ok"
	Bad     State = "bad"     // a transfer would fail, or suffer
	Skipped State = "skipped" // not looked at, because of another finding
)

// Finding is what was found of one thing on one host, or between two.
type Finding struct {
	Host   string // of a pair: the one that dials
	To     string // of a pair: the one that is dialled; empty: it is about Host alone
	Check  string // one of Checks
	State  State
	Text   string // what was found, in words
	Advice string // what to do about it; empty: nothing
	Value  int64  // clock: nanoseconds ahead; space: bytes free; rate: bytes a second
}

// Checks are the kinds of findings, in the order in which they are told.
var Checks = []string{"executor", "agent", "tools", "clock", "space", "link", "firewall", "rate"}

// Run makes all checks and hands each finding to found as it comes, one call
// at a time. It returns whether all is well. The error is for what kept it
// from looking at all: plugins that do not start, or ctx.
//
// On each host it may leave an agent's file in its cache. Agents that it
// cannot end, because a host does not answer any more, end by themselves
// within minutes.
func Run(ctx context.Context, req Request, deps Deps, found func(Finding)) (well bool, err error) {
	if err := req.check(); err != nil {
		return false, err
	}
	v := &visit{req: req, deps: deps, well: true, tell: found, hosts: map[string]*host{}}
	if err := v.open(ctx); err != nil {
		return false, err
	}
	v.firstLook(ctx)
	v.probe(ctx)
	v.space(ctx)
	v.links(ctx)
	v.filters(ctx)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return v.well, nil
}

func (r *Request) check() error {
	refuse := func(format string, args ...any) error {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf(format, args...)}
	}
	if len(r.Hosts) == 0 || len(r.Hosts) > MaxHosts {
		return refuse("%d hosts: 1 to %d can be looked at", len(r.Hosts), MaxHosts)
	}
	if len(r.Pairs) > MaxPairs {
		return refuse("%d pairs of hosts: %d are the most", len(r.Pairs), MaxPairs)
	}
	for _, p := range r.Pairs {
		if min(p[0], p[1]) < 0 || max(p[0], p[1]) >= len(r.Hosts) || p[0] == p[1] {
			return refuse("%v is no pair of the hosts", p)
		}
	}
	return nil
}

package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// sharing lets several parties, which know nothing of each other, reach the
// hosts in the same broadcasts: a call goes out when each that still works has
// made one. So asking two firewalls costs no more executor calls than asking
// one.
type sharing struct {
	ctx context.Context // of all calls
	do  func(context.Context, []part) ([]sdk.HostResults, error)

	mu      sync.Mutex
	working int
	waiting []*sharedCall // at most one of each party
}

// sharedCall is one party's call.
type sharedCall struct {
	parts   []part
	results []sdk.HostResults
	err     error
	done    chan struct{}
}

// party is one of those who share.
type party struct {
	rights rights
	act    func(ctx context.Context, host sdk.Host) error
}

// share runs the parties at once and returns when all have ended, with the
// error of each. What those who look are told goes into m; each of those who
// change uses it for itself.
func (h *hostAccess) share(ctx context.Context, m *memory, parties ...party) []error {
	s := &sharing{ctx: ctx, do: h.do, working: len(parties)}
	errs := make([]error, len(parties))
	var wg sync.WaitGroup
	for i, p := range parties {
		wg.Go(func() {
			defer s.leave()
			host := &sharedHost{sharing: s, rights: p.rights, memory: newMemory()}
			if p.rights == looks {
				defer func() { m.add(host.memory) }()
			} else {
				host.memory.add(m)
			}
			errs[i] = p.act(ctx, host)
		})
	}
	wg.Wait()
	return errs
}

// call waits until all others have made a call, or have ended, and returns
// what came of its own.
func (s *sharing) call(parts []part) ([]sdk.HostResults, error) {
	c := &sharedCall{parts: parts, done: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, c)
	due := s.due()
	s.mu.Unlock()
	s.carryOut(due)
	<-c.done // whoever comes last carries out; the context bounds all of it
	return c.results, c.err
}

// leave is for a party that has ended.
func (s *sharing) leave() {
	s.mu.Lock()
	s.working--
	due := s.due()
	s.mu.Unlock()
	s.carryOut(due)
}

// due returns the calls if nobody is waited for any more. With the lock held.
func (s *sharing) due() []*sharedCall {
	if len(s.waiting) < s.working || len(s.waiting) == 0 {
		return nil
	}
	due := s.waiting
	s.waiting = nil
	return due
}

// carryOut makes one call of several, and gives each its results.
func (s *sharing) carryOut(calls []*sharedCall) {
	if len(calls) == 0 {
		return
	}
	parts, of := mergeParts(calls)
	results, err := s.do(s.ctx, parts)
	for i, c := range calls {
		if c.err = err; err == nil {
			c.results = pick(results, of[i])
			if len(calls) > 1 && truncated(c.results) { // shared, there was too little room for it
				c.results, c.err = s.do(s.ctx, c.parts)
			}
		}
		close(c.done)
	}
}

// place is where one command of a call went.
type place struct{ part, command int }

// noCommand is the place of what asked for nothing.
const noCommand = -1

// mergeParts puts what changes nothing into one part for each host, and there
// equal commands into one.
func mergeParts(calls []*sharedCall) (parts []part, of [][][]place) {
	looking := map[string]int{}
	known := map[string]place{}
	for _, c := range calls {
		var mine [][]place
		for _, p := range c.parts {
			at, there := looking[p.host]
			if p.do.Undo != nil || !there {
				at = len(parts)
				parts = append(parts, part{host: p.host, do: control.DoPart{Undo: p.do.Undo}})
			}
			if p.do.Undo == nil {
				looking[p.host] = at
			}
			var places []place
			for _, cmd := range p.do.Commands {
				key := commandKey(p.host, cmd)
				same, again := known[key]
				if !again || p.do.Undo != nil {
					same = place{at, len(parts[at].do.Commands)}
					parts[at].do.Commands = append(parts[at].do.Commands, cmd)
				}
				if p.do.Undo == nil {
					known[key] = same
				}
				places = append(places, same)
			}
			if len(places) == 0 {
				places = []place{{at, noCommand}}
			}
			mine = append(mine, places)
		}
		of = append(of, mine)
	}
	return parts, of
}

// commandKey is the same for equal commands on one host.
func commandKey(host string, cmd sdk.Command) string {
	text, err := json.Marshal(cmd)
	if err != nil {
		text = fmt.Appendf(nil, "%#v", cmd) // bytes and numbers always marshal
	}
	return host + "\n" + string(text)
}

// pick takes one call's results out of those of all.
func pick(all []sdk.HostResults, of [][]place) []sdk.HostResults {
	mine := make([]sdk.HostResults, len(of))
	for i, places := range of {
		whole := all[places[0].part]
		mine[i] = sdk.HostResults{Host: whole.Host, Err: whole.Err}
		for _, at := range places {
			if at.command != noCommand && at.command < len(whole.Results) {
				mine[i].Results = append(mine[i].Results, whole.Results[at.command])
			}
		}
	}
	return mine
}

func truncated(results []sdk.HostResults) bool {
	return slices.ContainsFunc(results, func(h sdk.HostResults) bool {
		return slices.ContainsFunc(h.Results, func(r sdk.Result) bool { return r.Truncated })
	})
}

// rights are what a party may do.
type rights int

const (
	changes rights = iota
	looks          // it may change nothing
	sweeps         // what it changes is nobody's any more: there is nothing to undo
)

// sharedHost is the sdk.Host of one party. It makes one call at a time.
type sharedHost struct {
	sharing *sharing
	rights  rights
	memory  *memory
	mu      sync.Mutex
}

var _ sdk.Host = (*sharedHost)(nil)

// Run implements sdk.Host.
func (h *sharedHost) Run(_ context.Context, work []sdk.HostCommands) ([]sdk.HostResults, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rights == changes {
		if results := h.memory.recall(work); results != nil {
			return results, nil
		}
	}
	results, err := h.sharing.call(lookingParts(work))
	if err == nil && h.rights == looks {
		h.memory.keep(work, results)
	}
	return results, err
}

// Change implements sdk.Host.
func (h *sharedHost) Change(_ context.Context, work []sdk.HostChange) ([]sdk.HostResults, error) {
	if h.rights == looks {
		return nil, errOnlyLooks()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	parts := changingParts(work)
	if h.rights == sweeps {
		for i := range parts {
			parts[i].do.Undo = nil
		}
	}
	return h.sharing.call(parts)
}

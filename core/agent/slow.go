package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/sdk"
)

// A target holds the others up when it does so (holdup.Slow) in two stretches
// of time, one right after the other: its buffers are full by then, and it was
// no hiccup.
const (
	slowStretch   = 5 * time.Second
	slowStretches = 2
)

// load is what a target says with each beat: what it spent its time with, and
// the bytes that it has written, by now.
type load struct {
	Times control.Times `json:"times"`
	Bytes int64         `json:"bytes"`
}

// beat is the note with which a target shows that it lives.
func (t *target) beat() note {
	return note{Type: noteBeat, Load: &load{Times: *t.meter.times(), Bytes: t.meter.bytes.Load()}}
}

// stretch is what is known at one end of a stretch of time.
type stretch struct {
	source control.Times
	loads  map[*peer]load
}

// slowness finds the target that the chain waits for while pass 1 is under way.
// It is the source that decides, since all tell it what they do, and since it can
// tell all what follows. It is one goroutine's.
type slowness struct {
	s     *source
	last  *stretch
	who   *peer // that was slow in the last stretch
	times int   // how many stretches it has been so
	said  map[*peer]bool
	links map[string]bool // members from which a link was slow
}

// watchSlow looks, until ctx ends, for a target that holds the others up: it is
// detached, or said to be waited for.
func (s *source) watchSlow(ctx context.Context) {
	if len(s.peers) < 2 {
		return
	}
	w := &slowness{s: s, said: make(map[*peer]bool), links: make(map[string]bool)}
	tick := time.NewTicker(s.job.slowStretch())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look()
		case <-ctx.Done():
			return
		}
	}
}

// slowStretch is how long a stretch is.
func (j *Job) slowStretch() time.Duration {
	if j.stretch > 0 {
		return j.stretch
	}
	return slowStretch
}

// look ends one stretch and begins the next.
func (w *slowness) look() {
	now := &stretch{source: *w.s.meter.times(), loads: make(map[*peer]load)}
	chain := w.chain(now)
	last := w.last
	w.last = now
	who, cause := w.slow(chain, last, now)
	if who == nil || who != w.who {
		w.times = 0
	}
	if w.who = who; who == nil {
		return
	}
	if w.times++; w.times < slowStretches || w.said[who] {
		return
	}
	w.said[who] = true
	d := now.loads[who].Times.Alive - last.loads[who].Times.Alive
	w.act(chain, slices.Index(chain, who), cause, float64(now.loads[who].Bytes-last.loads[who].Bytes)/d.Seconds())
	w.last = nil
}

// chain are the targets that frames still pass, in order, with what each has
// said last.
func (w *slowness) chain(now *stretch) []*peer {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	var chain []*peer
	for _, p := range w.s.peers {
		if p.gone() {
			continue
		}
		chain = append(chain, p)
		if p.load != nil {
			now.loads[p] = *p.load
		}
	}
	return chain
}

// slow is the target that was slow in a stretch; nil: none, or it is not known.
func (w *slowness) slow(chain []*peer, last, now *stretch) (*peer, holdup.Cause) {
	if last == nil {
		return nil, ""
	}
	spent := []*control.Times{holdup.Between(&last.source, &now.source)}
	for _, p := range chain {
		a, before := last.loads[p]
		b, after := now.loads[p]
		if !before || !after || b.Times.Alive-a.Times.Alive < w.s.job.slowStretch()/2 { // it was not heard for a while
			return nil, ""
		}
		spent = append(spent, holdup.Between(&a.Times, &b.Times))
	}
	cause, at := holdup.Slow(spent)
	if at == 0 {
		return nil, ""
	}
	return chain[at-1], cause
}

// slowParts says what of a target is slow.
var slowParts = map[holdup.Cause]string{holdup.Link: "the link to it carries", holdup.TargetDisk: "its disk or its command takes", holdup.TargetCPU: "its processors take"}

// act detaches the target at that place in the chain, or says that all wait for
// it. Where the same member's link was slow to another target before, that
// member is the slow one, unless it is the source.
func (w *slowness) act(chain []*peer, at int, cause holdup.Cause, rate float64) {
	s := w.s
	by, what := s.chain.plan.Members[0], slowParts[cause]
	if at > 0 {
		by = chain[at-1].member
	}
	if cause == holdup.Link && w.links[by.Name] {
		if at == 0 {
			return // all are as slow
		}
		at, what = at-1, "the links from it carry"
		if by = s.chain.plan.Members[0]; at > 0 {
			by = chain[at-1].member
		}
	} else if cause == holdup.Link {
		w.links[by.Name] = true
	}
	slow := chain[at].member
	why := &sdk.Error{Kind: sdk.KindTimeout, Host: slow.Host,
		Message: fmt.Sprintf("%s holds the others up: %s %.1f MB/s, and they could take twice as much", slow.Host, what, rate/1e6)}
	s.job.cfg.Log.Warn("a target is slow", "member", slow.Name, "cause", cause, "rate", int64(rate))
	if s.chain.plan.Settings.SlowTarget != control.SlowDetach || s.chain.stream() { // a stream cannot be read again
		s.meter.set(func(m *meter) { m.slow = append(m.slow, control.PeerError{Name: slow.Name, Error: why}) })
		s.wakeAll()
		return
	}
	n := note{Type: noteLost, Lost: []string{slow.Name}, Error: why}
	if at+1 < len(chain) {
		n.To = chain[at+1].member.Name
	}
	s.bypass(by, n)
}

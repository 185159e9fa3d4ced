package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/sdk"
)

// A target holds the others up when it does so (holdup.Slow) in two of three
// stretches of time, one after the other: it is no hiccup then, and one stretch in
// which the disk or the machine was busy with something else changes nothing.
const (
	slowStretch   = 5 * time.Second
	slowStretches = 2
	slowOf        = 3
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
	found []*peer // who was slow in each of the last stretches; nil: nobody
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

// look ends one stretch and begins the next. A stretch of which not all is known
// yet goes on: beats come late where a host is busy, which is when somebody is
// slow.
func (w *slowness) look() {
	now := &stretch{source: *w.s.meter.times(), loads: make(map[*peer]load)}
	chain, last := w.chain(now), w.last
	if last == nil {
		w.last = now
		return
	}
	spent := w.spent(chain, last, now)
	if spent == nil {
		return
	}
	w.last = now
	cause, at := holdup.Slow(spent)
	w.s.job.cfg.Log.Debug("what the members did", "spent", spent, "slow", at, "cause", cause)
	var who *peer
	if at > 0 {
		who = chain[at-1]
	}
	if !w.isSlow(who) || w.said[who] {
		return
	}
	w.said[who] = true
	d := now.loads[who].Times.Alive - last.loads[who].Times.Alive
	w.act(chain, at-1, cause, float64(now.loads[who].Bytes-last.loads[who].Bytes)/d.Seconds())
	w.last, w.found = nil, nil
}

// isSlow books who was slow in a stretch, and reports whether that is so in
// enough of them.
func (w *slowness) isSlow(who *peer) bool {
	w.found = append(w.found, who)
	w.found = w.found[max(len(w.found)-slowOf, 0):]
	times := 0
	for _, p := range w.found {
		if p == who {
			times++
		}
	}
	return who != nil && times >= slowStretches
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

// spent is what the source and the targets of the chain did in a stretch; nil
// where one of them was not heard at both of its ends.
func (w *slowness) spent(chain []*peer, last, now *stretch) []*control.Times {
	spent := []*control.Times{holdup.Between(&last.source, &now.source)}
	for _, p := range chain {
		a, before := last.loads[p]
		b, after := now.loads[p]
		if !before && after { // from now on
			last.loads[p] = b
		}
		if !before || !after || b.Times.Alive-a.Times.Alive < w.s.job.slowStretch()/2 {
			return nil
		}
		spent = append(spent, holdup.Between(&a.Times, &b.Times))
	}
	return spent
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

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// detour is who may take the place of a peer that was lost: so that one sick
// member does not stop those behind it. What was passed by is served by
// need-list.
type detour struct {
	// next names the member that may be joined in place of peer, and those
	// between them that need not be tried. ok is false where there is none.
	next func(peer control.Member) (to control.Member, between []control.Member, ok bool)
	// cut, if set, tells whether this host's own link is lost: then the peer is
	// waited for.
	cut func() bool
	// tell is called, from the goroutine that sends, when members were lost:
	// to has taken their place, or nobody has.
	tell func(lost []control.Member, to *control.Member, why error)

	waits time.Time        // since when cut has said so; zero: it has not
	lost  []control.Member // not told yet
	why   error            // what was wrong with the first of them
}

// errGap: a member that was joined lacks what is kept no more.
var errGap = errors.New("what it lacks is kept no more")

// candidateStays is for how long a member is dialled that was not lost itself:
// one that lives answers within a fraction of it.
const candidateStays = 3 * time.Second

// newDetour is target i's: the firewalls admit a target's two nearest
// predecessors, so it may only join the next member but one. What is left then
// is joined by the source.
func (c *chain) newDetour(i int, tell func([]control.Member, *control.Member, error)) *detour {
	peer := i + 1
	return &detour{tell: tell, next: func(control.Member) (to control.Member, _ []control.Member, ok bool) {
		if peer++; peer > i+2 || peer >= len(c.plan.Members) {
			return control.Member{}, nil, false
		}
		return c.plan.Members[peer], nil, true
	}}
}

// patience is how long the peer may stay away, and for how long it may do
// nothing but refuse.
func (o *outgoing) patience() (stay, refused time.Duration) {
	switch {
	case o.way == nil:
		return o.retry, o.refused
	case !o.way.waits.IsZero():
		return min(o.retry, link.Silence), o.refused
	case len(o.way.lost) > 0:
		return min(o.retry, candidateStays), time.Nanosecond
	}
	return min(o.retry, link.Silence), time.Nanosecond
}

// mend goes on after the connection was lost: to the same peer if it comes
// back, else to one behind it. Where nobody is left, nothing is sent any more.
func (o *outgoing) mend(ctx context.Context, why error) error {
	for {
		err := o.remake(ctx, why)
		switch {
		case err == nil:
			o.turned()
			return nil
		case ctx.Err() != nil, o.way == nil, errors.Is(err, link.ErrBypassed):
			return err
		case errors.Is(err, errGap) && o.gap != nil && !o.skips:
			o.leap()
			why = err
			continue
		}
		if !errors.Is(err, sdk.ErrIntegrity) && o.waits() {
			why = err
			continue
		}
		to, between, ok := o.way.next(o.peer)
		if len(o.way.lost) == 0 {
			o.way.why = err
		}
		o.way.lost = append(append(o.way.lost, o.peer), between...)
		o.way.waits = time.Time{}
		if !ok {
			o.alone(o.way.why)
			return nil
		}
		o.turn(to)
		why = fmt.Errorf("instead of the one before: %v", err) // which is not this one's error
	}
}

// waits reports whether the same peer is to be tried for another round: while
// this host's own link is lost, up to the time that a peer may stay away, and
// once more when it is back.
func (o *outgoing) waits() bool {
	cut, again := o.way.cut != nil && o.way.cut(), !o.way.waits.IsZero()
	switch {
	case !cut:
		o.way.waits = time.Time{}
	case !again:
		o.way.waits = time.Now()
	case time.Since(o.way.waits) > o.retry:
		return false
	}
	if cut || again {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.stuck = time.Time{}
		return true
	}
	return false
}

// turn makes another member the peer.
func (o *outgoing) turn(to control.Member) {
	o.hangUp()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.peer = to
	o.lostWhy, o.joined, o.stuck, o.moved = nil, true, time.Time{}, time.Time{}
	if o.kept == nil {
		return
	}
	if first, more := o.kept(o.base); len(more) > 0 {
		o.base, o.unacked = first, append(numbered(first, more), o.unacked...)
	}
}

// turned tells who was passed by.
func (o *outgoing) turned() {
	if o.way == nil {
		return
	}
	o.way.waits = time.Time{}
	if len(o.way.lost) == 0 {
		return
	}
	lost, to := o.way.lost, o.peer
	o.way.lost = nil
	o.way.tell(lost, &to, o.way.why)
}

// alone gives up all members that could be sent to: those that were lost, or the
// peer.
func (o *outgoing) alone(why error) {
	lost := o.way.lost
	if len(lost) == 0 {
		lost = []control.Member{o.peer}
	}
	o.way.lost = nil
	o.way.tell(lost, nil, why)
	o.end()
}

// end ends the sending for good: nobody is sent to any more.
func (o *outgoing) end() {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	o.close()
	if o.heard != nil {
		o.heard()
	}
}

// newDetour is that of one of the source's ways into the chain: it may join any
// member behind the one that was lost, up to where another of its ways begins.
// Members that are not heard are not tried; where none is heard, it is the
// source's own link that is lost.
func (s *source) newDetour() *detour {
	return &detour{tell: func(lost []control.Member, to *control.Member, why error) {
		s.bypass(s.chain.plan.Members[0], lostNote(lost, to, why))
	}, next: s.nextHead, cut: s.isCutOff}
}

func (s *source) nextHead(peer control.Member) (to control.Member, between []control.Member, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.chain.index(peer.Name)
	s.peers[at-1].fed = false
	for _, p := range s.peers[at:] {
		switch {
		case p.fed:
			return control.Member{}, between, false
		case p.bypassed:
		case !p.heard:
			between = append(between, p.member)
		default:
			p.fed = true
			return p.member, between, true
		}
	}
	return control.Member{}, between, false
}

// isCutOff reports whether the source hears no target.
func (s *source) isCutOff() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(s.peers, func(p *peer) bool { return p.heard })
}

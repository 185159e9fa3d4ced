package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// peer is what the source knows of one target.
type peer struct {
	member control.Member
	conn   *link.Conn // notes; nil until linked
	ready  bool
	kept   []keptState // what it knows of earlier attempts
	needed bool        // its last need-list was empty
	phase  control.Phase
	err    *sdk.Error
	heard  bool // there are notes, and they are not silent
	dead   bool // and could not be made anew
	// bypassed: nothing comes to it by the chain any more.
	bypassed bool
	load     *load // what it said last of what it does; nil: nothing yet
	fed      bool  // it is the source that sends to it, and no other target

	round  uint32    // the last need-list that came
	asked  chan note // need-lists that are not served yet; only the newest counts
	served uint64    // pieces sent in repair passes
}

func newPeer(m control.Member) *peer { return &peer{member: m, asked: make(chan note, 1)} }

// settled reports whether nothing more is to come from the target.
func (p *peer) settled() bool { return p.phase == control.PhaseVerified || p.err != nil }

// supplied reports whether the target lacks nothing that the source could
// still be read for.
func (p *peer) supplied() bool { return p.needed || p.err != nil }

// passed reports whether pass 1 is over for the target, one way or the other.
func (p *peer) passed() bool { return p.round > 0 || p.bypassed || p.err != nil }

// gone reports whether the target passes nothing on any more.
func (p *peer) gone() bool { return p.bypassed || p.dead }

func (p *peer) failed(err *sdk.Error) {
	if p.err == nil {
		if err == nil {
			err = &sdk.Error{Kind: sdk.KindInternal, Host: p.member.Host, Message: "failed without a reason"}
		}
		p.err, p.phase = err, control.PhaseFailed
	}
}

func (s *source) isSettled(p *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.settled()
}

// firstError is the first target's failure: before anything was read, one
// target that cannot take part refuses the whole.
func (s *source) firstError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if p.err != nil {
			e := *p.err
			e.Host = s.chain.plan.Members[0].Host // it is the source that gives up
			e.Message = fmt.Sprintf("%s on %s failed: %s", p.member.Name, p.member.Host, e.Message)
			return &e
		}
	}
	return nil
}

// set changes what is known of the peers. When all have failed there is nobody
// left to read for.
func (s *source) set(change func()) {
	s.mu.Lock()
	change()
	var failed []control.PeerError
	for _, p := range s.peers {
		if p.err != nil {
			failed = append(failed, control.PeerError{Name: p.member.Name, Error: p.err})
		}
	}
	s.mu.Unlock()
	s.meter.set(func(m *meter) { m.failed = failed })
	select {
	case s.changed <- struct{}{}:
	default:
	}
	if len(failed) == len(s.peers) {
		s.life.cancel(s.firstError())
	}
}

// await waits until every peer is as wanted; limit 0: as long as ctx allows.
// The heartbeats see to it that a dead peer is known as failed.
func (s *source) await(ctx context.Context, limit time.Duration, ok func(*peer) bool) error {
	var timeout <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		missing := s.missing(ok)
		if missing == nil {
			return nil
		}
		select {
		case <-s.changed:
		case <-timeout:
			return &sdk.Error{Kind: sdk.KindTimeout, Host: missing.Host,
				Message: fmt.Sprintf("the links of %s were not all proven within %s", missing.Name, limit),
				Hint:    "see whether its predecessors in the chain may reach it"}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *source) missing(ok func(*peer) bool) *control.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if !ok(p) {
			return &p.member
		}
	}
	return nil
}

// broadcast sends a note to all targets that can still be reached.
func (s *source) broadcast(n note) {
	s.mu.Lock()
	var conns []*link.Conn
	for _, p := range s.peers {
		if p.conn != nil && p.err == nil {
			conns = append(conns, p.conn)
		}
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { _ = c.WriteMessage(n) }) // a lost peer is seen by its reader
	}
	wg.Wait()
}

// wakeAll makes all agents answer their waiting controller.
func (s *source) wakeAll() {
	s.wake()
	s.job.cfg.Wanted()
}

package agent

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// linkUp dials every target's notes and the chain's first link, and waits
// until all links of all targets are proven.
func (s *source) linkUp(ctx context.Context) (*link.Conn, error) {
	within, cancel := s.chain.linking(ctx)
	defer cancel()
	out, err := s.job.dialNext(within, s.chain, 0)
	if err != nil {
		return nil, err
	}
	s.meter.set(func(m *meter) { m.peer = out.Address })
	dials, within := errgroup.WithContext(within)
	dials.SetLimit(64)
	for _, p := range s.peers {
		dials.Go(func() error {
			conn, err := s.chain.dialer(within, s.job.cfg.Identity, p.member).Dial(within,
				s.job.hello(s.meter.name, p.member.Name, link.PurposeNotes, false))
			if err != nil {
				return err
			}
			s.set(func() { p.conn = conn })
			s.life.group.Go(func() { s.listen(ctx, p, conn) })
			return nil
		})
	}
	if err := dials.Wait(); err != nil {
		out.Close()
		return nil, err
	}
	err = s.await(ctx, s.chain.linkLimit(), func(p *peer) bool { return p.ready || p.err != nil })
	if err == nil {
		err = s.firstError()
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	s.meter.enter(control.PhaseReady)
	return out, nil
}

// listen takes a target's notes. A connection that ends before the target is
// settled is made anew for as long as a peer may stay away.
func (s *source) listen(ctx context.Context, p *peer, conn *link.Conn) {
	for {
		s.set(func() { p.heard = true })
		err := exchange(ctx, conn, func() note { return note{Type: noteBeat} }, func(n note) {
			switch n.Type {
			case noteBeat:
				s.mu.Lock()
				p.load = n.Load
				s.mu.Unlock()
			case noteReady:
				s.set(func() { p.ready, p.kept = true, n.Kept })
			case noteLost:
				s.bypass(p.member, n)
			case noteNeed:
				s.need(p, n)
			case noteWake:
				s.wakeAll()
			case noteVerified:
				s.set(func() { p.phase = control.PhaseVerified })
			case noteFailed:
				s.set(func() { p.failed(n.Error) })
				s.wakeAll()
			}
		})
		s.set(func() { p.heard = false })
		if ctx.Err() != nil || s.isSettled(p) {
			return
		}
		if conn, err = s.redial(ctx, p, err); err != nil {
			s.set(func() {
				p.dead = true
				p.failed(sdk.AsError(err))
				s.adopt()
			})
			s.wakeAll()
			return
		}
	}
}

// redial makes a target's notes anew, and repeats on them what the target may
// have missed.
func (s *source) redial(ctx context.Context, p *peer, why error) (*link.Conn, error) {
	retry := s.chain.plan.Settings.RetryFor
	ctx, cancel := context.WithTimeout(ctx, retry)
	defer cancel()
	s.job.cfg.Log.Warn("notes lost, dialling again", "to", p.member.Name, "error", why)
	d := s.chain.dialer(ctx, s.job.cfg.Identity, p.member)
	d.Refused = s.chain.refusedFor()
	conn, err := d.Dial(ctx, s.job.hello(s.meter.name, p.member.Name, link.PurposeNotes, false))
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindUnreachable, Host: p.member.Host,
			Message: fmt.Sprintf("the link to the source was lost (%v), and could not be made again within %s: %v", why, retry, err),
			Hint:    "see whether the host and its agent live, then run the transfer again"}
	}
	s.set(func() { p.conn = conn })
	for _, n := range s.told(p) {
		if conn.WriteMessage(n) != nil {
			break // its reader sees why
		}
	}
	return conn, nil
}

// told is what a target should know by now.
func (s *source) told(p *peer) []note {
	var notes []note
	if s.job.Flowing() {
		notes = append(notes, note{Type: noteBegin})
	}
	s.mu.Lock()
	bypassed := p.bypassed
	s.mu.Unlock()
	if bypassed {
		notes = append(notes, note{Type: noteBypassed})
	}
	if s.job.SourceDone() {
		notes = append(notes, note{Type: noteSourceDone})
	}
	return notes
}

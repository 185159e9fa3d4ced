package agent

import (
	"context"
	"sync"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/relay"
)

// keptBytes bounds what the source keeps of what it has sent, so that a part of
// the chain that was cut off from its predecessors can go on where it is: two
// neighbours that die at once have had it, and those behind them not yet.
const keptBytes = 32 << 20

// feeds are the source's ways into the chain beside the first: one to each part
// of it that was cut off. They take from the ring what the source sends, from
// what is kept on. Safe for concurrent use.
type feeds struct {
	s    *source
	life *life

	mu     sync.Mutex
	ring   *relay.Ring
	sent   uint64         // frames of the pass
	kept   []relay.Packet // the last of them
	size   int64          // of kept
	shut   bool           // nothing is kept any more
	ending bool           // the pass has come to its end
}

// openFeeds lets members be joined from now on; nil where there is one target
// alone.
func (s *source) openFeeds(ctx context.Context) *feeds {
	if len(s.peers) < 2 {
		return nil
	}
	f := &feeds{s: s, life: newLife(ctx), ring: relay.NewRing()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feeds = f
	return f
}

// closeFeeds ends all of them.
func (s *source) closeFeeds(f *feeds) {
	if f == nil {
		return
	}
	s.mu.Lock()
	s.feeds = nil // none begins any more
	s.mu.Unlock()
	f.life.end()
	f.forget()
}

// keeps is the memory that it takes at most. Two targets need nothing of it: one
// of them is always within reach of what is not acknowledged.
func (f *feeds) keeps() int64 {
	if f == nil || len(f.s.peers) < 3 {
		return 0
	}
	return f.s.job.keeps
}

// adopt sends to those parts of the chain that nobody else can: both members
// before them are gone. It is called with the source's lock held.
func (s *source) adopt() {
	if s.feeds == nil {
		return
	}
	for i, p := range s.peers {
		if i >= 2 && s.peers[i-1].gone() && s.peers[i-2].gone() && !p.gone() && !p.fed && p.round == 0 {
			p.fed = true
			s.feeds.join(p.member)
		}
	}
}

// put is shown each frame of the pass before it is sent.
func (f *feeds) put(p relay.Packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent++
	f.ending = f.ending || p.Type == frame.TypePassEnd || p.Type == frame.TypeFailure
	p.Hold()
	f.ring.Put(p)
	if f.shut {
		return
	}
	p.Hold()
	f.kept = append(f.kept, p)
	f.size += p.Weight()
	for f.size > f.keeps() && len(f.kept) > 0 {
		f.size -= f.kept[0].Weight()
		f.kept[0].Release()
		f.kept[0] = relay.Packet{}
		f.kept = f.kept[1:]
	}
}

// before returns what is kept of the frames before number n, with holds, and
// the number of the first.
func (f *feeds) before(n uint64) (first uint64, held []relay.Packet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first = f.sent - uint64(len(f.kept))
	if first >= n {
		return n, nil
	}
	held = append(held, f.kept[:n-first]...)
	for _, p := range held {
		p.Hold()
	}
	return first, held
}

// join begins a way to a member that was cut off. It is called with the
// source's lock held.
func (f *feeds) join(head control.Member) {
	f.mu.Lock()
	tap, sent := f.ring.Tap(), f.sent
	f.mu.Unlock()
	first, held := f.before(sent)
	o := f.s.paced(f.s.job.newOutgoing(nil, f.s.chain, 0, f.s.meter))
	o.peer, o.joined = head, true
	o.base, o.last, o.unacked = first, sent, numbered(first, held)
	o.way, o.kept, o.gap = f.s.newDetour(), f.before, f.gaps()
	f.life.group.Go(func() {
		ctx := f.life.ctx
		if err := f.s.job.guard(ctx, o, func() error { return o.forward(ctx, tap) }); err != nil && ctx.Err() == nil {
			f.s.job.cfg.Log.Warn("a way into the chain has ended", "to", o.peer.Name, "error", err)
		}
	})
}

// gaps makes the frames that stand for what is left out; nil where nothing can
// be: a stream is taken in order.
func (f *feeds) gaps() func(frame.Gap) (*frame.Frame, error) {
	if f.s.chain.stream() {
		return nil
	}
	return func(g frame.Gap) (*frame.Frame, error) {
		f.mu.Lock()
		ending := f.ending
		f.mu.Unlock()
		if ending {
			return nil, nil
		}
		return g.Build(frame.Scope{Transfer: f.s.job.cfg.Transfer, Pass: 1}, f.s.job.cfg.Identity.Sign)
	}
}

// passed is called when the pass has come to its end, or has failed: what feeds
// have not sent by then goes on.
func (f *feeds) passed(err error) {
	if f != nil {
		f.ring.Close(err)
	}
}

// forget gives back what is kept, when nobody can need it any more.
func (f *feeds) forget() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.kept {
		p.Release()
	}
	f.kept, f.size, f.shut = nil, 0, true
}

package agent

import (
	"net"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// packets are n packets of a budget.
func packets(t *testing.T, budget *relay.Budget, n int) (list []relay.Packet) {
	t.Helper()
	for range n {
		buf, err := budget.Get(t.Context(), frame.PayloadAt(1)+1)
		if err != nil {
			t.Fatal(err)
		}
		f, err := frame.Build(buf.B, frame.TypeData, 0, 1, []frame.Extent{{Length: 1}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, relay.Packet{Frame: f, Buffer: buf})
	}
	return list
}

// TestKeptUntilTwoHaveIt: a frame is kept until the peer and the one behind it
// have it, so that one death leaves no gap; and not longer.
func TestKeptUntilTwoHaveIt(t *testing.T) {
	for _, c := range []struct {
		have, next uint64
		kept       int
		absurd     bool
	}{
		{0, 0, 8, false}, {5, 0, 8, false}, {5, 3, 5, false}, {8, 8, 0, false}, {9, 3, 8, true}, {1 << 60, 1 << 60, 8, true},
	} {
		o := newOutgoing(nil, control.Member{Name: "target-1", Host: "host-1"}, time.Minute)
		o.unacked, o.last = numbered(0, packets(t, relay.NewBudget(1<<20), 8)), 8
		err := o.settle(c.have, c.next)
		if e := sdk.AsError(err); (err != nil) != c.absurd || c.absurd && e.Kind != sdk.KindIntegrity {
			t.Errorf("%d, %d: %v", c.have, c.next, err)
		}
		if len(o.unacked) != c.kept || o.base != uint64(8-c.kept) {
			t.Errorf("%d, %d: %d are kept from %d on, want %d", c.have, c.next, len(o.unacked), o.base, c.kept)
		}
		o.close()
	}
}

// TestJoinedBehindAGap: a member that is joined may lack more than is kept. That
// is no lie, and it is not fed.
func TestJoinedBehindAGap(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	o := newOutgoing(&link.Conn{Conn: near}, control.Member{Name: "target-2"}, time.Minute)
	o.base, o.last, o.joined = 10, 10, true
	go far.Write(frame.Ack(1, 9, 9).Wire())
	if err := o.greet(); err == nil || sdk.AsError(err).Kind == sdk.KindIntegrity {
		t.Errorf("it was joined behind a gap: %v", err)
	}
	o.close()
}

// TestWhatIsKeptIsBounded: what the source keeps for parts of the chain that may
// be cut off is bounded by its weight, and its end is without a gap.
func TestWhatIsKeptIsBounded(t *testing.T) {
	const weight = 4 << 10 // of the smallest packet
	src := content(t)
	r := newRig(t, src, 4, nil)
	r.jobs[0].keeps = 5 * weight
	c, err := newChain(&r.plan, r.plan.Members[0].Agent)
	if err != nil {
		t.Fatal(err)
	}
	f := newSource(r.jobs[0], c).openFeeds(t.Context())
	budget := relay.NewBudget(20 * weight)
	all := packets(t, budget, 20)
	for _, p := range all {
		f.put(p)
		p.Release()
	}
	if first, held := f.before(18); first != 15 || len(held) != 3 || held[0] != all[15] {
		t.Errorf("before frame 18 it keeps %d from %d on, want 3 from 15 on", len(held), first)
	} else {
		for _, p := range held {
			p.Release()
		}
	}
	if first, held := f.before(15); first != 15 || len(held) > 0 {
		t.Errorf("before frame 15 it keeps %d from %d on", len(held), first)
	}
	f.forget()
	for _, p := range packets(t, budget, 20) { // all memory was given back
		f.put(p) // and nothing is kept any more
		p.Release()
	}
	for range 2 {
		for _, p := range packets(t, budget, 20) {
			p.Release()
		}
	}
}

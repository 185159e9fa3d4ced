package relay

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/frame"
)

func packet(t *testing.T, b *Budget, text string) Packet {
	t.Helper()
	buf, err := b.Get(t.Context(), frame.PayloadAt(1)+len(text))
	if err != nil {
		t.Fatal(err)
	}
	copy(buf.B[frame.PayloadAt(1):], text)
	f, err := frame.Build(buf.B, frame.TypeData, 0, 1, []frame.Extent{{Length: uint64(len(text))}}, len(text))
	if err != nil {
		t.Fatal(err)
	}
	return Packet{f, buf}
}

func TestEveryTapSeesEveryFrameInOrder(t *testing.T) {
	budget, ring := NewBudget(1<<20), NewRing()
	taps := []*Tap{ring.Tap(), ring.Tap()}
	for _, s := range []string{"a", "b", "c"} {
		ring.Put(packet(t, budget, s))
	}
	failure := errors.New("cut")
	ring.Close(failure)
	for _, tap := range taps {
		for _, want := range []string{"a", "b", "c"} {
			p, err := tap.Next(t.Context())
			if err != nil || string(p.Payload()) != want {
				t.Fatalf("got %v, want %q", err, want)
			}
			p.Buffer.Release()
		}
		if _, err := tap.Next(t.Context()); !errors.Is(err, failure) {
			t.Errorf("at the end: %v", err)
		}
	}
}

func TestTheSlowestTapHoldsTheBudget(t *testing.T) {
	budget, ring := NewBudget(2*minWeight), NewRing()
	fast, slow := ring.Tap(), ring.Tap()
	for range 2 {
		ring.Put(packet(t, budget, "x"))
		p, _ := fast.Next(t.Context())
		p.Buffer.Release()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := budget.Get(ctx, 1); err == nil {
		t.Fatal("the budget was exceeded")
	}
	slow.Leave()
	slow.Leave()
	buf, err := budget.Get(t.Context(), 1)
	if err != nil {
		t.Fatalf("a tap that left still holds memory: %v", err)
	}
	buf.Release()
	ring.Put(packet(t, budget, "y"))
	ring.Close(nil)
	if p, err := fast.Next(t.Context()); err != nil {
		t.Error(err)
	} else {
		p.Buffer.Release()
	}
	if _, err := fast.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after Close(nil): %v", err)
	}
}

func TestALargeBufferFitsASmallBudget(t *testing.T) {
	budget := NewBudget(1 << 20)
	buf, err := budget.Get(t.Context(), 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	buf.Release()
}

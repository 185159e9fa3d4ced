package agent

import (
	"net"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/relay"
)

// TestSmallFramesAreAcknowledged: a sender holds for each frame the memory
// that it was made in, however small compression has made it, so that a few
// frames must be acknowledged as soon as many bytes.
func TestSmallFramesAreAcknowledged(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	a := newArrivals(control.Member{}, control.Member{}, time.Second, &meter{})
	due, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- a.frames(t.Context(), &link.Conn{Conn: near}, relay.NewRing(), relay.NewBudget(1<<20), due)
	}()
	small, err := frame.Build(append(make([]byte, frame.PayloadAt(1)), 'x'), frame.TypeData, 0, 1, []frame.Extent{{Length: 1}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for range ackFrames {
		if _, err := far.Write(small.Wire()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-due:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(10 * time.Second):
		t.Fatalf("%d frames have arrived and no acknowledgement is due", a.count.Load())
	}
	near.Close()
	<-ended
}

// TestCutBehindTheEnd: the end of a pass and the signature over it may come by
// two connections.
func TestCutBehindTheEnd(t *testing.T) {
	a := newArrivals(control.Member{}, control.Member{}, time.Second, &meter{})
	ring, budget := relay.NewRing(), relay.NewBudget(1<<20)
	for i, kind := range []frame.Type{frame.TypePassEnd, frame.TypeSegmentEnd} {
		near, far := net.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- a.frames(t.Context(), &link.Conn{Conn: near}, ring, budget, make(chan struct{}, 1))
		}()
		f, err := frame.Build(make([]byte, frame.HeaderLen), kind, 0, 1, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write(f.Wire()); err != nil {
			t.Fatal(err)
		}
		far.Close()
		if err := <-ended; (err == nil) != (i == 1) {
			t.Errorf("after connection %d: %v", i+1, err)
		}
		near.Close()
	}
}

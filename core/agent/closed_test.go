package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
)

// TestClosedPortsAreTold: the controller hears of a closed port at once, then
// again from time to time while it stays closed, and no more when it is open.
func TestClosedPortsAreTold(t *testing.T) {
	wanted := 0
	p := &closedPorts{by: map[string]*closedPort{}, want: func() { wanted++ }}
	tried := func(name string, index int, outcomes ...link.Outcome) {
		var round []link.Attempt
		for _, o := range outcomes {
			round = append(round, link.Attempt{Address: "[2001:db8::1]:4400", Local: "2001:db8::2", Outcome: o})
		}
		p.watch(index, name)(round)
	}
	tried("target-2", 2, link.OutcomeTimeout)
	tried("target-1", 1, link.OutcomeRefused, link.OutcomeNoRoute)
	tried("target-3", 3, link.OutcomeRefused, link.OutcomeConnected)
	if wanted != 2 || !p.any() {
		t.Errorf("wanted %d times", wanted)
	}
	for range 5 {
		tried("target-2", 2, link.OutcomeTimeout)
	}
	if wanted != 2 {
		t.Errorf("wanted %d times in no time", wanted)
	}
	p.by["target-2"].wanted = time.Now().Add(-wantAgain)
	tried("target-2", 2, link.OutcomeTimeout)
	if wanted != 3 {
		t.Errorf("wanted %d times, while it stays closed", wanted)
	}
	got := fmt.Sprintf("%+v", p.list())
	want := fmt.Sprintf("%+v", []control.ClosedPort{
		{Member: "target-1", Rounds: 1, Addresses: []control.ClosedAddress{
			{Address: "2001:db8::1", Local: "2001:db8::2", Outcome: "refused"}, {Address: "2001:db8::1", Local: "2001:db8::2", Outcome: "no-route"}}},
		{Member: "target-2", Rounds: 7, Addresses: []control.ClosedAddress{{Address: "2001:db8::1", Local: "2001:db8::2", Outcome: "timeout"}}},
	})
	if got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	p.watch(1, "target-1")(nil)
	tried("target-2", 2, link.OutcomeConnected)
	if p.any() || p.list() != nil {
		t.Errorf("%+v", p.list())
	}
	for i := range control.MaxClosed + 5 {
		tried(fmt.Sprint("target-", i), i, link.OutcomeTimeout)
	}
	if n := len(p.list()); n != control.MaxClosed {
		t.Errorf("%d are told", n)
	}
}

// TestLinkingIsLongerWhereAPortIsClosed: the controller gets its time to open
// it, and no other transfer waits for longer.
func TestLinkingIsLongerWhereAPortIsClosed(t *testing.T) {
	for _, closed := range []bool{false, true} {
		c := &chain{plan: &control.Start{Settings: control.Settings{LinkTimeout: 50 * time.Millisecond, OpenFor: 400 * time.Millisecond}},
			closed: &closedPorts{by: map[string]*closedPort{}}}
		if closed {
			c.closed.watch(1, "target-1")([]link.Attempt{{Outcome: link.OutcomeRefused}})
		}
		began := time.Now()
		ctx, cancel := c.linking(t.Context())
		defer cancel()
		<-ctx.Done()
		if took := time.Since(began); (took >= 400*time.Millisecond) != closed || !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			t.Errorf("closed %v: %v after %v", closed, context.Cause(ctx), took)
		}
	}
}

// TestDiallersWaitForAPortToBeOpened: the port of the only target is closed,
// the controller is called for, and when the port is opened, later than links
// may take otherwise, the next attempt succeeds.
func TestDiallersWaitForAPortToBeOpened(t *testing.T) {
	source := makeSource(t)
	r := newRig(t, source, 1, func(p *control.Start) {
		p.Settings.LinkTimeout, p.Settings.OpenFor = time.Second, 30*time.Second
	})
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := door.Addr().String()
	door.Close()
	behind := fmt.Sprintf("127.0.0.1:%d", r.plan.Members[1].Port)
	r.plan.Members[1].Port = door.Addr().(*net.TCPAddr).Port
	var wanted atomic.Int32
	r.jobs[0].cfg.Wanted = func() { wanted.Add(1) }
	r.start()
	time.Sleep(1500 * time.Millisecond) // beyond the link timeout
	closed := r.jobs[0].Closed()
	if len(closed) != 1 || closed[0].Member != "target-1" || closed[0].Addresses[0].Outcome != "refused" || wanted.Load() == 0 {
		t.Fatalf("%+v, wanted %d times", closed, wanted.Load())
	}
	open(t, address, behind)
	for name, m := range r.settled() {
		if m.Phase != control.PhaseVerified {
			t.Errorf("%s: %s %v", name, m.Phase, m.Error)
		}
	}
	if closed := r.jobs[0].Closed(); closed != nil {
		t.Errorf("still %+v", closed)
	}
}

// makeSource makes a small tree.
func makeSource(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// open lets connections to address through to behind, until the test ends.
func open(t *testing.T, address, behind string) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", behind)
			if err != nil {
				in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
}

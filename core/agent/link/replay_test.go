package link

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// recorder passes connections on to an address and keeps what went there.
type recorder struct {
	ln   net.Listener
	mu   sync.Mutex
	said [][]byte // of each connection, what its dialler said
}

// record starts a recorder in front of address.
func record(t *testing.T, address string) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{ln: ln}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.pass(in, address) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return r
}

func (r *recorder) pass(in net.Conn, address string) {
	defer in.Close()
	out, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	n := len(r.said)
	r.said = append(r.said, nil)
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { io.Copy(in, out); in.Close() })
	b := make([]byte, 32<<10)
	for {
		got, err := in.Read(b)
		r.mu.Lock()
		r.said[n] = append(r.said[n], b[:got]...)
		r.mu.Unlock()
		if err != nil {
			break
		}
		out.Write(b[:got])
	}
	out.Close()
	back.Wait()
}

// TestReplayedConversation: what was recorded of proven connections, said again
// word for word, proves nothing and gets no answer that means anything; be it
// all of them in their order, or one.
func TestReplayedConversation(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain ", plain), func(t *testing.T) {
			p := newPair(t)
			between := record(t, p.ln.Addr().String())
			d := p.dialer()
			d.Addresses = []string{between.ln.Addr().String()}
			out, err := d.Dial(t.Context(), Hello{Transfer: "T", From: "a", To: "b", Purpose: PurposeData, Plain: plain})
			if err != nil {
				t.Fatal(err)
			}
			if err := out.WriteMessage("the data"); err != nil {
				t.Fatal(err)
			}
			in := <-p.got
			var s string
			if err := in.ReadMessage(&s); err != nil || s != "the data" {
				t.Fatal(s, err)
			}
			out.Close()
			in.Close()

			between.mu.Lock()
			said := slices.Clone(between.said)
			between.mu.Unlock()
			if want := map[bool]int{false: 1, true: 2}[plain]; len(said) != want {
				t.Fatalf("%d connections were recorded, want %d", len(said), want)
			}
			for _, text := range said {
				if len(text) == 0 {
					t.Error("nothing was recorded")
				}
				p.raw(t, text)
			}
			select {
			case c := <-p.got:
				c.Close()
				t.Errorf("a replay was delivered: %+v", c.Hello)
			case <-time.After(100 * time.Millisecond):
			}
		})
	}
}

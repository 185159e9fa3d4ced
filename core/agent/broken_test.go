package agent

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// wire is a way between members that a test may break.
type wire struct {
	port   int
	ln     net.Listener
	passed atomic.Int64
	mute   atomic.Bool  // takes everything and passes nothing on
	rate   atomic.Int64 // bytes a second of each connection, each way; 0: any

	mu    sync.Mutex
	conns []net.Conn
	dead  bool
}

// newWire leads to a port of this host.
func newWire(t *testing.T, port int) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{port: ln.Addr().(*net.TCPAddr).Port, ln: ln}
	t.Cleanup(w.kill)
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				in.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, in, out)
			dead := w.dead
			w.mu.Unlock()
			if dead {
				w.cut()
			}
			go w.copy(out, in)
			go w.copy(in, out)
		}
	}()
	return w
}

func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.passed.Add(int64(n))
		if w.mute.Load() {
			continue
		}
		if rate := w.rate.Load(); rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate)) // the slowness itself
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut breaks all connections there are, with a reset where something is
// under way.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
	w.conns = nil
}

// kill breaks them for ever.
func (w *wire) kill() {
	w.mu.Lock()
	w.dead = true
	w.mu.Unlock()
	w.ln.Close()
	w.cut()
}

// after waits until n bytes have passed.
func (w *wire) after(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); w.passed.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes have passed", w.passed.Load(), n)
		}
	}
}

// wired is a rig whose members reach each other over wires.
func wired(t *testing.T, src string, targets int, change func(*control.Start)) (*rig, []*wire) {
	t.Helper()
	var wires []*wire
	r := newRig(t, src, targets, func(p *control.Start) {
		p.Settings.RetryFor = 30 * time.Second
		p.Settings.LimitRate = 20 << 20
		for i := range p.Members[1:] {
			w := newWire(t, p.Members[i+1].Port)
			p.Members[i+1].Port = w.port
			wires = append(wires, w)
		}
		if change != nil {
			change(p)
		}
	})
	return r, wires
}

func TestBrokenLinksAreMadeAnew(t *testing.T) {
	src := content(t)
	for _, encrypt := range []bool{true, false} {
		t.Run(fmt.Sprintf("encrypt %v", encrypt), func(t *testing.T) {
			r, wires := wired(t, src, 2, func(p *control.Start) { p.Settings.Encrypt = encrypt })
			r.start()
			for i := range int64(6) { // in turn, at different places of the stream
				wires[i%2].after(t, 1<<20+i*3<<19)
				wires[i%2].cut()
			}
			all := r.settled()
			for name, m := range all {
				if m.Error != nil || m.Root != all["source"].Root {
					t.Fatalf("%s: %+v", name, m)
				}
			}
			r.commit()
			for _, dir := range r.dirs {
				same(t, src, filepath.Join(dir, "tree"))
			}
		})
	}
}

// TestCutAtTheEnd breaks all connections when everything was sent: what the
// other end has not heard is told again.
func TestCutAtTheEnd(t *testing.T) {
	src := content(t)
	r, wires := wired(t, src, 2, nil)
	r.start()
	for _, j := range r.jobs[1:] {
		waitFor(t, j, control.PhaseReadDone)
		for _, w := range wires {
			w.cut()
		}
	}
	for name, m := range r.settled() {
		if m.Error != nil {
			t.Fatalf("%s: %+v", name, m)
		}
	}
	r.commit()
	for _, dir := range r.dirs {
		same(t, src, filepath.Join(dir, "tree"))
	}
}

// waitFor waits until the job's only member is that far.
func waitFor(t *testing.T, j *Job, p control.Phase) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !j.Members()[0].Phase.AtLeast(p); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s: %+v", p, j.Members())
		}
	}
}

// TestSilentLink: a way that swallows everything is noticed, and left for a
// new connection when it works again.
func TestSilentLink(t *testing.T) {
	src := content(t)
	r, wires := wired(t, src, 1, nil)
	r.start()
	wires[0].after(t, 3<<20)
	wires[0].mute.Store(true)
	time.Sleep(link.Silence + time.Second) // the silence itself is what is tested
	wires[0].mute.Store(false)
	for name, m := range r.settled() {
		if m.Error != nil {
			t.Fatalf("%s: %+v", name, m)
		}
	}
	r.commit()
	same(t, src, filepath.Join(r.dirs[0], "tree"))
}

// TestDeadPeer: a target that refuses has died; nobody waits for it as long
// as for one that is away.
func TestDeadPeer(t *testing.T) {
	src := content(t)
	r, wires := wired(t, src, 1, func(p *control.Start) { p.Settings.RetryFor = 5 * time.Minute })
	r.start()
	wires[0].after(t, 3<<20)
	wires[0].kill()
	began := time.Now()
	waitFor(t, r.jobs[0], control.PhaseFailed)
	if e := r.jobs[0].Members()[0].Error; e == nil || e.Kind != sdk.KindUnreachable || !strings.Contains(e.Error(), "target-1") || !strings.Contains(e.Error(), "refused") {
		t.Errorf("the source says %v", e)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

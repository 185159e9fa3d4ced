package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// pair is a listening member "b" that knows member "a".
type pair struct {
	a, b *Identity
	ln   net.Listener
	got  chan *Conn
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{got: make(chan *Conn, 8)}
	var err error
	if p.a, err = NewIdentity(); err != nil {
		t.Fatal(err)
	}
	if p.b, err = NewIdentity(); err != nil {
		t.Fatal(err)
	}
	if p.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	acceptor := &Acceptor{
		Identity: p.b, Transfer: "T",
		Fingerprint: func(m string) string { return map[string]string{"a": p.a.Fingerprint()}[m] },
		Known:       func(fp string) bool { return fp == p.a.Fingerprint() },
		Planned:     func(netip.Addr) bool { return false },
		Check: func(h Hello) error {
			if h.To != "b" {
				return errors.New("not here")
			}
			return nil
		},
		Deliver: func(c *Conn) { p.got <- c },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); acceptor.Serve(ctx, p.ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *pair) dialer() *Dialer {
	return &Dialer{Identity: p.a, Fingerprint: p.b.Fingerprint(), Host: "b.example", Addresses: []string{p.ln.Addr().String()}}
}

func TestProvenConnection(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain ", plain), func(t *testing.T) {
			p := newPair(t)
			out, err := p.dialer().Dial(t.Context(), Hello{Transfer: "T", From: "a", To: "b", Purpose: PurposeData, Plain: plain})
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			in := <-p.got
			defer in.Close()
			if in.Hello.From != "a" || in.Hello.Purpose != PurposeData {
				t.Errorf("hello %+v", in.Hello)
			}
			if _, isTLS := in.Conn.(*tls.Conn); isTLS == plain {
				t.Errorf("TLS is %v", isTLS)
			}
			if err := out.WriteMessage("hi"); err != nil {
				t.Fatal(err)
			}
			var s string
			if err := in.ReadMessage(&s); err != nil || s != "hi" {
				t.Errorf("%q %v", s, err)
			}
		})
	}
}

func TestNotProven(t *testing.T) {
	p := newPair(t)
	stranger, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		change func(*Dialer, *Hello)
		says   string
	}{
		"a stranger's key":   {func(d *Dialer, h *Hello) { d.Identity = stranger }, "connected"},
		"another peer's key": {func(d *Dialer, h *Hello) { d.Fingerprint = stranger.Fingerprint() }, "not the expected agent"},
		"another transfer":   {func(d *Dialer, h *Hello) { h.Transfer = "U" }, "another transfer"},
		"a false name":       {func(d *Dialer, h *Hello) { h.From = "c" }, "not that of member"},
		"no such member":     {func(d *Dialer, h *Hello) { h.To = "z" }, "not here"},
		"nobody listens":     {func(d *Dialer, h *Hello) { d.Addresses = []string{"127.0.0.1:1"} }, "refused"},
		"no address":         {func(d *Dialer, h *Hello) { d.Addresses = nil }, "no address"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			d, h := p.dialer(), Hello{Transfer: "T", From: "a", To: "b", Purpose: PurposeData}
			c.change(d, &h)
			conn, err := d.Dial(ctx, h)
			if err == nil {
				conn.Close()
				t.Fatal("proven")
			}
			if !errors.Is(err, sdk.ErrUnreachable) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "b.example") {
				t.Errorf("%v; want %q in it", err, c.says)
			}
		})
	}
	select {
	case c := <-p.got:
		t.Errorf("delivered %+v", c.Hello)
	default:
	}
}

// raw connects and says what it is told; it returns what comes back within a
// while.
func (p *pair) raw(t *testing.T, say []byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(say)
	c.SetReadDeadline(time.Now().Add(Handshake + time.Second))
	b, _ := io.ReadAll(c)
	return b
}

func TestStrangersGetNothingAndBlockNobody(t *testing.T) {
	p := newPair(t)
	for i := range 3 * strangerSlots {
		c, err := net.Dial("tcp", p.ln.Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
	}
	if got := p.raw(t, append([]byte(plainMark), make([]byte, tokenLen)...)); len(got) > 0 {
		t.Errorf("a made-up token got %q", got)
	}
	// The strangers' slots are free again after the time of a handshake.
	ctx, cancel := context.WithTimeout(t.Context(), 3*Handshake)
	defer cancel()
	out, err := p.dialer().Dial(ctx, Hello{Transfer: "T", From: "a", To: "b", Purpose: PurposeData})
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	(<-p.got).Close()
}

func TestATokenServesOnce(t *testing.T) {
	a := &Acceptor{}
	token := a.token(Hello{From: "a"})
	use := func() error {
		client, server := net.Pipe()
		defer client.Close()
		go client.Write(append([]byte(plainMark), token...))
		_, err := a.provePlain(server)
		return err
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	if use() == nil {
		t.Error("a token was taken twice")
	}
}

func TestCandidates(t *testing.T) {
	cases := map[string]struct {
		reach Reach
		want  []string
	}{
		"same host":            {Reach{Host: "192.0.2.1", Port: 4400, SameHost: true}, []string{"127.0.0.1:4400", "[::1]:4400"}},
		"configured first":     {Reach{Host: "192.0.2.1", DataAddress: "192.0.2.9", Port: 1, Addresses: []string{"192.0.2.1", "2001:db8::1"}}, []string{"192.0.2.9:1", "192.0.2.1:1", "[2001:db8::1]:1"}},
		"data network, strict": {Reach{Host: "192.0.2.1", Port: 1, Addresses: []string{"192.0.2.1", "198.51.100.7"}, Networks: []string{"198.51.100.0/24"}}, []string{"198.51.100.7:1"}},
		"a user before it":     {Reach{Host: "op@192.0.2.1", Port: 1, Addresses: []string{"192.0.2.5"}}, []string{"192.0.2.1:1", "192.0.2.5:1"}},
		"never oneself":        {Reach{Host: "127.0.0.1", Port: 1, Addresses: []string{"::1", "192.0.2.1"}}, []string{"192.0.2.1:1"}},
		"nonsense":             {Reach{Host: "192.0.2.1", Port: 1, Addresses: []string{"x", "$(id)"}}, []string{"192.0.2.1:1"}},
	}
	for name, c := range cases {
		got := Candidates(t.Context(), c.reach)
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

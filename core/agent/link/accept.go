package link

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Slots for connections whose handshake is not finished. Strangers have few,
// and cannot take those kept for the addresses in the plan.
const (
	strangerSlots = 32
	plannedSlots  = 128
)

// plainMark begins a plain connection; its first byte is none that TLS begins
// with.
const plainMark = "TPY1"

const tokenLen = 32

// Acceptor proves incoming connections and delivers them.
type Acceptor struct {
	Identity *Identity
	Transfer string
	// Fingerprint returns the pinned key of a member; empty if unknown.
	Fingerprint func(member string) string
	// Known reports whether a key is that of any member.
	Known func(fingerprint string) bool
	// Planned reports whether an address belongs to a member's host.
	Planned func(netip.Addr) bool
	// Check refuses a Hello that makes no sense to the members here.
	Check func(Hello) error
	// Deliver takes a proven connection and owns it from then on. It is
	// called from several goroutines.
	Deliver func(*Conn)

	mu     sync.Mutex
	tokens map[string]pendingPlain
}

// pendingPlain is a plain connection that may come.
type pendingPlain struct {
	hello  Hello
	expiry time.Time
}

// Serve accepts until ctx ends or the listener is closed, then waits for the
// handshakes under way. It closes the listener.
func (a *Acceptor) Serve(ctx context.Context, ln net.Listener) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	defer ln.Close()
	strangers, planned := semaphore.NewWeighted(strangerSlots), semaphore.NewWeighted(plannedSlots)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors or a connection that died in the queue:
			// neither ends the listener.
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		slots := strangers
		if ap, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil && a.Planned(ap.Addr().Unmap()) {
			slots = planned
		}
		if !slots.TryAcquire(1) {
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer slots.Release(1)
			a.handle(ctx, conn)
		})
	}
}

func (a *Acceptor) handle(ctx context.Context, raw net.Conn) {
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	raw.SetDeadline(time.Now().Add(Handshake))
	conn, err := a.prove(ctx, raw)
	if err != nil || conn == nil || !stop() {
		raw.Close()
		return
	}
	raw.SetDeadline(time.Time{})
	a.Deliver(conn)
}

// prove makes a Conn of a raw connection, or returns nil when the connection
// only fetched a token.
func (a *Acceptor) prove(ctx context.Context, raw net.Conn) (*Conn, error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(raw, first); err != nil {
		return nil, err
	}
	replay := &prefixed{Conn: raw, prefix: first}
	if first[0] == plainMark[0] {
		return a.provePlain(replay)
	}
	below := &bulk{Conn: replay}
	conn := tls.Server(below, a.Identity.config(a.Known))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	var hello Hello
	if err := readMessage(conn, &hello); err != nil {
		return nil, err
	}
	peer := fingerprint(conn.ConnectionState().PeerCertificates[0])
	if err := a.checkHello(hello, peer); err != nil {
		sendMessage(conn, refusal(err))
		return nil, err
	}
	if hello.Plain {
		return nil, sendMessage(conn, welcome{Token: a.token(hello)})
	}
	if err := sendMessage(conn, welcome{}); err != nil {
		return nil, err
	}
	return newConn(conn, below, hello, raw.RemoteAddr().String()), nil
}

func (a *Acceptor) checkHello(h Hello, fp string) error {
	switch {
	case h.V != helloVersion:
		return errors.New("hello of another version")
	case h.Transfer != a.Transfer:
		return errors.New("hello of another transfer")
	case a.Fingerprint(h.From) != fp:
		return errors.New("the key is not that of member " + h.From)
	}
	return a.Check(h)
}

// token remembers a plain connection that may come, once and soon.
func (a *Acceptor) token(h Hello) []byte {
	token := make([]byte, tokenLen)
	rand.Read(token)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens == nil {
		a.tokens = make(map[string]pendingPlain)
	}
	for k, p := range a.tokens {
		if time.Now().After(p.expiry) {
			delete(a.tokens, k)
		}
	}
	a.tokens[hex.EncodeToString(token)] = pendingPlain{h, time.Now().Add(2 * Handshake)}
	return token
}

func (a *Acceptor) provePlain(raw net.Conn) (*Conn, error) {
	head := make([]byte, len(plainMark)+tokenLen)
	if _, err := io.ReadFull(raw, head); err != nil {
		return nil, err
	}
	key := hex.EncodeToString(head[len(plainMark):])
	a.mu.Lock()
	pending, ok := a.tokens[key]
	delete(a.tokens, key)
	a.mu.Unlock()
	if !ok || string(head[:len(plainMark)]) != plainMark || time.Now().After(pending.expiry) {
		return nil, errors.New("a plain connection without a token")
	}
	return newConn(raw, nil, pending.hello, raw.RemoteAddr().String()), nil
}

// prefixed is a connection whose first bytes were read already.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		p.prefix = p.prefix[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

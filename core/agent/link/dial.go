package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

const (
	connectTimeout = 3 * time.Second
	// stagger is how long a better address is preferred before the next one
	// is tried beside it (RFC 8305 uses the same idea and about this value).
	stagger = 300 * time.Millisecond
	// betweenRounds is the pause after all addresses have failed once.
	betweenRounds = 300 * time.Millisecond
)

// Dialer makes proven connections to one member.
type Dialer struct {
	Identity    *Identity
	Fingerprint string   // the peer's pinned key
	Host        string   // the peer's host as the operator named it, for errors
	Addresses   []string // host:port literals, best first
	// Refused, if not 0, ends the dialling when every address has refused
	// for so long: the listener that was there is gone.
	Refused time.Duration
	// Tried, if set, is told what came of each round of attempts in which no
	// address proved to be the peer, and with nil that one has; of a round that
	// was broken off there is nothing to tell. It is called from the goroutine of
	// Dial, once at least, and must not block for long.
	Tried func([]Attempt)
}

// Dial tries the addresses, again and again, until one proves to be the peer
// or ctx ends. The error tells for each address what came of it. The caller
// closes the Conn.
func (d *Dialer) Dial(ctx context.Context, h Hello) (*Conn, error) {
	h.V = helloVersion
	if len(d.Addresses) == 0 {
		d.tell([]Attempt{})
		return nil, &sdk.Error{Kind: sdk.KindUnreachable, Host: d.Host, Message: "no address of the host can be used for data",
			Hint: "does one of its addresses lie within --data-network?"}
	}
	since := time.Now() // every round since then was refused
	for {
		conn, reasons, refused, final := d.round(ctx, h)
		if conn != nil || final != nil {
			return conn, final
		}
		if !refused {
			since = time.Now()
		}
		failed := &sdk.Error{Kind: sdk.KindUnreachable, Host: d.Host,
			Message: fmt.Sprintf("member %s could not be reached from %s: %s", h.To, h.From, strings.Join(reasons, "; ")),
			Hint:    "open the port between the hosts, or choose the network with --data-network"}
		if d.Refused > 0 && time.Since(since) >= d.Refused {
			failed.Hint = "its agent has died: see the host's log for a kill or a restart"
			return nil, failed
		}
		select {
		case <-ctx.Done():
			return nil, failed
		case <-time.After(betweenRounds):
		}
	}
}

// attempt is what came of one address.
type attempt struct {
	index   int
	conn    *Conn
	reason  string
	refused bool
	final   error // one of finals
	outcome Outcome
}

// round tries each address once, a later one only when the earlier ones have
// failed or have had their head start. It also tells whether all refused, and
// what the peer itself has refused for good.
func (d *Dialer) round(ctx context.Context, h Hello) (conn *Conn, reasons []string, refused bool, final error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan attempt, len(d.Addresses))
	var wg sync.WaitGroup
	defer func() { // what the losers still deliver is closed
		cancel()
		wg.Wait()
		close(results)
		for a := range results {
			if a.conn != nil {
				a.conn.Close()
			}
		}
	}()
	reasons, refused = make([]string, len(d.Addresses)), true
	tried := make([]Attempt, len(d.Addresses))
	started, ended := 0, 0
	start := func() {
		i := started
		started++
		wg.Go(func() {
			conn, err := d.try(ctx, d.Addresses[i], h)
			a := attempt{index: i, conn: conn}
			if err != nil {
				a.reason, a.refused, a.outcome = reason(ctx, err), errors.Is(err, syscall.ECONNREFUSED), outcome(err)
				if errors.Is(err, ErrBypassed) || errors.Is(err, ErrServed) {
					a.final = err
				}
			}
			results <- a
		})
	}
	start()
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	for ended < len(d.Addresses) {
		select {
		case a := <-results:
			ended++
			if a.conn != nil || a.final != nil {
				d.tell(nil)
				return a.conn, nil, false, a.final
			}
			refused = refused && a.refused
			reasons[a.index] = d.Addresses[a.index] + ": " + a.reason
			tried[a.index] = Attempt{Address: d.Addresses[a.index], Outcome: a.outcome}
			if started < len(d.Addresses) {
				start()
			}
		case <-timer.C:
			if started < len(d.Addresses) {
				start()
				timer.Reset(stagger)
			}
		}
	}
	if ctx.Err() != nil { // not for long enough
		tried = []Attempt{}
	}
	d.tell(tried)
	return nil, reasons, refused, nil
}

// tell tells what came of a round.
func (d *Dialer) tell(round []Attempt) {
	if d.Tried == nil {
		return
	}
	for i := range round {
		round[i].Local = Local(round[i].Address)
	}
	d.Tried(round)
}

// try proves one address, and for a plain connection opens that too.
func (d *Dialer) try(ctx context.Context, address string, h Hello) (*Conn, error) {
	dialer := &net.Dialer{Timeout: connectTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, Handshake)
	defer cancel()
	below := &bulk{Conn: raw}
	conn := tls.Client(below, d.Identity.config(func(fp string) bool { return fp == d.Fingerprint }))
	answer, err := d.greet(ctx, conn, h)
	if err != nil {
		raw.Close()
		return nil, err
	}
	if !h.Plain {
		return newConn(conn, below, h, address), nil
	}
	raw.Close()
	plain, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if _, err := plain.Write(append([]byte(plainMark), answer.Token...)); err != nil {
		plain.Close()
		return nil, err
	}
	return newConn(plain, nil, h, address), nil
}

// greet does the TLS handshake and says hello.
func (d *Dialer) greet(ctx context.Context, conn *tls.Conn, h Hello) (welcome, error) {
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { conn.NetConn().Close() })
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		return welcome{}, &silentError{err}
	}
	if err := sendMessage(conn, h); err != nil {
		return welcome{}, &silentError{err}
	}
	var w welcome
	if err := readMessage(conn, &w); err != nil {
		return welcome{}, &silentError{err}
	}
	if final := finals[w.Final]; final != nil {
		return welcome{}, final
	}
	if w.Error != "" {
		return welcome{}, errors.New("refused: " + w.Error)
	}
	if !stop() {
		return welcome{}, ctx.Err()
	}
	conn.SetDeadline(time.Time{})
	return w, nil
}

// silentError is a failure after TCP had connected: the port is open, but no
// agent of this transfer answers there (yet).
type silentError struct{ err error }

func (e *silentError) Error() string { return e.err.Error() }
func (e *silentError) Unwrap() error { return e.err }

// reason says in a few words why an address failed; ctx is what its dialling
// was bounded by.
func reason(ctx context.Context, err error) string {
	var ne net.Error
	var silent *silentError
	timeout := errors.As(err, &ne) && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), context.DeadlineExceeded)
	switch {
	case errors.As(err, &silent) && timeout:
		return "connected, but no answer: the agent there has no plan yet or hangs"
	case errors.As(err, &silent):
		return "connected, but it is not the expected agent: " + err.Error()
	case timeout:
		return "timeout: a firewall drops, or the host is down"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused: a firewall rejects, or nothing listens"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route, or a firewall rejects"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	return err.Error()
}

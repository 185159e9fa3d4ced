package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

func dialError(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }

func TestOutcome(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Outcome
	}{
		{dialError(os.ErrDeadlineExceeded), OutcomeTimeout},
		{dialError(os.NewSyscallError("connect", syscall.ETIMEDOUT)), OutcomeTimeout},
		{dialError(os.NewSyscallError("connect", syscall.ECONNREFUSED)), OutcomeRefused},
		{dialError(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), OutcomeNoRoute},
		{dialError(os.NewSyscallError("connect", syscall.ENETUNREACH)), OutcomeNoRoute},
		{dialError(os.NewSyscallError("connect", syscall.EINVAL)), OutcomeOther},
		{dialError(context.Canceled), OutcomeOther},
		{&silentError{os.ErrDeadlineExceeded}, OutcomeConnected},
		{&silentError{&net.OpError{Op: "read", Err: syscall.ECONNRESET}}, OutcomeConnected},
		{errors.New("refused: no member"), OutcomeConnected},
	} {
		if got := outcome(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

func TestClosed(t *testing.T) {
	for _, c := range []struct {
		round []Outcome
		want  bool
	}{
		{nil, false},
		{[]Outcome{OutcomeTimeout}, true},
		{[]Outcome{OutcomeNoRoute, OutcomeTimeout}, true},
		{[]Outcome{OutcomeOther, OutcomeRefused}, true},
		{[]Outcome{OutcomeOther}, false},
		{[]Outcome{OutcomeTimeout, OutcomeConnected}, false},
	} {
		var round []Attempt
		for _, o := range c.round {
			round = append(round, Attempt{Outcome: o})
		}
		if got := Closed(round); got != c.want {
			t.Errorf("%v: %v, want %v", c.round, got, c.want)
		}
	}
}

// TestTried: what came of each round is told, with the local address, until
// the peer is there; one that connects and says nothing is not closed.
func TestTried(t *testing.T) {
	p := newPair(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := nobody.Addr().String()
	nobody.Close()

	d := p.dialer()
	var mu sync.Mutex
	var told []string
	d.Tried = func(round []Attempt) {
		mu.Lock()
		defer mu.Unlock()
		text := fmt.Sprint(Closed(round))
		for _, a := range round {
			text += fmt.Sprintf(" %s %s", a.Local, a.Outcome)
		}
		told = append(told, text)
	}
	d.Addresses = []string{refusing}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := d.Dial(ctx, Hello{Transfer: "T", From: "a", To: "b"}); err == nil {
		t.Fatal("connected to nobody")
	}
	d.Addresses = []string{refusing, silent.Addr().String()}
	ctx, cancel = context.WithCancel(t.Context())
	note := d.Tried
	d.Tried = func(round []Attempt) { note(round); cancel() } // one round is enough
	if _, err := d.Dial(ctx, Hello{Transfer: "T", From: "a", To: "b"}); err == nil {
		t.Fatal("proved somebody who is silent")
	}
	d.Addresses, d.Tried = []string{p.ln.Addr().String()}, note
	conn, err := d.Dial(t.Context(), Hello{Transfer: "T", From: "a", To: "b"})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	(<-p.got).Close()
	mu.Lock()
	defer mu.Unlock()
	want := []string{"true 127.0.0.1 refused", "false 127.0.0.1 refused 127.0.0.1 connected", "false"}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// TestReasonOfADeadline: that the time for all attempts was over is no other
// reason than that nothing came back.
func TestReasonOfADeadline(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	err := dialError(context.Canceled)
	cancel(context.DeadlineExceeded)
	if got := reason(ctx, err); got != reason(t.Context(), os.ErrDeadlineExceeded) {
		t.Error(got)
	}
	if got := reason(t.Context(), err); got != "cancelled" {
		t.Error(got)
	}
}

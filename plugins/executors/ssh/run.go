package ssh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/transferpy/transferpy/sdk"
)

const (
	// killGrace is how long past its limit the host's own killing is waited
	// for before we kill.
	killGrace = 5 * time.Second
	// killWait bounds the killing itself.
	killWait = 3 * time.Second
	// leftoverWait is how long output is still read after the command has
	// ended, from children that it left behind with its stdout.
	leftoverWait = 2 * time.Second
	// sessionRetry is the pause after a host refused a session that others
	// of ours may have taken.
	sessionRetry = 50 * time.Millisecond

	sigkill = 9
)

// run runs j on one host.
func (p *pool) run(ctx context.Context, host string, j *job) sdk.Result {
	var r sdk.Result
	if p.enter() {
		r = p.try(ctx, host, j)
		p.wg.Done()
	} else {
		r.Err = &sdk.Error{Kind: sdk.KindCancelled, Message: "the executor is closed"}
	}
	r.Host = host
	if r.Err != nil && r.Err.Host == "" {
		e := *r.Err // may be shared by those who waited for the same connection
		e.Host = host
		r.Err = &e
	}
	return r
}

// try gets the host's connection and a session on it, once more where a
// connection of an earlier call turns out to be dead before the command has
// been sent.
func (p *pool) try(ctx context.Context, host string, j *job) sdk.Result {
	h, err := parseHop(host)
	if err != nil {
		return sdk.Result{Err: err}
	}
	for attempt := 0; ; attempt++ {
		c, err := p.get(ctx, h)
		if err != nil {
			return sdk.Result{Err: err}
		}
		ch, reqs, release, err := c.open(ctx, j.timeout+killGrace)
		if err == nil {
			defer release()
			return p.exchange(ctx, c, ch, reqs, j)
		}
		if attempt > 0 || err.Kind != sdk.KindUnreachable {
			return sdk.Result{Err: err}
		}
		c.client.Close()
		select { // so that get does not hand it out again
		case <-c.dead:
		case <-ctx.Done():
			return sdk.Result{Err: cancelled(ctx)}
		}
	}
}

// open waits for a slot and opens a session; KindUnreachable means that the
// connection is no more. release gives the slot back.
func (c *conn) open(ctx context.Context, limit time.Duration) (ssh.Channel, <-chan *ssh.Request, func(), *sdk.Error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	late := func() *sdk.Error {
		if ctx.Err() != nil {
			return cancelled(ctx)
		}
		return &sdk.Error{
			Kind:    sdk.KindTimeout,
			Message: fmt.Sprintf("no session was free within %v", limit),
			Hint:    fmt.Sprintf("at most %d commands run at once on a host, fewer where sshd's MaxSessions is lower", sessionsAtOnce),
		}
	}
	select {
	case c.slots <- struct{}{}:
	case <-limited.Done():
		return nil, nil, nil, late()
	}
	release := func() { <-c.slots }
	for {
		ch, reqs, err := c.session(limited)
		if err == nil {
			return ch, reqs, release, nil
		}
		if limited.Err() != nil {
			release()
			return nil, nil, nil, late()
		}
		var refusal *ssh.OpenChannelError
		if !errors.As(err, &refusal) {
			release()
			return nil, nil, nil, &sdk.Error{Kind: sdk.KindUnreachable, Message: "the connection is gone: " + err.Error()}
		}
		if len(c.slots) == 1 { // ours alone: nobody else will make room
			release()
			return nil, nil, nil, &sdk.Error{
				Kind:    sdk.KindPermission,
				Message: fmt.Sprintf("sshd opens no session: %s", refusal.Error()),
				Hint:    "check MaxSessions and ForceCommand in its sshd_config",
			}
		}
		if !pause(limited) {
			release()
			return nil, nil, nil, late()
		}
	}
}

// pause waits for sessionRetry; false if ctx has ended.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(sessionRetry):
		return true
	case <-ctx.Done():
		return false
	}
}

// session opens a session. On a connection that hangs the opening ends with
// the connection only; so it has a goroutine of its own, which the pool waits
// for, and a session that comes too late is closed there.
func (c *conn) session(ctx context.Context) (ssh.Channel, <-chan *ssh.Request, error) {
	type opened struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	got := make(chan opened)
	c.wg.Go(func() {
		ch, reqs, err := c.client.OpenChannel("session", nil)
		select {
		case got <- opened{ch, reqs, err}:
		case <-ctx.Done():
			if err == nil {
				ch.Close()
				ssh.DiscardRequests(reqs)
			}
		}
	})
	select {
	case o := <-got:
		return o.ch, o.reqs, o.err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// execLine asks the host to hand line to the login shell.
func execLine(ch ssh.Channel, line string) error {
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Line string }{line}))
	if err == nil && !ok {
		err = errors.New("sshd refused to start a command")
	}
	return err
}

// ending is how sshd says that the command ended.
type ending struct {
	known  bool
	code   int
	signal string // without SIG; empty: it exited with code
}

// watch returns the ending once sshd has sent it, or the channel is closed.
func watch(reqs <-chan *ssh.Request) ending {
	for req := range reqs {
		if req.WantReply {
			req.Reply(false, nil)
		}
		switch req.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(req.Payload, &m) == nil {
				return ending{known: true, code: int(m.Status & 0xff)}
			}
		case "exit-signal":
			var m struct {
				Signal     string
				CoreDumped bool
				Error      string
				Lang       string
			}
			if ssh.Unmarshal(req.Payload, &m) == nil {
				return ending{known: true, signal: m.Signal}
			}
		}
	}
	return ending{}
}

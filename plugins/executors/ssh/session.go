package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/transferpy/transferpy/sdk"
)

// session is one command under way on one host.
type session struct {
	j       *job
	c       *conn
	ch      ssh.Channel
	out     *capture
	err     *capture
	ended   chan ending   // gets one
	drained chan struct{} // closed when both streams are at their end
	began   time.Time
}

// exchange sends the command, waits for its end and returns its result. The
// goroutines that feed and drain the session end with the channel, which is
// closed here; the pool waits for them.
func (p *pool) exchange(ctx context.Context, c *conn, ch ssh.Channel, reqs <-chan *ssh.Request, j *job) sdk.Result {
	s := &session{
		j: j, c: c, ch: ch,
		out: newCapture(j.mark), err: newCapture(j.mark),
		ended: make(chan ending, 1), drained: make(chan struct{}),
		began: time.Now(),
	}
	defer ch.Close()
	var streams sync.WaitGroup
	streams.Go(func() { io.Copy(s.out, ch) })
	streams.Go(func() { io.Copy(s.err, ch.Stderr()) })
	p.wg.Go(func() {
		streams.Wait()
		close(s.drained)
	})
	p.wg.Go(func() {
		e := watch(reqs)
		s.ended <- e
		ssh.DiscardRequests(reqs)
	})
	sent := make(chan error, 1)
	p.wg.Go(func() { sent <- s.send() })
	return s.wait(ctx, sent)
}

// send starts the command and feeds it. A command that ends without reading
// its stdin is no failure.
func (s *session) send() error {
	if err := execLine(s.ch, s.j.line); err != nil {
		return err
	}
	if _, err := io.WriteString(s.ch, s.j.script); err == nil {
		s.ch.Write(s.j.stdin)
	}
	s.ch.CloseWrite()
	return nil
}

// wait waits for the first of: the command's end, the caller's, the time
// limit with its grace.
func (s *session) wait(ctx context.Context, sent <-chan error) sdk.Result {
	overdue := time.NewTimer(s.j.timeout + killGrace)
	defer overdue.Stop()
	for {
		select {
		case err := <-sent:
			if err != nil {
				return s.failed(&sdk.Error{Kind: sdk.KindUnreachable, Message: "the command could not be started: " + err.Error()})
			}
			sent = nil
		case e := <-s.ended:
			s.drain()
			return s.result(e)
		case <-ctx.Done():
			s.kill()
			return s.failed(cancelled(ctx))
		case <-overdue.C:
			s.kill()
			return s.failed(&sdk.Error{
				Kind:    sdk.KindTimeout,
				Message: fmt.Sprintf("no end of the command was seen %v after its time limit of %v", killGrace, s.j.timeout),
				Hint:    "the host or the way to it may hang; what was started there may still run",
			})
		}
	}
}

// drain waits for the rest of the output.
func (s *session) drain() {
	select {
	case <-s.drained:
	case <-time.After(leftoverWait):
	}
}

// failed is the result of a command whose end is not known, with what it had
// written.
func (s *session) failed(e *sdk.Error) sdk.Result {
	out, err := s.out.snapshot(), s.err.snapshot()
	e.Stderr = lastBytes(append(err.noise, err.out...))
	return sdk.Result{Stdout: out.out, Stderr: err.out, Truncated: out.cut || err.cut, Err: e}
}

// result turns sshd's word about the end into the command's result.
func (s *session) result(e ending) sdk.Result {
	out, err := s.out.snapshot(), s.err.snapshot()
	if out.pid == 0 {
		return sdk.Result{Err: s.notStarted(e, out, err)}
	}
	r := sdk.Result{ExitCode: e.code, Stdout: out.out, Stderr: err.out, Truncated: out.cut || err.cut}
	if !e.known {
		return s.failed(&sdk.Error{Kind: sdk.KindUnreachable, Message: "the connection was lost while the command ran; its end is not known", Hint: "what was started there goes on until its time limit"})
	}
	if e.signal != "" {
		r.ExitCode = 128 + signalNumbers[e.signal]
	}
	// Through sudo the killing may show as an exit code. A command that is
	// killed by somebody else in the moment of its time limit is taken for
	// one that had reached it.
	if r.ExitCode == 128+sigkill && time.Since(s.began) >= s.j.timeout {
		r.Err = &sdk.Error{
			Kind:    sdk.KindTimeout,
			Message: fmt.Sprintf("the command was killed with its process group at its time limit of %v", s.j.timeout),
			Stderr:  lastBytes(r.Stderr),
		}
	}
	return r
}

// notStarted says why the mark never came.
func (s *session) notStarted(e ending, out, err snapshot) *sdk.Error {
	failure := &sdk.Error{
		Kind:    sdk.KindPermission,
		Message: fmt.Sprintf("the host let us in but did not run the command (exit status %d)", e.code),
		Hint:    "the login shell, a ForceCommand or a missing sh or head may be the reason",
		Stderr:  lastBytes(append(out.noise, err.noise...)),
	}
	noise := string(err.noise)
	switch {
	case !e.known:
		failure.Kind = sdk.KindUnreachable
		failure.Message = "the connection was lost before the command began"
		failure.Hint = "try again; it may have run nevertheless"
	case strings.Contains(noise, s.j.mark+" "+noTimeout):
		failure.Kind = sdk.KindMissingTool
		failure.Message = "the host has no timeout(1)"
		failure.Hint = "install coreutils there"
	case s.j.sudo && strings.Contains(noise, "sudo: a "), s.j.sudo && strings.Contains(noise, "not allowed"):
		failure.Message = "sudo refused to run the command"
		failure.Hint = "allow the login user to run commands without a password (NOPASSWD in sudoers), or log in as root"
	case s.j.sudo && strings.Contains(noise, "sudo") && strings.Contains(noise, "not found"):
		failure.Kind = sdk.KindMissingTool
		failure.Message = "the host has no sudo"
		failure.Hint = "install it there, or log in as root without the option sudo"
	}
	return failure
}

// kill kills the command's process group through a session of its own: sshd
// ignores the signal request for root, and closing a channel kills nothing.
// It is done on a best effort within killWait; the host's own time limit
// stands behind it. The caller's context has ended, so it is not asked.
func (s *session) kill() {
	limit, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	select {
	case <-s.out.started:
	case <-s.drained: // it has ended, or was never begun
		return
	case <-limit.Done():
		return
	}
	select {
	case s.c.kills <- struct{}{}:
		defer func() { <-s.c.kills }()
	case <-limit.Done():
		return
	}
	ch, reqs, err := s.c.session(limit)
	for err != nil { // sshd frees a session some time after its end
		var refusal *ssh.OpenChannelError
		if !errors.As(err, &refusal) || !pause(limit) {
			return
		}
		ch, reqs, err = s.c.session(limit)
	}
	defer ch.Close()
	s.c.wg.Go(func() { ssh.DiscardRequests(reqs) })
	line := s.j.killLine(s.out.snapshot().pid)
	s.c.wg.Go(func() { execLine(ch, line) })
	// Its own session ends with it, and then what it had written is here.
	select {
	case <-s.drained:
	case <-limit.Done():
	}
}

// signalNumbers are the signals that RFC 4254 names; sshd gives no other
// names.
var signalNumbers = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9,
	"USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

func lastBytes(b []byte) string { return string(b[max(0, len(b)-2048):]) }

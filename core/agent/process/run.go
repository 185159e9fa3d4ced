package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Limits bound what Run does.
type Limits struct {
	Output  int           // bytes kept of stdout and of stderr, each; the rest is read and dropped; 0: DefaultOutput
	Timeout time.Duration // for a command that names none; 0: DefaultTimeout
}

// What zero Limits mean.
const (
	DefaultOutput  = 64 << 10
	DefaultTimeout = time.Minute
)

// killGrace is how long a command has to end by itself when it is told to.
const killGrace = 2 * time.Second

// Run runs one command to its end and never longer than its timeout, with
// the working directory / and a minimal environment. A command that cannot
// be found or executed has the exit code 127 or 126, as in a shell, and says
// why on its stderr. At the timeout, and when ctx ends, its process group is
// told to end, killed 2 s later, and Result.Err tells which it was. What a
// command leaves running in the background is let be, but is not waited for
// longer than 2 s, even if it holds the output open.
func Run(ctx context.Context, cmd sdk.Command, limit Limits) sdk.Result {
	if limit.Output <= 0 {
		limit.Output = DefaultOutput
	}
	timeout := cmd.Timeout
	if timeout <= 0 {
		timeout = limit.Timeout
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if err := ctx.Err(); err != nil {
		return sdk.Result{Err: cancelled(cmd)}
	}
	if len(cmd.Argv) == 0 {
		return sdk.Result{Err: &sdk.Error{Kind: sdk.KindConfig, Message: "a command has no arguments"}}
	}
	path, failed := lookUp(string(cmd.Argv[0]))
	if failed != nil {
		return failed.asResult()
	}
	run, err := newRun(path, cmd, limit.Output)
	if err != nil {
		return sdk.Result{Err: sdk.AsError(err)}
	}
	return run.wait(ctx, cmd, timeout)
}

// oneShot is one Run: the child and the three pipes to it.
type oneShot struct {
	child  *child
	stdin  *os.File // nil: /dev/null
	pipes  []*os.File
	outs   [2]*head // stdout, stderr
	copies sync.WaitGroup
	failed *startError
}

// newRun makes the pipes and starts the command. A command that did not
// start is told in failed; the error is for what is no fault of the command.
func newRun(path string, cmd sdk.Command, limit int) (*oneShot, error) {
	r := &oneShot{outs: [2]*head{{limit: limit}, {limit: limit}}}
	ends := make([]*os.File, 0, 3) // the child's
	defer func() {
		for _, f := range ends {
			f.Close()
		}
	}()
	c := &exec.Cmd{Path: path, Args: plain(cmd.Argv), Dir: "/", Env: environ(self())}
	if cmd.Stdin != nil {
		in, out, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		c.Stdin, r.stdin = in, out
		ends, r.pipes = append(ends, in), append(r.pipes, out)
	}
	for _, to := range []*io.Writer{&c.Stdout, &c.Stderr} {
		in, out, err := os.Pipe()
		if err != nil {
			r.close()
			return nil, err
		}
		*to = out
		ends, r.pipes = append(ends, out), append(r.pipes, in)
	}
	var err error
	if r.child, err = start(c); err != nil {
		r.close()
		r.failed = newStartError(string(cmd.Argv[0]), err)
		return r, nil
	}
	r.copy(cmd.Stdin)
	return r, nil
}

// copy starts to feed stdin and to drain stdout and stderr.
func (r *oneShot) copy(stdin []byte) {
	if r.stdin != nil {
		r.copies.Go(func() {
			r.stdin.Write(stdin) // a command need not read it all
			r.stdin.Close()
		})
	}
	for i, pipe := range r.pipes[len(r.pipes)-2:] {
		r.copies.Go(func() { io.Copy(r.outs[i], pipe) })
	}
}

func (r *oneShot) close() {
	for _, f := range r.pipes {
		f.Close()
	}
}

// wait returns when the command has ended and its output is here.
func (r *oneShot) wait(ctx context.Context, cmd sdk.Command, timeout time.Duration) sdk.Result {
	if r.failed != nil {
		return r.failed.asResult()
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var why *sdk.Error
	select {
	case <-r.child.exited:
	case <-timer.C:
		why = &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("%s: did not end within %v and was killed", sdk.Raw(cmd.Argv[0]).Display(), timeout)}
	case <-ctx.Done():
		why = cancelled(cmd)
	}
	if why != nil {
		r.child.end(context.WithoutCancel(ctx), syscall.SIGTERM, killGrace)
		r.child.vanished(leftoverGrace)
	}
	r.drain()
	r.child.release()
	<-r.child.reaped

	return sdk.Result{
		ExitCode:  exitCode(r.child.state),
		Stdout:    r.outs[0].kept,
		Stderr:    r.outs[1].kept,
		Truncated: r.outs[0].cut || r.outs[1].cut,
		Err:       why,
	}
}

// drain waits for the end of the outputs, but not long: a process that was
// left in the background may hold them open for ever.
func (r *oneShot) drain() {
	timer := time.AfterFunc(leftoverGrace, r.close)
	r.copies.Wait()
	timer.Stop()
	r.close()
}

func cancelled(cmd sdk.Command) *sdk.Error {
	name := ""
	if len(cmd.Argv) > 0 {
		name = cmd.Argv[0].Display() + ": "
	}
	return &sdk.Error{Kind: sdk.KindCancelled, Message: name + "was stopped before its end"}
}

// asResult is a command that did not start, as a shell would tell it.
func (e *startError) asResult() sdk.Result {
	return sdk.Result{ExitCode: e.code, Stderr: []byte("transferpy-agent: " + e.Error() + "\n")}
}

// head keeps the beginning of what is written to it.
type head struct {
	limit int
	kept  []byte
	cut   bool
}

func (h *head) Write(p []byte) (int, error) {
	room := h.limit - len(h.kept)
	h.kept = append(h.kept, p[:min(room, len(p))]...)
	h.cut = h.cut || len(p) > room
	return len(p), nil
}

func plain(argv []sdk.Raw) []string {
	list := make([]string, len(argv))
	for i, arg := range argv {
		list[i] = string(arg)
	}
	return list
}

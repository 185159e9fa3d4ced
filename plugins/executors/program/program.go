// Package program runs the program of a site's backend (cumin, salt, ssh) on
// this machine: in a process group that ends with its context, with bounded
// output, and with its output line by line where somebody waits for it.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// leftoverWait is how long output is still read after the program has ended
// or was killed, from children that it left behind.
const leftoverWait = 2 * time.Second

// Program is what to run. It is not changed by Run and may be used by
// several goroutines at once.
type Program struct {
	Argv      []string // Argv[0] is looked up in PATH
	Env       []string // the whole environment
	Stdin     []byte   // nil: /dev/null
	MaxOutput int      // bytes of stdout and of stderr that are kept; what comes after is read and dropped

	// Line, if set, gets each line of stdout with its end as it comes, one
	// at a time, before Run returns; the last one may lack its end. A line
	// longer than MaxOutput comes cut. Nothing is kept in Output.Stdout then.
	Line func(line []byte)
}

// Output is what a program has left.
type Output struct {
	Stdout, Stderr []byte
	Cut            bool // there was more than MaxOutput
	ExitCode       int  // 128+n for signal n
}

// Run runs the program until it ends, or until ctx does: then its process
// group gets SIGKILL. A program that ends non-zero is no error. The error is
// an *sdk.Error: KindMissingTool if there is no such program, KindTimeout or
// KindCancelled if ctx ended first, with what there was by then in Output.
func (p Program) Run(ctx context.Context) (Output, error) {
	stdout, stderr := &capped{max: p.MaxOutput}, &capped{max: p.MaxOutput}
	c := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	c.Env = p.Env
	c.Dir = "/" // so that no file system stays busy on our account
	c.Stdout, c.Stderr = stdout, stderr
	var lines *splitter
	if p.Line != nil {
		lines = &splitter{max: p.MaxOutput, line: p.Line}
		c.Stdout = lines
	}
	if p.Stdin != nil {
		c.Stdin = bytes.NewReader(p.Stdin)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = leftoverWait
	if err := c.Start(); err != nil {
		return Output{}, startError(p.Argv[0], err)
	}
	err := c.Wait()
	if lines != nil {
		lines.end()
	}
	out := Output{Stdout: stdout.bytes(), Stderr: stderr.bytes(), Cut: stdout.cut || stderr.cut || lines != nil && lines.cut, ExitCode: exitCode(c)}
	if ctx.Err() != nil {
		return out, ended(ctx, p.Argv[0], out)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return out, &sdk.Error{Kind: sdk.KindInternal, Message: fmt.Sprintf("%s: %v", p.Argv[0], err)}
	}
	return out, nil
}

func startError(name string, err error) *sdk.Error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, syscall.ENOENT) {
		return &sdk.Error{Kind: sdk.KindMissingTool, Message: name + " is not installed on this machine", Hint: "run transferpy where it is, or name its file in the configuration"}
	}
	e := &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("%s could not be started: %v", name, err)}
	if errors.Is(err, syscall.E2BIG) {
		e.Kind, e.Hint = sdk.KindUnsupported, "name fewer hosts in one call, or a shorter command"
	}
	return e
}

// ended says why the program was killed.
func ended(ctx context.Context, name string, out Output) *sdk.Error {
	e := &sdk.Error{
		Kind: sdk.KindTimeout, Message: name + " did not end in time and was killed", Stderr: Tail(out.Stderr),
		Hint: "what it had started on hosts goes on until its own time limit",
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		e.Kind, e.Message = sdk.KindCancelled, name+" was stopped"
	}
	return e
}

// exitCode is how the program ended, as a shell would call it.
func exitCode(c *exec.Cmd) int {
	if c.ProcessState == nil {
		return -1
	}
	if s, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return c.ProcessState.ExitCode()
}

// Tail returns the last 2 KiB of what a program said.
func Tail(b []byte) string {
	const most = 2 << 10
	b = bytes.TrimSpace(b)
	return string(b[max(0, len(b)-most):])
}

// capped keeps the first max bytes written to it. Only the copying goroutine
// of exec writes, and it has ended, or was given up, when bytes is called;
// hence the lock.
type capped struct {
	max int

	mu  sync.Mutex
	buf []byte
	cut bool
}

var _ io.Writer = (*capped)(nil)

func (c *capped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := min(c.max-len(c.buf), len(p))
	c.buf = append(c.buf, p[:room]...)
	c.cut = c.cut || room < len(p)
	return len(p), nil
}

func (c *capped) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.buf)
}

// splitter hands on whole lines.
type splitter struct {
	max  int
	line func([]byte)

	mu      sync.Mutex
	buf     []byte
	cut     bool
	stopped bool
}

func (s *splitter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(p)
	for len(p) > 0 && !s.stopped {
		i := bytes.IndexByte(p, '\n')
		part := p[:i+1]
		if i < 0 {
			part = p
		}
		p = p[len(part):]
		room := min(s.max-len(s.buf), len(part))
		s.buf = append(s.buf, part[:room]...)
		s.cut = s.cut || room < len(part)
		if i >= 0 {
			s.line(s.buf)
			s.buf = nil
		}
	}
	return n, nil
}

// end hands on the last line; what comes after is dropped.
func (s *splitter) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if len(s.buf) > 0 {
		s.line(s.buf)
		s.buf = nil
	}
}

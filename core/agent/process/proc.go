package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
)

// pipeSize is what the kernel buffers between a command and the agent: at
// 64 KiB, its default, a fast command waits for a switch of context with
// every few frames.
const pipeSize = 1 << 20

// defaultStopAfter is how long a command may take to end by its StopSignal.
const defaultStopAfter = 5 * time.Second

// stagingWord is what stands for the staging directory.
const stagingWord = "{staging}"

// Proc is a running command of the data plane. Whoever started it calls Wait
// or Stop in the end, or both; only then is everything of it gone.
type Proc struct {
	child   *child
	name    string
	data    *os.File // the agent's end of stdout or of stdin
	stderr  *os.File
	tail    *tail
	success success
	signal  syscall.Signal
	after   time.Duration

	drained chan struct{} // the goroutine that reads stderr has ended
	unhook  func()        // detaches from ctx and waits for its Stop, if that runs
	finish  func() bool   // once: reports whether leftovers had to be killed
	stopped sync.Once
	asked   chan struct{} // closed by Stop: what happens then is no failure of the command
}

// StartSource starts a command whose stdout is the data, with its stdin
// empty. {staging} in its arguments and directory stands for staging. When
// ctx ends, the command is stopped as by Stop. Its stderr goes, redacted and
// line by line, to log too, unless that is nil; the caller closes it when
// nothing of the command is left.
func StartSource(ctx context.Context, c sdk.StageCommand, staging string, log io.Writer) (*Proc, error) {
	return startProc(ctx, c, staging, log, func(cmd *exec.Cmd) (mine, theirs *os.File, err error) {
		mine, theirs, err = os.Pipe()
		cmd.Stdout = theirs
		return mine, theirs, err
	})
}

// StartSink starts a command whose stdin is the data; its stdout is thrown
// away. Else as StartSource.
func StartSink(ctx context.Context, c sdk.StageCommand, staging string, log io.Writer) (*Proc, error) {
	return startProc(ctx, c, staging, log, func(cmd *exec.Cmd) (mine, theirs *os.File, err error) {
		theirs, mine, err = os.Pipe()
		cmd.Stdin = theirs
		return mine, theirs, err
	})
}

// startProc starts c with the pipe that wire makes.
func startProc(ctx context.Context, c sdk.StageCommand, staging string, log io.Writer, wire func(*exec.Cmd) (mine, theirs *os.File, err error)) (*Proc, error) {
	p, err := newProc(c)
	if err != nil {
		return nil, err
	}
	p.tail.log = log
	cmd, err := command(ctx, c, staging)
	if err != nil {
		return nil, err
	}
	data, theirs, err := wire(cmd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	defer theirs.Close()
	stderr, theirStderr, err := os.Pipe()
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	defer theirStderr.Close()
	cmd.Stderr = theirStderr
	growPipe(data)

	if p.child, err = start(cmd); err != nil {
		data.Close()
		stderr.Close()
		return nil, newStartError(string(c.Argv[0]), err).asError()
	}
	p.data, p.stderr = data, stderr
	p.watch(ctx)
	return p, nil
}

// newProc checks and compiles what a StageCommand says in words.
func newProc(c sdk.StageCommand) (*Proc, error) {
	if len(c.Argv) == 0 {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: "a command has no arguments"}
	}
	p := &Proc{
		name:    c.Argv[0].Display(),
		after:   c.StopAfter,
		drained: make(chan struct{}),
		asked:   make(chan struct{}),
	}
	if p.after <= 0 {
		p.after = defaultStopAfter
	}
	var err error
	if p.signal, err = stopSignal(c.StopSignal); err != nil {
		return nil, err
	}
	if p.success, err = newSuccess(c.Success); err != nil {
		return nil, err
	}
	if p.tail, err = newTail(c.Redact, c.Progress); err != nil {
		return nil, err
	}
	return p, nil
}

// command is c as package exec wants it, without its pipes.
func command(ctx context.Context, c sdk.StageCommand, staging string) (*exec.Cmd, error) {
	who, err := accountOf(ctx, c.User)
	if err != nil {
		return nil, err
	}
	path, failed := lookUp(string(c.Argv[0]))
	if failed != nil {
		return nil, failed.asError()
	}
	cmd := &exec.Cmd{Path: path, Args: plain(c.Argv), Dir: "/", Env: environ(who)}
	for i, arg := range cmd.Args {
		cmd.Args[i] = strings.ReplaceAll(arg, stagingWord, staging)
	}
	if c.Dir != "" {
		cmd.Dir = strings.ReplaceAll(string(c.Dir), stagingWord, staging)
	}
	// As the command's own user it may not be able to enter the directory;
	// exec would then blame the program.
	if info, err := os.Stat(cmd.Dir); err != nil || !info.IsDir() {
		return nil, &sdk.Error{Kind: sdk.KindNotFound, Message: fmt.Sprintf("%s: its working directory %s is not there", c.Argv[0].Display(), sdk.Raw(cmd.Dir).Display())}
	}
	for _, setting := range c.Env {
		cmd.Env = append(cmd.Env, string(setting)) // of doubles, the last counts
	}
	if who.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who.cred}
	}
	return cmd, nil
}

// watch starts what goes with a running command: the reader of its stderr,
// and the hook that stops it when ctx ends.
func (p *Proc) watch(ctx context.Context) {
	go func() {
		defer close(p.drained)
		io.Copy(p.tail, p.stderr)
		p.tail.flush()
	}()
	hooked := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(hooked)
		p.interrupt(context.WithoutCancel(ctx))
	})
	p.unhook = sync.OnceFunc(func() {
		if !unhook() {
			<-hooked
		}
	})
	p.finish = sync.OnceValue(p.reap)
}

// Stdout is the data of a source. It ends when the command, and all that it
// started, have closed it; only Wait tells whether it is complete.
func (p *Proc) Stdout() io.Reader { return p.data }

// Stdin takes the data of a sink; closing it says that the data is complete.
func (p *Proc) Stdin() io.WriteCloser { return p.data }

// Tail is the last lines of stderr, redacted.
func (p *Proc) Tail() string { return p.tail.text() }

// Progress is the last line of stderr that matched the progress pattern,
// redacted; empty before the first.
func (p *Proc) Progress() string { return p.tail.lastProgress() }

// Wait waits for the end of the command, and returns nil only if it did its
// work by its success rule: a source only after its Stdout has been read to
// the end, a sink only after its Stdin has been closed. It has no deadline
// but the ctx that the command was started with.
func (p *Proc) Wait() error {
	<-p.child.exited
	leftovers := p.finish()
	select {
	case <-p.asked:
		return p.failure(sdk.KindCancelled, "was stopped before its end")
	default:
	}
	if reason := p.success.unmet(exitCode(p.child.state), p.tail); reason != "" {
		return p.failure(sdk.KindCrashed, reason)
	}
	if leftovers {
		return p.failure(sdk.KindCrashed, "ended, but what it had started went on and was killed; what it did may be incomplete")
	}
	return nil
}

// Stop ends the command: StopSignal to its process group, KILL after
// StopAfter or when ctx ends. It returns when nothing of it is left; the
// agent's end of its pipe is closed then.
func (p *Proc) Stop(ctx context.Context) {
	p.interrupt(ctx)
	p.finish()
}

// interrupt ends the leader and kills the group.
func (p *Proc) interrupt(ctx context.Context) {
	select {
	case <-p.child.exited:
		// What it started may go on, and the reader of Stdout with it.
		p.child.signal(syscall.SIGKILL)
	default:
		p.stopped.Do(func() { close(p.asked) })
		p.child.end(ctx, p.signal, p.after)
	}
	// A process that left the group can still hold the other end.
	p.data.Close()
}

// reap runs once, when the leader has ended: it sees to it that nothing is
// left of the group and of the goroutines.
func (p *Proc) reap() (leftovers bool) {
	leftovers = p.child.settle()
	timer := time.AfterFunc(leftoverGrace, func() { p.stderr.Close() })
	<-p.drained
	timer.Stop()
	p.stderr.Close()
	p.data.Close()
	p.unhook()
	p.child.release()
	<-p.child.reaped
	return leftovers
}

func (p *Proc) failure(kind sdk.ErrorKind, reason string) *sdk.Error {
	return &sdk.Error{Kind: kind, Message: p.name + ": " + reason, Stderr: p.Tail()}
}

// stopSignal translates the names that a StageCommand may use.
func stopSignal(name string) (syscall.Signal, error) {
	if name == "" {
		return syscall.SIGTERM, nil
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
	if sig == 0 {
		return 0, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("there is no signal %q", name), Hint: "use INT, TERM, QUIT, HUP or KILL"}
	}
	return sig, nil
}

// growPipe asks for a larger pipe. Not getting it costs speed only.
func growPipe(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
}

// success is a compiled sdk.Success.
type success struct {
	codes    []int
	lastLine *regexp.Regexp
	empty    bool
}

func newSuccess(rule sdk.Success) (success, error) {
	s := success{codes: rule.ExitCodes, empty: rule.EmptyStderr}
	if len(s.codes) == 0 {
		s.codes = []int{0}
	}
	if rule.LastStderrLine != "" {
		var err error
		if s.lastLine, err = regexp.Compile(rule.LastStderrLine); err != nil {
			return s, badPattern("last_stderr_line", err)
		}
	}
	return s, nil
}

// unmet says which part of the rule does not hold; empty if all do.
func (s success) unmet(code int, stderr *tail) string {
	last, any := stderr.last()
	switch {
	case !slices.Contains(s.codes, code) && code > 128:
		return fmt.Sprintf("was ended by signal %d (%v)", code-128, syscall.Signal(code-128))
	case !slices.Contains(s.codes, code):
		return fmt.Sprintf("ended with exit code %d", code)
	case s.empty && any:
		return "wrote to its stderr, which must stay empty"
	case s.lastLine != nil && !s.lastLine.MatchString(last):
		return fmt.Sprintf("the last line on its stderr does not match %q", s.lastLine)
	}
	return ""
}

func badPattern(what string, err error) error {
	return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%s is no regular expression: %v", what, err)}
}

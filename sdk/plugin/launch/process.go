package launch

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

// basicEnvironment are the variables that reach every plugin. All others it
// has to name in Describe.
var basicEnvironment = []string{"PATH", "HOME", "USER", "LOGNAME"}

// process is the operating system's side of a plugin: it implements
// go-plugin's runner.Runner.
type process struct {
	prog  Program
	debug bool
	tail  *tail

	cmd            *exec.Cmd
	stdout, stderr *os.File       // our ends
	lines          *io.PipeReader // redacted stderr, for go-plugin
	feed           *io.PipeWriter
	lifeline       *os.File // held open as long as the plugin may live
	started        atomic.Int64

	exited chan struct{} // closed when the process has ended and was waited for
	state  *os.ProcessState
	stop   atomic.Bool

	mu     sync.Mutex
	reaped bool       // its number may be another's
	barred bool       // it is to be killed, started or not
	hung   *sdk.Error // why it was killed, if it hung
}

func newProcess(prog Program, opt Options) *process {
	return &process{prog: prog, debug: opt.Debug, tail: newTail(), exited: make(chan struct{})}
}

// prepare takes over what go-plugin put into the environment of cmd.
func (p *process) prepare(cmd *exec.Cmd) {
	p.cmd = cmd
	cmd.Path = p.prog.Path
	if p.prog.Exec != "" {
		cmd.Path = p.prog.Exec
	}
	cmd.Args = append([]string{p.prog.Path}, p.prog.Args...)
	cmd.Err = nil
	cmd.Stdin = nil // /dev/null, not our terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, name := range basicEnvironment {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	level := "info"
	if p.debug {
		level = "debug"
	}
	cmd.Env = append(cmd.Env, wire.LifelineEnv+"=3", wire.LogLevelEnv+"="+level)
}

// Start implements runner.Runner.
func (p *process) Start(context.Context) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		closeAll(outR, outW)
		return err
	}
	lifeR, lifeW, err := os.Pipe()
	if err != nil {
		closeAll(outR, outW, errR, errW)
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = outW, errW
	p.cmd.ExtraFiles = []*os.File{lifeR} // descriptor 3
	if p.prog.File != nil {
		// By descriptor 4, so that what was checked is what is run; a script
		// works as well, since its interpreter inherits the descriptor.
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, p.prog.File)
		p.cmd.Path = "/proc/self/fd/4"
	}
	err = p.cmd.Start()
	closeAll(outW, errW, lifeR)
	if err != nil {
		closeAll(outR, errR, lifeW)
		return err
	}
	p.stdout, p.stderr, p.lifeline = outR, errR, lifeW
	p.lines, p.feed = io.Pipe()
	p.mu.Lock()
	p.started.Store(int64(p.cmd.Process.Pid))
	barred := p.barred
	p.mu.Unlock()
	go p.read()
	go p.wait()
	if barred {
		p.kill()
	}
	return nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// read hands the plugin's stderr on, line by line, redacted and remembered.
// It ends with the pipe, which wait closes.
func (p *process) read() {
	p.tail.copy(p.feed, p.stderr)
	p.feed.Close()
}

// drain is how long the output of a process that ended is still read, where
// a child of it holds the pipe open.
const drain = 300 * time.Millisecond

// wait waits for the process, then ends its group and its pipes.
func (p *process) wait() {
	// Not reaped yet, the process keeps its number, and its group's, from
	// becoming another's: so the children that it left behind can be killed.
	for unix.Waitid(unix.P_PID, p.pid(), nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	p.kill()
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	p.cmd.Wait() // the state tells all
	p.state = p.cmd.ProcessState
	select {
	case <-p.tail.done:
	case <-time.After(drain):
	}
	close(p.exited)
	closeAll(p.stdout, p.stderr, p.lifeline)
	p.feed.Close()
}

func (p *process) pid() int { return int(p.started.Load()) }

// kill ends the process group at once; nothing happens when it is gone.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pid := p.pid(); pid != 0 && !p.reaped {
		syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// forbid kills the process, also one that is about to be started.
func (p *process) forbid() {
	p.mu.Lock()
	p.barred = true
	p.mu.Unlock()
	p.kill()
}

// stopping marks the end of the process as wanted.
func (p *process) stopping() { p.stop.Store(true) }

// waitExit waits until the process has ended, for at most d.
func (p *process) waitExit(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
		return false
	}
}

// Stdout implements runner.Runner, as all methods below do.
func (p *process) Stdout() io.ReadCloser { return quietEnd{p.stdout} }

// quietEnd is a file whose being closed is its end and no error.
type quietEnd struct{ *os.File }

// Read implements io.Reader.
func (q quietEnd) Read(b []byte) (int, error) {
	n, err := q.File.Read(b)
	if errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Stderr gives the redacted lines.
func (p *process) Stderr() io.ReadCloser { return p.lines }

// Name is for go-plugin's log lines.
func (p *process) Name() string { return strings.ReplaceAll(p.prog.Title, "/", "-") }

// ID is the process id; empty before it was started.
func (p *process) ID() string {
	if p.pid() == 0 {
		return ""
	}
	return strconv.Itoa(p.pid())
}

// Wait returns when the process has ended.
func (p *process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !p.state.Success() && !p.stop.Load() {
		return errors.New(p.state.String())
	}
	return nil
}

// Kill ends the process group and waits for it.
func (p *process) Kill(context.Context) error {
	p.kill()
	p.waitExit(time.Second)
	return nil
}

// Diagnose adds nothing: startError says what there is to say.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost changes nothing: the plugin runs in our own namespaces.
func (p *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin changes nothing.
func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

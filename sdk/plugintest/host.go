package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Host plays the hosts of a transfer on this machine: commands are really
// run, each in a process group of its own, as the user of the test. Undos are
// kept and run by Undo. Its methods may be called at once.
type Host struct {
	// Via, if set, gives the command of this machine that runs cmd on a host:
	// the same behind nsenter, where hosts have namespaces of their own. It is
	// set before the first use.
	Via func(host string, cmd sdk.Command) sdk.Command

	hosts []string

	mu    sync.Mutex
	undos []Deferred
	calls int
}

// Deferred is an undo that was handed to Change.
type Deferred struct {
	Host string
	Undo sdk.Undo
}

// NewHost makes a Host that answers for these names and no others.
func NewHost(hosts ...string) *Host { return &Host{hosts: hosts} }

// Run implements sdk.Host.
func (h *Host) Run(ctx context.Context, work []sdk.HostCommands) ([]sdk.HostResults, error) {
	h.count()
	results := make([]sdk.HostResults, len(work))
	for i, w := range work {
		results[i] = h.carryOut(ctx, w.Host, w.Commands, false)
	}
	return results, nil
}

// Change implements sdk.Host. An undo without commands, id or words is
// refused, as is one with an unknown moment.
func (h *Host) Change(ctx context.Context, work []sdk.HostChange) ([]sdk.HostResults, error) {
	h.count()
	for _, w := range work {
		if err := checkUndo(w.Undo); err != nil {
			return nil, &sdk.Error{Kind: sdk.KindInternal, Host: w.Host, Message: "Change: " + err.Error()}
		}
	}
	h.mu.Lock()
	for _, w := range work {
		d := Deferred{Host: w.Host, Undo: w.Undo}
		if !slices.ContainsFunc(h.undos, func(o Deferred) bool { return o.Host == d.Host && o.Undo.ID == d.Undo.ID }) {
			h.undos = append(h.undos, d)
		}
	}
	h.mu.Unlock()
	results := make([]sdk.HostResults, len(work))
	for i, w := range work {
		results[i] = h.carryOut(ctx, w.Host, w.Commands, true)
	}
	return results, nil
}

func checkUndo(u sdk.Undo) error {
	switch {
	case u.ID == "":
		return errors.New("the undo has no id")
	case u.What == "":
		return errors.New("the undo does not say in words what it is")
	case u.When != sdk.WhenSourceDone && u.When != sdk.WhenEnd:
		return fmt.Errorf("the undo is due at the unknown moment %q", u.When)
	case len(u.Commands) == 0:
		return errors.New("the undo has no commands")
	}
	return nil
}

func (h *Host) count() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
}

// Calls is how often Run or Change was called.
func (h *Host) Calls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

// Deferred gives the undos that were handed over, first in first.
func (h *Host) Deferred() []Deferred {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.undos)
}

// Undo runs the undos that are due at a moment, last in first out, each of
// them twice, and forgets them. Every command must succeed both times.
func (h *Host) Undo(t *testing.T, when sdk.When) {
	t.Helper()
	h.mu.Lock()
	var due []Deferred
	for _, d := range h.undos {
		if d.Undo.When == when {
			due = append(due, d)
		}
	}
	h.undos = slices.DeleteFunc(h.undos, func(d Deferred) bool { return d.Undo.When == when })
	h.mu.Unlock()
	slices.Reverse(due)
	for _, d := range due {
		for _, time := range []string{"first", "second"} {
			for _, c := range d.Undo.Commands {
				r := h.on(context.WithoutCancel(t.Context()), d.Host, c)
				if r.Err != nil || r.ExitCode != 0 {
					t.Errorf("undo %s (%s) fails when it runs for the %s time: %q: exit code %d, error %v\n%s",
						d.Undo.ID, d.Undo.What, time, c.Argv, r.ExitCode, r.Err, r.Stderr)
				}
			}
		}
	}
}

// carryOut runs the commands for one host; stop ends at the first that fails.
func (h *Host) carryOut(ctx context.Context, host string, commands []sdk.Command, stop bool) sdk.HostResults {
	out := sdk.HostResults{Host: host}
	if !slices.Contains(h.hosts, host) {
		out.Err = &sdk.Error{Kind: sdk.KindNotFound, Host: host, Message: "this is no host of the transfer"}
		return out
	}
	for _, c := range commands {
		r := h.on(ctx, host, c)
		r.Host = host
		out.Results = append(out.Results, r)
		if stop && (r.Err != nil || r.ExitCode != 0) {
			break
		}
	}
	return out
}

// on runs one command on a host.
func (h *Host) on(ctx context.Context, host string, c sdk.Command) sdk.Result {
	if h.Via != nil {
		c = h.Via(host, c)
	}
	return runHere(ctx, c)
}

// maxHere bounds the output of a command of Host.
const maxHere = 256 << 10

// runHere runs one command on this machine.
func runHere(ctx context.Context, c sdk.Command) sdk.Result {
	if len(c.Argv) == 0 {
		return sdk.Result{Err: &sdk.Error{Kind: sdk.KindConfig, Message: "a command without arguments"}}
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, string(c.Argv[0]))
	cmd.Args = make([]string, len(c.Argv))
	for i, a := range c.Argv {
		cmd.Args[i] = string(a)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := sdk.Result{Stdout: cut(&stdout), Stderr: cut(&stderr), Truncated: stdout.Len() > maxHere || stderr.Len() > maxHere}
	switch {
	case ctx.Err() != nil:
		r.Err = &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("%q took longer than %v", c.Argv, timeout)}
	case cmd.ProcessState == nil && errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		r.ExitCode = 127
	case cmd.ProcessState == nil:
		r.Err = &sdk.Error{Kind: sdk.KindPermission, Message: err.Error()}
	default:
		r.ExitCode = cmd.ProcessState.ExitCode()
		if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			r.ExitCode = 128 + int(s.Signal())
		}
	}
	return r
}

func cut(b *bytes.Buffer) []byte { return b.Bytes()[:min(b.Len(), maxHere)] }

// Answer answers questions as a host's agent would, on this machine.
func Answer(ctx context.Context, questions []sdk.HostQuestions) []sdk.Answers {
	answers := make([]sdk.Answers, len(questions))
	for i, q := range questions {
		a := sdk.Answers{Host: q.Host, Paths: map[string]sdk.PathFacts{}, Commands: map[string]sdk.Result{}}
		for _, p := range q.Paths {
			a.Paths[p.ID] = facts(p)
		}
		for _, c := range q.Commands {
			r := runHere(ctx, c.Command)
			r.Host = q.Host
			a.Commands[c.ID] = r
		}
		answers[i] = a
	}
	return answers
}

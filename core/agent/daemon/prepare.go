package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/facts"
	"github.com/transferpy/transferpy/sdk"
)

// readyFor is how long an agent may take to be ready.
const readyFor = 20 * time.Second

// prepare makes an agent and returns when it is ready. A repeat of the same
// call finds the agent that the first one made.
func prepare(ctx context.Context, state *state, q *control.Request) (*control.Reply, error) {
	state.sweepMessages()
	state.sweepResults(time.Now())
	ctx, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	lock, err := lockTransfer(ctx, state, q.Transfer)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if a, err := prepared(state, q); a != nil || err != nil {
		return one(a), err
	}
	var kept []string
	if q.Prepare.Resume != "" {
		if kept, err = putAside(ctx, state, q.Transfer); err != nil {
			return nil, err
		}
	}
	id := control.NewID()
	host, err := facts.Host(state.path)
	if err != nil {
		return nil, fmt.Errorf("facts of the host: %w", err)
	}
	if on := q.Prepare.NiceOn; len(on) > 0 && !slices.Contains(on, host.Instance) {
		q.Prepare.Nice = 0
	}
	ready, err := spawn(ctx, &serveConfig{
		V: control.Version, StateDir: state.path, Transfer: q.Transfer, Agent: id,
		Call: q.Call, Generation: q.Generation, Prepare: *q.Prepare, Kept: kept,
	})
	if err != nil {
		os.Remove(state.transferDir(q.Transfer)) // fails unless it is empty
		return nil, err
	}
	return one(&control.Answer{Agent: id, Ready: ready}), nil
}

func one(a *control.Answer) *control.Reply {
	reply := &control.Reply{Agents: []control.Answer{}}
	if a != nil {
		reply.Agents = append(reply.Agents, *a)
	}
	return reply
}

// prepared looks for the agent of an earlier call with the same id.
func prepared(state *state, q *control.Request) (*control.Answer, error) {
	dirs, err := listAgents(state, q.Transfer)
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		i, err := d.readInfo()
		if err != nil || i.Call != q.Call {
			continue
		}
		if d.look() == dead {
			return gone(d), nil
		}
		return &control.Answer{Agent: d.id, Ready: i.Ready}, nil
	}
	return nil, nil
}

// serveConfig is what prepare tells the process that it starts.
type serveConfig struct {
	V          int             `json:"v"`
	StateDir   string          `json:"state_dir"`
	Transfer   string          `json:"transfer"`
	Agent      string          `json:"agent"`
	Call       string          `json:"call"`
	Generation uint64          `json:"generation"`
	Prepare    control.Prepare `json:"prepare"`
	Kept       []string        `json:"kept,omitempty"` // directories of earlier agents, the newest first
}

func (c *serveConfig) dir() agentDir {
	return agentDir{id: c.Agent, path: filepath.Join(c.StateDir, runDir, c.Transfer, c.Agent)}
}

// served is what that process answers when it is ready, or not going to be.
type served struct {
	Ready *control.Ready `json:"ready,omitempty"`
	Error *sdk.Error     `json:"error,omitempty"`
}

// readyFD is the descriptor on which the new process answers.
const readyFD = 3

// spawn starts the long-lived process, detached from everything that belongs
// to the session of this one, and waits until it is ready.
func spawn(ctx context.Context, config *serveConfig) (*control.Ready, error) {
	input, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	defer out.Close()
	detach()
	cmd := &exec.Cmd{
		Path:        program(),
		Args:        []string{"transferpy-agent", serveVerb},
		Dir:         "/",
		Env:         serveEnviron(),
		Stdin:       bytes.NewReader(input),
		ExtraFiles:  []*os.File{out}, // readyFD
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := startNice(cmd, config.Prepare.Nice); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	out.Close()
	answer, err := awaitReady(ctx, in)
	if err == nil && answer.Error != nil {
		err = answer.Error
	}
	if err != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it is ours and not reaped
		cmd.Wait()
		config.dir().discard()
		return nil, err
	}
	return answer.Ready, cmd.Process.Release()
}

// program is this program, under its own name where it still has one: that is
// what ps shows.
func program() string {
	const self = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return self
	}
	a, err1 := os.Stat(self)
	b, err2 := os.Stat(path)
	if err1 != nil || err2 != nil || !os.SameFile(a, b) {
		return self
	}
	return path
}

// awaitReady reads the new process's answer.
func awaitReady(ctx context.Context, in *os.File) (*served, error) {
	stop := context.AfterFunc(ctx, func() { in.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := io.ReadAll(io.LimitReader(in, control.MaxMessage))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("the agent was not ready within %v", readyFor)}
	}
	var answer served
	if err != nil || json.Unmarshal(data, &answer) != nil || (answer.Ready == nil) == (answer.Error == nil) {
		return nil, &sdk.Error{Kind: sdk.KindCrashed, Message: "the agent died before it was ready"}
	}
	return &answer, nil
}

// serveEnviron keeps of the session's environment what commands need.
func serveEnviron() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// detach keeps what the executor has left open from being inherited: a
// session whose pipes stay open does not end.
func detach() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(filepath.Base(e.Name())); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

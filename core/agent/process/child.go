// Package process runs commands on the agent's host: one after the other for
// do and for undos, and as one end of the data plane, where a command's
// output is what is read, or its input is what is written. Every command has
// a process group of its own, a bounded output, and an end: it cannot outlive
// the agent, and what it started goes with it.
package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leftoverGrace is how long what a command has started may go on, or hold
// its output open, when the command itself has ended.
const leftoverGrace = 2 * time.Second

// child is a started command, the leader of its own process group. Its
// process is not reaped before release is called, so that until then the
// group's number cannot belong to anybody else.
type child struct {
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the leader has ended
	reaped  chan struct{} // closed when it has been reaped; state is set
	allow   chan struct{}
	release func()

	mu    sync.Mutex
	gone  bool // the group's number must not be used any more
	state *os.ProcessState
}

// start starts cmd in a process group of its own. The caller must call
// release in the end, which lets the goroutine that waits for it end.
func start(cmd *exec.Cmd) (*child, error) {
	c := &child{
		cmd:    cmd,
		exited: make(chan struct{}),
		reaped: make(chan struct{}),
		allow:  make(chan struct{}),
	}
	c.release = sync.OnceFunc(func() { close(c.allow) })
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	// An agent that is killed cannot stop its commands any more; a sink
	// would even take the end of its input for the end of the data.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL

	started := make(chan error)
	go c.own(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// own starts the command, waits for it and reaps it. The kernel sends
// Pdeathsig when the thread ends that started the command, so that thread
// stays in this function.
func (c *child) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	for {
		err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	close(c.exited)
	<-c.allow

	c.mu.Lock()
	c.cmd.Wait() // its error is in the state
	c.gone, c.state = true, c.cmd.ProcessState
	c.mu.Unlock()
	close(c.reaped)
}

// signal sends sig to the whole group, as long as there is one.
func (c *child) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gone {
		syscall.Kill(-c.cmd.Process.Pid, sig)
	}
}

// end asks the group to end by sig, and kills it when the leader has not
// ended after grace, or when ctx ends. It returns when the leader has ended.
func (c *child) end(ctx context.Context, sig syscall.Signal, grace time.Duration) {
	c.signal(sig)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.exited:
	case <-timer.C:
	case <-ctx.Done():
	}
	c.signal(syscall.SIGKILL)
	<-c.exited
}

// settle waits until nothing of the group but its dead leader is left, and
// kills what is there after leftoverGrace. It reports whether it had to.
// The leader must have ended and not been released.
func (c *child) settle() (killed bool) {
	if c.vanished(leftoverGrace) {
		return false
	}
	c.signal(syscall.SIGKILL)
	c.vanished(leftoverGrace) // even a killed process takes a moment to end
	return true
}

// vanished waits until nothing of the group is left but its dead leader.
func (c *child) vanished(within time.Duration) bool {
	deadline := time.Now().Add(within)
	for wait := time.Millisecond; groupAlive(c.cmd.Process.Pid); wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(wait)
	}
	return true
}

// groupAlive reports whether a process of the group runs that is no zombie.
func groupAlive(pgid int) bool {
	proc, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer proc.Close()
	for {
		names, err := proc.Readdirnames(512)
		for _, name := range names {
			if _, err := strconv.Atoi(name); err != nil {
				continue
			}
			stat, err := os.ReadFile("/proc/" + name + "/stat")
			if err == nil && inGroup(stat, pgid) {
				return true
			}
		}
		if err != nil || len(names) == 0 {
			return false
		}
	}
}

// inGroup reads a line of /proc/PID/stat: "PID (COMM) STATE PPID PGRP ...",
// where COMM may hold anything, parentheses too.
func inGroup(stat []byte, pgid int) bool {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 3 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return false
	}
	group, err := strconv.Atoi(string(fields[2]))
	return err == nil && group == pgid
}

// exitCode is the exit code as a shell tells it: 128+n after signal n.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

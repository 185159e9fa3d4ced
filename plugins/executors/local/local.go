// Package local is the executor that runs commands on the machine it runs on,
// for the host name "localhost" and no other.
package local

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

const (
	host      = "localhost"
	maxOutput = 1 << 20          // bytes of stdout and of stderr; also what a gRPC message bears twice
	maxWait   = 60 * time.Second // also the time limit of a command that names none
	maxCalls  = 8
)

type executor struct {
	slots chan struct{} // one for each command that runs
}

var _ sdk.Putter = (*executor)(nil)

// New returns the executor. It has no configuration, and holds nothing open
// between calls.
func New() sdk.Executor { return &executor{slots: make(chan struct{}, maxCalls)} }

// Describe implements sdk.Plugin.
func (*executor) Describe() sdk.Description {
	return sdk.Description{
		Kind:    sdk.KindExecutor,
		Name:    "local",
		Version: sdk.Version,
		Summary: "runs commands on this machine, for the host localhost",
		// What agents look up to find a place of their own, and what
		// commands expect of a login.
		Environment: []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "XDG_CACHE_HOME"},
		Executor: sdk.ExecutorTraits{
			CanPut:     true,
			MaxCommand: 1 << 20, // the kernel takes 2 MiB with the environment, 128 KiB an argument
			MaxStdin:   1 << 20,
			MaxOutput:  maxOutput,
			MaxCalls:   maxCalls,
			Latency:    5 * time.Millisecond,
			MaxWait:    maxWait,
			PollEvery:  time.Second,
			Streams:    true,
		},
	}
}

// Configure implements sdk.Plugin.
func (*executor) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

// Run implements sdk.Executor. At Command.Timeout (60 s if 0) and when ctx
// ends, the command's process group is killed before Run returns.
func (e *executor) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	if len(cmd.Argv) == 0 {
		return &sdk.Error{Kind: sdk.KindConfig, Message: "an empty argument list names no command"}
	}
	return e.each(ctx, hosts, emit, func() sdk.Result { return run(ctx, cmd) })
}

// Put implements sdk.Putter. The content is flushed to the disk.
func (e *executor) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	return e.each(ctx, hosts, emit, func() sdk.Result {
		return sdk.Result{Err: put(file)}
	})
}

// each calls do once for every host that is this one and emits the results.
func (e *executor) each(ctx context.Context, hosts []string, emit func(sdk.Result), do func() sdk.Result) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, h := range hosts {
		if h != host {
			emit(sdk.Result{Host: h, Err: &sdk.Error{
				Kind:    sdk.KindConfig,
				Host:    h,
				Message: "the executor local reaches localhost only",
				Hint:    "name another executor, such as --executor ssh",
			}})
			continue
		}
		wg.Go(func() {
			var r sdk.Result
			select {
			case e.slots <- struct{}{}:
				r = do()
				<-e.slots
			case <-ctx.Done():
				r.Err = cancelled(ctx)
			}
			r.Host = h
			if r.Err != nil {
				r.Err.Host = h
			}
			emit(r)
		})
	}
	return nil
}

func cancelled(ctx context.Context) *sdk.Error {
	return &sdk.Error{Kind: sdk.KindCancelled, Message: fmt.Sprintf("the call ended before the command did: %v", context.Cause(ctx))}
}

// exitCode returns how a process ended, as a shell would call it.
func exitCode(cmd *exec.Cmd) int {
	if s, ok := waitStatus(cmd); ok && s.Signaled() {
		return 128 + int(s.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

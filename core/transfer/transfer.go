package transfer

import (
	"context"
	"errors"
)

// ErrInterrupted and ErrTerminated are the causes with which the caller
// cancels a run's context on SIGINT and SIGTERM (context.WithCancelCause).
// The run then stops everything, undoes what is due and reports exit code
// 130 or 143.
var (
	ErrInterrupted = errors.New("interrupted")
	ErrTerminated  = errors.New("terminated")
)

// Deps is what a run needs from the program around it.
type Deps struct {
	// Plugins gives the plugins; the caller stops them after Run returned.
	Plugins Plugins
	// StateDir is the directory of the journals; empty: journal.Dir().
	StateDir string
	// Version of the program, for the journal.
	Version string
	// Agents finds the agents to place; nil: those embedded in the binary.
	Agents Agents
}

// Run carries out one transfer and returns when nothing of it is left to do:
// it has been committed or undone on every host that could be reached.
//
// The report is never nil; its ExitCode is the program's. The error is
// Report.Err, nil when the whole neither was refused nor failed; a single
// target's failure stands in its TargetReport. When ctx is cancelled the run
// stops and undoes under deadlines of its own, then returns.
func Run(ctx context.Context, req Request, deps Deps, events Events) (*Report, error) {
	return nil, errors.New("not built yet")
}

// Cleanup ends the transfer id, whose process has died: agents that live are
// stopped, what was committed is rolled forward, all else is undone. It is
// idempotent and returns nil only when every host has answered that nothing
// is left. It is refused while a living process runs the transfer.
func Cleanup(ctx context.Context, id string, deps Deps, events Events) error {
	return errors.New("not built yet")
}

// CleanupAll ends every transfer of this user whose process has died, but
// for those whose agents still hold data: of these it tells by an
// EventWarning how to attach to them or to end them.
func CleanupAll(ctx context.Context, deps Deps, events Events) error {
	return errors.New("not built yet")
}

// Stored returns the request of a transfer as its journal has it: what to
// configure the plugins with for Cleanup. An empty dir means journal.Dir().
func Stored(dir, id string) (Request, error) {
	return Request{}, errors.New("not built yet")
}

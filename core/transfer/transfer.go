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

package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/transferpy/transferpy/core/agentbin"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/remote"
)

// ErrInterrupted and ErrTerminated are the causes with which the caller
// cancels a run's context on SIGINT and SIGTERM (context.WithCancelCause).
// The run then stops everything, undoes what is due and reports exit code
// 130 or 143.
var (
	ErrInterrupted = errors.New("interrupted")
	ErrTerminated  = errors.New("terminated")
	// ErrCancelled is ErrInterrupted by another process of the same user.
	ErrCancelled = fmt.Errorf("cancelled from another terminal: %w", ErrInterrupted)
)

// Agents finds the agents' binaries to be placed on hosts.
type Agents = remote.Agents

// Deps is what a run needs from the program around it.
type Deps struct {
	// Plugins gives the plugins; the caller stops them after Run returned.
	Plugins Plugins
	// StateDir is the directory of the journals; empty: journal.Dir().
	StateDir string
	// Version of the program, for the journal.
	Version string
	// Firewalls are the firewall plugins that FirewallAuto chooses from, in
	// the order in which they are asked; none: it opens nothing.
	Firewalls []string
	// Agents finds the agents to place; nil: those embedded in the binary.
	Agents Agents
	// AgentDirs are directories on the hosts that are tried for the agent
	// before the usual ones.
	AgentDirs []string
	// Detach, when it ends, asks the run to leave its transfer to the agents and
	// to return with ExitControlLost: as soon as the copy can go on without it,
	// and not any more once it is being published or undone. nil: nobody asks.
	Detach context.Context
	// Opened, if set, is called once, when the journal of the transfer is there
	// and its lock taken, with the directory that it lies in.
	Opened func(dir, id string)
	// Log gets what modes and firewalls do on hosts; nil: nothing.
	Log *slog.Logger
}

// complete fills in what was left out.
func (d Deps) complete() (Deps, error) {
	if d.Agents == nil {
		d.Agents = &agentbin.Set{}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.StateDir == "" {
		dir, err := journal.Dir()
		if err != nil {
			return d, err
		}
		d.StateDir = dir
	}
	if _, noted := d.Plugins.(*versions); !noted && d.Plugins != nil {
		d.Plugins = &versions{Plugins: d.Plugins}
	}
	return d, nil
}

// Run carries out one transfer and returns when nothing of it is left to do:
// it has been committed or undone on every host that could be reached.
//
// The report is never nil; its ExitCode is the program's. The error is
// Report.Err, nil when the whole neither was refused nor failed; a single
// target's failure stands in its TargetReport. When ctx is cancelled the run
// stops and undoes under deadlines of its own, then returns.
func Run(ctx context.Context, req Request, deps Deps, events Events) (*Report, error) {
	r := newRun(journal.NewID(time.Now()), deps, events)
	r.adopt(req, memberNames(&req))
	return r.whole(ctx)
}

// whole carries out the transfer from its first event to its last.
func (r *run) whole(ctx context.Context) (*Report, error) {
	defer r.close()
	began := "transfer " + r.id
	switch {
	case r.resumed:
		began += " goes on"
	case r.attached:
		began += " is taken over"
	}
	r.emit(Event{Type: EventStarted, Message: began})
	err := r.open(ctx)
	if err == nil {
		err = r.drive(ctx)
	}
	err = interrupted(ctx, err)
	report := r.conclude(ctx, err)
	r.enlist()
	r.emit(Event{Type: EventDone, Report: report, Err: report.Err})
	if report.Err != nil {
		return report, report.Err
	}
	return report, nil
}

// interrupted puts an interruption before the error that it caused, which may
// look like anything after its way through a plugin.
func interrupted(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}

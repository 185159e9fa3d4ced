// Package agent runs one agent's share of one transfer: it builds the
// pipeline of each of its members from the parts below it (link, relay,
// frame, tree, manifest, staging, process) and owns their goroutines.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/undo"
)

// Config is what a Job needs from the process that it runs in.
type Config struct {
	Transfer string
	Agent    string
	StateDir string // 0700, this agent's own
	Identity *link.Identity
	Listener net.Listener // the Job closes it
	Undo     *undo.Log
	Log      *slog.Logger
	// Changed is called, from any goroutine and without locks held, when
	// something happened that the controller wants to know at once: the
	// waiting answers go out. Never for mere progress, nor for each phase of
	// a member, so that a short transfer costs one call.
	Changed func()
	// SourceDone is called once, likewise, when nothing will be read from
	// the source any more: the undos of that moment are due. It is no change
	// in the sense of Changed unless such an undo ran.
	SourceDone func()
}

// Job is one agent's share of a transfer. Its methods may be called from
// several goroutines at once.
type Job struct{ cfg Config }

// New makes a Job that waits for its plan.
func New(cfg Config) *Job { return &Job{cfg: cfg} }

// Start checks the plan, defers the undos of this agent's members and starts
// them; it does not wait for them. A second Start is refused.
func (j *Job) Start(plan *control.Start) error { return errors.New("not built yet") }

// Begin lets data flow: the mode's Begin has ended.
func (j *Job) Begin() {}

// Commit publishes the named members that are this agent's and verified, and
// returns when they are published or have failed.
func (j *Job) Commit(ctx context.Context, members []string) error { return nil }

// Members tells the state of this agent's members; empty before Start.
func (j *Job) Members() []control.MemberStatus { return nil }

// Flowing reports whether data flows or has flowed: from then on the agent
// holds on without its controller.
func (j *Job) Flowing() bool { return false }

// SourceDone reports whether nothing will be read from the source any more,
// as far as this agent knows.
func (j *Job) SourceDone() bool { return false }

// Stop ends all members, kills what they started, closes the listener and
// returns when every goroutine of the Job has ended or ctx has. It undoes
// nothing: that is the undo log's work, afterwards.
func (j *Job) Stop(ctx context.Context) error { return nil }

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/process"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// stopFor bounds how long the members may take to stop.
const stopFor = 30 * time.Second

// undoFor bounds one attempt at all undos; each command in them has its own
// timeout, too.
const undoFor = 30 * time.Minute

// undoDelays are the pauses before an undo that has failed is tried again.
var undoDelays = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second}

// errorTail is how much of a failed undo's stderr is told, in bytes.
const errorTail = 2 << 10

// end brings the agent to its end: kills what runs, stops the members,
// undoes, and removes the directory. What could not be undone stays there,
// for recover.
func (s *server) end(e ending) {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.stopActs()
	s.work.Wait()
	before := s.job.Members()
	ctx, cancel := context.WithTimeout(context.Background(), stopFor)
	defer cancel()
	if err := s.job.Stop(ctx); err != nil {
		s.files.log.Error("stop the members", "error", err)
	}
	u := &undoing{keep: e.keep}
	err := u.runAll(s.files.undo)
	if err != nil {
		s.files.log.Error("undo", "error", err)
	}
	s.mu.Lock()
	s.final = u.settled(ended(before, s.job.Members()))
	s.change++
	last := control.Answer{Agent: s.config.Agent, Status: &control.Status{Change: s.change, Members: s.final, Undos: s.files.undo.Status(), Ended: true}}
	s.mu.Unlock()
	if e.done && err == nil { // while there is something else to tell it by
		if err := leaveResult(&state{path: s.config.StateDir}, s.config.Transfer, last); err != nil {
			s.files.log.Error("leave word of how it ended", "error", err)
		}
	}
	if err == nil && !u.keeps(s.dir) {
		if err := s.dir.remove(); err != nil {
			s.files.log.Error("remove the agent's directory", "error", err)
		}
		if !e.keep {
			s.dropKept()
		}
	}
}

// dropKept removes what earlier attempts have left on this host, when this
// agent was the last one here.
func (s *server) dropKept() {
	ctx, cancel := context.WithTimeout(context.Background(), undoFor)
	defer cancel()
	failed, err := dropKept(ctx, &state{path: s.config.StateDir}, s.config.Transfer)
	for d, why := range failed {
		s.files.log.Error("remove what was kept", "of", d.id, "error", why)
	}
	if err != nil {
		s.files.log.Error("remove what was kept", "error", err)
	}
}

// ended is what is last told of the members: what was committed stays so.
func ended(before, after []control.MemberStatus) []control.MemberStatus {
	for _, old := range before {
		i := slices.IndexFunc(after, func(m control.MemberStatus) bool { return m.Name == old.Name })
		switch {
		case i < 0:
			after = append(after, old)
		case old.Phase == control.PhaseCommitted:
			after[i] = old
		}
	}
	return after
}

// undoSourceDone runs the undos that are due when nothing is read from the
// source any more, and reports whether none is left.
func (s *server) undoSourceDone() bool {
	pending := s.files.undo.Pending()
	u := &undoing{}
	ctx, cancel := context.WithTimeout(context.Background(), undoFor)
	defer cancel()
	err := s.files.undo.Run(ctx, func(r undo.Record) bool { return r.When == sdk.WhenSourceDone }, u.undo)
	if err != nil {
		s.files.log.Error("undo at source-done", "error", err)
	}
	if err != nil || s.files.undo.Pending() != pending {
		s.changed()
	}
	return err == nil
}

// undoing carries out undo records.
type undoing struct {
	keep bool // leave what a resumed transfer can use

	mu      sync.Mutex
	results []control.MemberStatus // of staging directories
	kept    bool                   // one of them was left
}

// keeps reports whether the agent's directory stays, with what a resumed
// transfer can use: its undos, by which that is removed in the end, or what
// the source has read.
func (u *undoing) keeps(dir agentDir) bool { return u.kept || u.keep && dir.holdsManifest() }

// runAll runs all undos, some times if need be. It returns what is left in
// the end as an error.
func (u *undoing) runAll(log *undo.Log) error {
	for _, delay := range append(slices.Clone(undoDelays), 0) {
		ctx, cancel := context.WithTimeout(context.Background(), undoFor)
		err := log.Run(ctx, func(undo.Record) bool { return true }, u.undo)
		cancel()
		if err == nil || delay == 0 {
			return err
		}
		time.Sleep(delay)
	}
	return nil
}

// undo carries out one record. A command that fails does not stop the next.
func (u *undoing) undo(ctx context.Context, rec undo.Record) error {
	var failures []error
	if rec.Settle != nil {
		switch err := u.settle(ctx, rec.Settle); {
		case err == undo.ErrKept:
			return err // such a record has no commands
		case err != nil:
			failures = append(failures, err)
		}
	}
	for _, cmd := range rec.Commands {
		r := process.Run(ctx, cmd, process.Limits{})
		if err := undoError(cmd, r); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func undoError(cmd sdk.Command, r sdk.Result) error {
	switch {
	case r.Err != nil:
		return r.Err
	case r.ExitCode != 0:
		tail := strings.ToValidUTF8(string(r.Stderr[max(0, len(r.Stderr)-errorTail):]), "?")
		return &sdk.Error{Kind: sdk.KindCrashed,
			Message: fmt.Sprintf("undo command %s ended with exit code %d", cmd.Argv[0].Display(), r.ExitCode),
			Stderr:  tail}
	}
	return nil
}

// settle rolls a committed staging directory forward and removes any other,
// or keeps it.
func (u *undoing) settle(ctx context.Context, spec *staging.Spec) error {
	run := func(ctx context.Context, cmd sdk.Command) sdk.Result { return process.Run(ctx, cmd, process.Limits{}) }
	result, err := staging.Settle(ctx, *spec, run, u.keep)
	status := control.MemberStatus{Name: spec.Member, Phase: control.PhaseEnded}
	if result.Committed {
		status.Phase, status.Paths = control.PhaseCommitted, result.Published
	}
	if result.Failed != nil {
		status.Phase, status.Error = control.PhaseFailed, result.Failed
	}
	status.Kept = result.Kept
	u.mu.Lock()
	defer u.mu.Unlock()
	u.results = append(u.results, status)
	if err == nil && result.Kept != "" {
		u.kept = true
		return undo.ErrKept
	}
	return err
}

// settled puts what became of staging directories into the members' states.
func (u *undoing) settled(members []control.MemberStatus) []control.MemberStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range u.results {
		i := slices.IndexFunc(members, func(m control.MemberStatus) bool { return m.Name == r.Name })
		switch {
		case i < 0:
			members = append(members, r)
		case r.Phase == control.PhaseCommitted:
			members[i].Phase, members[i].Paths, members[i].Error = r.Phase, r.Paths, nil
		default:
			members[i].Kept = r.Kept
			if r.Error != nil {
				members[i].Error = r.Error
			}
		}
	}
	return members
}

package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// conclude ends what is left of the run and makes the report. err is what
// ended the phases before their time, if something did.
func (r *run) conclude(ctx context.Context, err error) *Report {
	if left(err) {
		return r.concludeLeft(err)
	}
	failed := sdkError(err)
	limit := calmLimit
	if err != nil {
		r.abandon(failed)
		if r.acquired {
			r.noteStopping(err)
			r.emit(Event{Type: EventPhase, Phase: "stop", Message: "end the agents and undo what was changed"})
		}
	}
	if err != nil || r.silent() {
		limit = stopLimit
	}
	left := r.stop(ctx, limit)
	if r.superseded {
		return r.concludeLeft(errSuperseded)
	}
	if r.journal != nil && !r.acquired { // a resumed transfer that did not get as far
		state := r.journal.State()
		r.report.Kept = state.Kept != nil
	}
	if left != nil {
		r.fail(left)
	}
	rep := r.report
	rep.Err = failed
	r.reportMembers(err)
	r.settleManifest()
	rep.ExitCode = r.exitCode(err, left)
	rep.Seconds = time.Since(rep.Began).Seconds()
	r.reportCalls()
	r.record(rep, left == nil)
	return rep
}

// reportMembers tells how each target ended; err is what ended the whole.
func (r *run) reportMembers(err error) {
	rep := r.report
	for i, m := range r.members {
		rep.Warnings = append(rep.Warnings, m.status.Warnings...)
		if i > 0 {
			r.reportTarget(&rep.Targets[i-1], m)
			rep.Targets[i-1].Address = cmp.Or(m.status.Reached, r.members[i-1].status.Peer)
			if m.err != nil && m.err == rep.Err && exitOf(err) == ExitRefused {
				rep.Targets[i-1].ExitCode = ExitRefused // nothing had moved
			}
		}
	}
	if len(r.members) == 0 && rep.Err != nil {
		for i := range rep.Targets {
			rep.Targets[i].Err, rep.Targets[i].ExitCode = r.refusalOf(rep.Targets[i].Host, rep.Err), exitOf(err)
		}
	}
}

// exitCode is the program's: by what ended the whole, by each target, by what
// could not be undone or ended, and by a manifest that could not be written.
// The latter three are the report's error where it has none yet.
func (r *run) exitCode(err error, left *sdk.Error) int {
	rep := r.report
	codes := []int{exitOf(err)}
	for _, t := range rep.Targets {
		codes = append(codes, t.ExitCode)
	}
	if undo := r.undoFailure(); undo != nil {
		codes = append(codes, r.undoExit())
		if rep.Err == nil {
			rep.Err = undo
		}
	}
	if left != nil {
		codes = append(codes, ExitFailed)
		if rep.Err == nil {
			rep.Err = left
		}
	}
	if r.manifestErr != nil {
		codes = append(codes, ExitFailed)
		if rep.Err == nil {
			rep.Err = r.manifestErr
		}
	}
	return worst(codes)
}

// silent reports whether a host does not answer: waiting for it helps nobody.
func (r *run) silent() bool {
	return slices.ContainsFunc(r.hosts, func(h string) bool { a := r.agents[h]; return a != nil && a.silent && !a.over() })
}

// refusalOf is the refusal that concerns a host, or else what refused the
// whole.
func (r *run) refusalOf(host string, whole *sdk.Error) *sdk.Error {
	for _, e := range r.refusals {
		if e.Host == host {
			return e
		}
	}
	return whole
}

// sdkError gives an interruption its words.
func sdkError(err error) *sdk.Error {
	switch {
	case errors.Is(err, ErrInterrupted), errors.Is(err, ErrTerminated), errors.Is(err, context.Canceled):
		return &sdk.Error{Kind: sdk.KindCancelled, Message: "the transfer was stopped: " + err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &sdk.Error{Kind: sdk.KindTimeout, Message: "the transfer took longer than it was allowed to"}
	}
	return sdk.AsError(err)
}

// abandon fails the targets that were not committed by the time the whole
// failed.
func (r *run) abandon(why *sdk.Error) {
	for i, m := range r.members {
		if i > 0 && m.err == nil && m.status.Phase != control.PhaseCommitted {
			m.err = why
		}
	}
}

func (r *run) reportTarget(t *TargetReport, m *member) {
	t.Bytes, t.Files, t.Wire = m.status.Bytes, m.status.Files, m.status.Wire
	t.Seconds = time.Since(r.report.Began).Seconds()
	t.Err = m.err
	switch {
	case m.lost:
		t.ExitCode = ExitControlLost
	case m.err != nil && errors.Is(m.err, sdk.ErrExists):
		t.ExitCode = ExitUsage // the copy is not on the target afterwards
	case m.err != nil:
		t.ExitCode = exitOfKind(m.err)
	default:
		t.Verified = r.verify
		if r.verify != control.VerifySigned {
			t.Digest = m.status.Root
		}
	}
}

// undoFailure is the first undo that is not done.
func (r *run) undoFailure() *sdk.Error {
	for _, h := range r.hosts {
		a := r.agents[h]
		if a == nil {
			continue
		}
		for _, u := range a.undos {
			if !u.Done && u.Error != nil {
				return &sdk.Error{Kind: u.Error.Kind, Host: h, Message: "it could not be undone: " + u.What + ": " + u.Error.Message,
					Hint: "do it by hand, or try again: transferpy cleanup " + r.id, Stderr: u.Error.Stderr}
			}
		}
	}
	return nil
}

// undoExit is the exit code for an undo that failed. Where replication was
// stopped that is what could not be started again.
func (r *run) undoExit() int {
	if r.req.StopSlave {
		return ExitRestart
	}
	return ExitFailed
}

// worst is the exit code of several, by precedence: what refuses the
// run, then what most needs somebody to look at it. An
// interruption is what its caller waits for, and an unknown outcome must not
// pass for a known one.
func worst(codes []int) int {
	for _, code := range []int{ExitSIGTERM, ExitSIGINT, ExitStop, ExitRefused, ExitRestart, ExitControlLost, ExitDigest, ExitUsage, ExitFailed} {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return ExitOK
}

// record writes the outcome into the journal. The data is where it is by now,
// so a journal that cannot be written is a warning.
func (r *run) record(rep *Report, ended bool) {
	if !r.acquired {
		return // nothing has changed
	}
	text, err := json.Marshal(rep)
	if err == nil {
		err = r.journal.Add(journal.Record{Outcome: &journal.Outcome{ExitCode: rep.ExitCode, Error: rep.Err, Report: text}})
	}
	if err == nil && ended {
		err = r.journal.Add(r.endRecord())
	}
	if err != nil {
		r.warn("", "the outcome could not be written into the journal: "+err.Error())
	}
}

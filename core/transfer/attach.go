package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// Attach takes over the transfer id, whose process has died or detached: it
// takes the journal's lock and a higher control generation, which its agents
// obey from then on, starts the plugins anew from the stored request, and does
// all that was left to be done: progress, commit, undo, Finish, the manifest and
// the report, with the exit code that Run would have had. What had not begun to
// move, or was in the middle of the mode's Begin, cannot go on: it is undone,
// and the report says so. Of a transfer that has ended it returns the report of
// that end.
//
// It is refused, with exit code ExitRefused and nothing changed, while a living
// process runs the transfer and where the journal does not tell enough. Report
// and error are as those of Run.
func Attach(ctx context.Context, id string, deps Deps, events Events) (*Report, error) {
	if report := ended(deps, id); report != nil {
		if events != nil {
			events(Event{Type: EventDone, Time: time.Now(), Transfer: id, Report: report, Err: report.Err})
		}
		return report, asError(report.Err)
	}
	r := newRun(id, deps, events)
	r.attached = true
	return r.whole(ctx)
}

// asError avoids an error that is not nil and holds a nil *sdk.Error.
func asError(err *sdk.Error) error {
	if err == nil {
		return nil
	}
	return err
}

// ended is the report of a transfer of which nothing is left to be done.
func ended(deps Deps, id string) *Report {
	deps, err := deps.complete()
	if err != nil {
		return nil // whole says so
	}
	h, err := Show(deps.StateDir, id)
	if err != nil || !h.Ended || h.Held {
		return nil
	}
	return h.Report
}

// nothingMoved is why a transfer that was taken over cannot go on.
func nothingMoved(id, where string) *sdk.Error {
	return &sdk.Error{Kind: sdk.KindCancelled, Message: fmt.Sprintf("control of transfer %s was lost %s: nothing had moved by then, so there is nothing to take over, and what was prepared is undone", id, where),
		Hint: "run the transfer again"}
}

// reattach takes the transfer from the process that ran it.
func (r *run) reattach(ctx context.Context) error {
	state, req, err := r.inherit(attachable)
	if err != nil {
		return err
	}
	if err := r.adoptState(&state, req); err != nil {
		return err // agents hold what they have until somebody comes who can read it
	}
	r.last, r.acquired = &state, true
	return nil
}

// inherit takes the journal of a transfer from the process that wrote it, where
// fit finds that there is something to go on with, and the request that fit
// finds. The journal of one that is not fit stays as it was.
func (r *run) inherit(fit func(*journal.State) (Request, error)) (journal.State, Request, error) {
	state, _, err := journal.Read(r.deps.StateDir, r.id)
	if err != nil {
		return state, Request{}, err
	}
	if _, err := fit(&state); err != nil {
		return state, Request{}, err
	}
	if r.journal, err = journal.Takeover(r.deps.StateDir, r.id); err != nil {
		return state, Request{}, err
	}
	r.opened()
	state = r.journal.State() // as it was left in the end
	req, err := fit(&state)
	return state, req, err
}

// adoptState takes what the journal tells of a transfer that has begun.
func (r *run) adoptState(state *journal.State, req Request) error {
	r.report.Began = state.Header.Created
	names := memberNames(&req)
	if state.Resumed != nil { // some targets had their copy by then
		r.report.Began, names = state.Resumed.Time, state.Resumed.Members
		all, i := memberNames(&req), -1
		req.Targets = slices.DeleteFunc(slices.Clone(req.Targets), func(Endpoint) bool { i++; return !slices.Contains(names, all[i]) })
	}
	r.adopt(req, names)
	if len(state.Plan) == 0 {
		return nil
	}
	return r.restore(state)
}

// attachable returns the request of a transfer that can be taken over, or says
// why there is none. Whether its owner lives shows when the lock is taken.
func attachable(state *journal.State) (Request, error) {
	id := state.Header.Transfer
	req, err := requestOf(state)
	if err != nil {
		return req, err
	}
	e := &sdk.Error{Kind: sdk.KindNotFound}
	switch {
	case state.Ended:
		e.Message, e.Hint = fmt.Sprintf("transfer %s has ended: there is nothing to take over", id), "transferpy show "+id+" tells how"
	case state.Kept != nil:
		e.Message, e.Hint = fmt.Sprintf("transfer %s has failed, and no agent of it lives: there is nothing to take over", id), keptAdvice(id)
	case state.Header.V < journal.Version && len(state.Plan) == 0:
		e.Kind = sdk.KindUnsupported
		e.Message, e.Hint = fmt.Sprintf("the journal of transfer %s was written by an older transferpy (version %d) and has no plan to go on with", id, state.Header.V), "end it, then run it again: transferpy cleanup "+id
	default:
		return req, nil
	}
	return req, e
}

// The phases from which a transfer that was taken over goes on.
const (
	fromNowhere  = "" // it only ends
	fromFirewall = "firewall"
	fromStart    = "start"
	fromMove     = "move"
	fromCommit   = "commit"
	fromFinish   = "finish"
)

// meet is the first phase of a transfer that was taken over: it tells the
// agents whom to obey from now on, hears how they are, and decides where to go
// on. An error is why nothing goes on; the end follows, as after any.
func (r *run) meet(ctx context.Context) error {
	state := r.last
	for _, h := range state.Hosts {
		r.fleet.SetPlace(h.Host, remote.Place{Program: h.Program, StateDir: h.StateDir})
	}
	from, why := r.whereFrom(state)
	r.from = from
	r.committing = from == fromCommit || from == fromFinish
	r.ending = from == fromNowhere
	r.greet(ctx)
	r.ending = false
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r.superseded {
		return errSuperseded
	}
	if why != nil {
		return why
	}
	r.adoptHoles(state.Holes)
	return nil
}

// whereFrom decides by the journal alone. With fromNowhere comes the reason.
func (r *run) whereFrom(state *journal.State) (from string, why error) {
	switch {
	case state.Stopping != nil:
		return fromNowhere, asBefore(state.Stopping.ExitCode, state.Stopping.Error)
	case state.Outcome != nil && state.Outcome.ExitCode != ExitControlLost:
		return fromNowhere, asBefore(state.Outcome.ExitCode, state.Outcome.Error)
	case len(state.Plan) == 0:
		return fromNowhere, nothingMoved(r.id, "while its agents were being prepared")
	}
	switch state.Phase {
	case "commit":
		return fromCommit, nil
	case "finish":
		return fromFinish, nil
	case "move":
		return fromMove, nil
	case "start":
		return fromStart, nil
	case "begin":
		return fromNowhere, nothingMoved(r.id, "while the mode was changing what must be changed before reading")
	}
	return fromFirewall, nil
}

// asBefore is the error that had ended the transfer before control was lost,
// with the exit code that it meant.
func asBefore(code int, err *sdk.Error) error {
	if err == nil {
		err = &sdk.Error{Kind: sdk.KindCancelled, Message: "the transfer had failed before control was lost", Hint: "transferpy show tells what was known then"}
	}
	return &refusal{code, err}
}

// greet asks every agent how it is. The control generation that comes with it
// is from now on the least that they obey. A host where the agent's file has
// gone gets it anew.
func (r *run) greet(ctx context.Context) {
	answers := r.fleet.Retry(ctx, callTries, r.request(control.VerbStatus), r.hosts...)
	for _, h := range r.hosts {
		if err := answers[h].Err; err != nil && (err.Kind == sdk.KindNotFound || err.Kind == sdk.KindUnsupported) {
			r.fleet.Probe(ctx, control.Probe{}, nil)
			answers = r.fleet.Retry(ctx, callTries, r.request(control.VerbStatus), r.hosts...)
			break
		}
	}
	r.absorb(answers)
}

// attachManifest makes the file of --manifest anew, or takes the one that the
// process before has completed. That it cannot be had is no reason to undo
// copies, so it fails alone.
func (r *run) attachManifest() {
	if r.req.Manifest == "" {
		return
	}
	temp := tempName(r.req.Manifest, r.id)
	if phase := r.last.Phase; phase == "commit" || phase == "finish" {
		// It was complete before the commit began, and published at the end.
		file, err := os.OpenFile(temp, os.O_WRONLY, 0)
		switch {
		case err == nil:
			r.manifest = &newFile{file: file, path: r.req.Manifest, temp: temp}
		case errors.Is(err, os.ErrNotExist) && isManifestOf(r.req.Manifest, r.id):
			r.report.Manifest = r.req.Manifest
		default:
			r.failManifest(&sdk.Error{Kind: sdk.KindNotFound, Message: "what was written of " + sdk.Raw(r.req.Manifest).Display() + " is not there any more"})
		}
		return
	}
	os.Remove(temp)
	file, err := createNew(r.req.Manifest, r.id)
	if err != nil {
		r.failManifest(err)
		return
	}
	r.manifest = file
}

// noteFailed writes into the journal which targets have failed by now: who
// takes the transfer over during the commit cannot find that out again.
func (r *run) noteFailed() error {
	const batch = 100 // whose errors fit into a line
	known := map[string]bool{}
	for _, f := range r.journal.State().Failed {
		known[f.Member] = true
	}
	var failures []journal.Failure
	for _, t := range r.targets() {
		if t.failed() && !known[t.Name] {
			failures = append(failures, journal.Failure{Member: t.Name, Error: t.err})
		}
	}
	for part := range slices.Chunk(failures, batch) {
		if err := r.journal.Add(journal.Record{Failed: part}); err != nil {
			return err
		}
	}
	return nil
}

// noteStopping writes into the journal why the transfer is being undone.
func (r *run) noteStopping(err error) {
	stopping := &journal.Stopping{Time: time.Now().UTC(), ExitCode: exitOf(err), Error: sdkError(err)}
	if err := r.journal.Add(journal.Record{Stopping: stopping}); err != nil {
		r.warn("", "that it is being undone could not be written into the journal: "+err.Error())
	}
}

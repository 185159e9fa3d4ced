package transfer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// phase is one step of a transfer. A phase that fails ends the transfer:
// what was prepared until then is stopped and undone.
type phase struct {
	name string
	run  func(*run, context.Context) error
	// skip says that the phase has nothing to do in this transfer.
	skip func(*run) bool
}

// phases are the whole of a transfer, in order. After a dry run's plan, and
// after a transfer without agents, nothing needs an end.
var phases = []phase{
	{"attach", (*run).meet, func(r *run) bool { return !r.attached }},
	{"preflight", (*run).preflight, nil},
	{"plan", (*run).makePlan, nil},
	{"prepare", (*run).prepare, (*run).dry},
	{"firewall", (*run).openFirewall, func(r *run) bool { return r.dry() || !r.named() }},
	{"start", (*run).start, (*run).dry},
	{"begin", (*run).begin, func(r *run) bool { return r.dry() || !r.plan.Begins }},
	{"move", (*run).move, (*run).dry},
	{"compare", (*run).compare, (*run).dry},
	{"manifest", (*run).fetchManifest, func(r *run) bool { return r.dry() || r.manifest == nil || !r.anyGood() }},
	{"commit", (*run).commit, (*run).dry},
	{"finish", (*run).finish, func(r *run) bool { return r.dry() || !r.plan.Finishes }},
}

// run is one transfer under way. Its phases run one after the other; only
// events come from several goroutines.
type run struct {
	id      string
	req     Request
	names   []string // of the targets' members: a resumed transfer lacks some
	resumed bool     // it goes on with what an earlier attempt has kept

	attached bool           // it goes on where a process that has died or detached was
	last     *journal.State // what that one has left
	from     string         // the phase from which it goes on

	superseded bool                    // agents obey another process by now
	passedOn   bool                    // it ended without its transfer: others go on with it
	leave      context.CancelCauseFunc // ends the phases
	leaveMu    sync.Mutex
	mayLeave   bool // the copy can go on without this process; under leaveMu

	adjust  Adjustments
	deps    Deps
	clock   timing
	events  Events
	eventMu sync.Mutex

	mode     sdk.Mode
	fleet    *remote.Fleet
	hosts    []string // in the order of the chain, each once
	journal  *journal.Journal
	acquired bool // this attempt has made, or is about to make, something on hosts

	transfer sdk.Transfer
	facts    map[string]*control.Facts
	clocks   map[string]time.Duration // by how much hosts' clocks go before ours
	found    sdk.Findings
	plan     sdk.Plan
	verify   control.VerifyLevel

	agents  map[string]*agent // by host name; several names may lead to one
	members []*member         // the source first
	asking  *asking           // from start until it is ended
	tracker *progress.Tracker // of the members; nil until there is progress

	manifest    *newFile   // what --manifest asks for; nil: nothing
	manifestErr *sdk.Error // why there will be none

	refusals   []*sdk.Error // why the run was refused
	firewalls  firewalls
	foreseen   *foresight // of a dry run
	renewAt    time.Time  // when the holes must be opened again
	sourceDone bool
	slow       int             // targets that are waited for, of which was told
	settledAt  time.Time       // when all targets were settled first
	committing bool            // agents have been told to publish
	ending     bool            // failures are consequences now, and told no more
	told       map[string]bool // undos that were told, by agent and id
	report     *Report
	tally      tally
}

// timing are the times that a test shortens by TRANSFERPY_TEST_LEASE,
// TRANSFERPY_TEST_CHECKPOINT and TRANSFERPY_TEST_EXPIRY.
type timing struct {
	lease      time.Duration // before data flows, agents unasked for so long end
	hold       time.Duration // afterwards
	checkpoint time.Duration // between two checkpoints of a target; 0: as usual
	expiry     time.Duration // of firewall rules; 0: as usual
}

// callTries is how often a call to a host is made in all that answers with
// an error of the way, where nothing comes after it that would ask again.
const callTries = 3

func newRun(id string, deps Deps, events Events) *run {
	return &run{
		id: id, deps: deps, events: events, report: &Report{Transfer: id, Began: time.Now()},
		facts: map[string]*control.Facts{}, clocks: map[string]time.Duration{}, agents: map[string]*agent{}, told: map[string]bool{},
	}
}

// adopt takes the request that is to be carried out, with the names of its
// targets' members.
func (r *run) adopt(req Request, names []string) {
	r.req, r.names = req, names
	r.report.Source, r.report.Targets = req.Source, nil
	for _, t := range req.Targets {
		r.report.Targets = append(r.report.Targets, TargetReport{Host: t.Host, Path: t.Path})
	}
}

// open completes and checks what the run was given and starts the plugins,
// before any host is touched.
func (r *run) open(ctx context.Context) error {
	deps, err := r.deps.complete()
	if err != nil {
		return &refusal{ExitUsage, err}
	}
	r.deps = deps
	switch {
	case r.resumed:
		err = r.takeOver(ctx)
	case r.attached:
		err = r.reattach(ctx)
	}
	if err != nil {
		return &refusal{ExitRefused, err}
	}
	if err := r.req.complete(); err != nil {
		return &refusal{ExitUsage, err}
	}
	if r.clock, err = timings(r.req); err != nil {
		return &refusal{ExitUsage, err}
	}
	if r.attached {
		r.attachManifest()
	} else if err := r.openManifest(); err != nil {
		return &refusal{ExitRefused, err}
	}
	r.transfer = r.req.transfer(r.id)
	if err := r.startPlugins(ctx); err != nil {
		return &refusal{ExitRefused, err}
	}
	return nil
}

// drive runs the phases until one fails.
func (r *run) drive(ctx context.Context) error {
	ctx, stay := r.leaving(ctx)
	defer stay()
	defer r.count(endPhase)
	for i, p := range phases {
		if p.skip != nil && p.skip(r) || r.isBehind(i) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.count(p.name)
		r.emit(Event{Type: EventPhase, Phase: p.name, Message: p.name})
		if err := p.run(r, ctx); err != nil {
			return interrupted(ctx, err)
		}
	}
	return nil
}

// isBehind reports whether a phase, by its place, is one that a process before
// this one has done.
func (r *run) isBehind(place int) bool {
	return r.from != "" && place > 0 && place < slices.IndexFunc(phases, func(p phase) bool { return p.name == r.from })
}

// opened tells that the journal is there, and its lock taken.
func (r *run) opened() {
	if r.deps.Opened != nil {
		r.deps.Opened(r.deps.StateDir, r.id)
	}
}

func (r *run) dry() bool { return r.req.DryRun }

// close releases the journal's lock, and removes a manifest that was not
// published.
func (r *run) close() {
	r.endAsking()
	if r.manifest != nil {
		r.manifest.discard()
	}
	if r.journal != nil {
		r.journal.Close()
	}
}

// emit hands out an event, one at a time.
func (r *run) emit(e Event) {
	if r.events == nil {
		return
	}
	r.eventMu.Lock()
	defer r.eventMu.Unlock()
	e.Time, e.Transfer = time.Now(), r.id
	r.events(e)
}

func (r *run) warn(host, message string) {
	r.emit(Event{Type: EventWarning, Host: host, Message: message})
}

// fail tells of one host's failure.
func (r *run) fail(err *sdk.Error) {
	r.emit(Event{Type: EventError, Host: err.Host, Message: err.Error(), Err: err})
}

// request makes a request of this transfer with a call of its own.
func (r *run) request(verb control.Verb) control.Request {
	req := control.Request{Verb: verb, Transfer: r.id, Call: control.NewID()}
	if r.journal != nil {
		state := r.journal.State()
		req.Generation = state.Generation()
	}
	return req
}

// refusal is an error with the exit code that it means.
type refusal struct {
	code int
	err  error
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

// exitOf is the exit code for an error that ended the whole.
func exitOf(err error) int {
	var refused *refusal
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, ErrInterrupted):
		return ExitSIGINT
	case errors.Is(err, ErrTerminated):
		return ExitSIGTERM
	case left(err):
		return ExitControlLost
	case errors.As(err, &refused):
		return refused.code
	}
	return exitOfKind(sdk.AsError(err))
}

// exitOfKind is the exit code for the failure of one target.
func exitOfKind(err *sdk.Error) int {
	switch {
	case err == nil:
		return ExitOK
	case err.Kind == sdk.KindIntegrity:
		return ExitDigest
	}
	return ExitFailed
}

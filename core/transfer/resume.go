package transfer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// phaseTakeOver is what comes before the phases of a resumed transfer.
const phaseTakeOver = "take over"

// Adjustments are what a resumed attempt does otherwise than its request
// says; for this attempt alone, since the stored request stays as it is.
// A nil field is as stored; the others are as the fields of Request.
type Adjustments struct {
	LimitRate *int64
	LimitRead *int64
	Nice      *int
}

// apply changes the request.
func (a *Adjustments) apply(q *Request) {
	if a.LimitRate != nil {
		q.LimitRate = *a.LimitRate
	}
	if a.LimitRead != nil {
		q.LimitRead = *a.LimitRead
	}
	if a.Nice != nil {
		q.Nice = *a.Nice
	}
}

// Resume goes on with the transfer id, which has failed with KeepPartial, or
// whose process has died: it takes the journal's lock and a higher control
// generation, has the agents of the earlier attempt end and keep what they
// have, and then does all that Run does, with the stored request, for the
// targets that are not published yet. It is refused, with exit code
// ExitRefused, while a living process runs the transfer, and where nothing is
// there to go on with. Report and error are as those of Run.
func Resume(ctx context.Context, id string, adjust Adjustments, deps Deps, events Events) (*Report, error) {
	r := newRun(id, deps, events)
	r.resumed, r.adjust = true, adjust
	return r.whole(ctx)
}

// takeOver takes the transfer from whoever ran it before, and finds out what
// is left to do.
func (r *run) takeOver(ctx context.Context) error {
	state, req, err := r.inherit(resumable)
	if err != nil {
		return err
	}
	r.adjust.apply(&req)
	if state.Kept == nil {
		if err := r.settle(ctx, &state, req); err != nil {
			return err
		}
		state = r.journal.State()
	}
	return r.adoptRest(req, state.Committed)
}

// adoptRest takes what is left of a request: the targets without a copy. It
// says so of the others.
func (r *run) adoptRest(req Request, committed []string) error {
	rest, names := req, []string{}
	rest.Targets = nil
	for i, t := range req.Targets {
		if name := memberName(i); !slices.Contains(committed, name) {
			rest.Targets, names = append(rest.Targets, t), append(names, name)
			continue
		}
		r.emit(Event{Type: EventPhase, Phase: phaseTakeOver, Host: t.Host,
			Message: t.Host + ":" + t.Path.Display() + " has its copy from an earlier attempt and is left as it is"})
	}
	if len(names) == 0 {
		return allPublished(r.id)
	}
	r.adopt(rest, names)
	return nil
}

// resumable returns the request of a transfer that can be resumed, or says
// why it cannot and what to do instead.
func resumable(state *journal.State) (Request, error) {
	id := state.Header.Transfer
	req, err := requestOf(state)
	if err != nil {
		return req, err
	}
	e := &sdk.Error{Kind: sdk.KindNotFound}
	switch {
	case state.Ended && len(state.Committed) == len(req.Targets):
		return req, allPublished(id)
	case state.Ended && !req.KeepPartial:
		e.Message, e.Hint = fmt.Sprintf("nothing was kept of transfer %s: it ran without --keep-partial", id), "run it again, from its beginning; with --keep-partial a failure can be resumed"
	case state.Ended:
		e.Message, e.Hint = fmt.Sprintf("nothing is kept of transfer %s: it failed before anything was moved, or was cleaned up", id), "run it again, from its beginning"
	case !req.KeepPartial:
		e.Message, e.Hint = fmt.Sprintf("transfer %s ran without --keep-partial, so nothing of it is kept", id), "end it, then run it again: transferpy cleanup "+id
	default:
		return req, nil
	}
	return req, e
}

func allPublished(id string) error {
	return &sdk.Error{Kind: sdk.KindExists, Message: fmt.Sprintf("every target of transfer %s has its copy: there is nothing to resume", id),
		Hint: "transferpy show " + id + " tells how it went; what else it may have left goes with: transferpy cleanup " + id}
}

// settle brings the agents of an attempt whose process has died to their end.
// They keep what they have, and what was committed is rolled forward.
func (r *run) settle(ctx context.Context, state *journal.State, req Request) error {
	r.emit(Event{Type: EventPhase, Phase: phaseTakeOver, Message: "the agents of the attempt before are ended; they keep what they have"})
	c := &cleaner{deps: r.deps, events: r.events, id: r.id, told: r.told, journal: r.journal}
	if err := c.connect(ctx, state, &req); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	if _, err := c.look(limited, c.request(control.VerbStatus)); err != nil {
		return err
	}
	if err := c.notePublished(); err != nil {
		return err
	}
	if err := c.end(limited, true); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if unknown := c.unknown(state, &req); len(unknown) > 0 {
		return &sdk.Error{Kind: sdk.KindExists,
			Message: fmt.Sprintf("transfer %s was publishing when control was lost, and no agent is left to say whether %s has its copy", r.id, strings.Join(unknown, " or ")),
			Hint:    "look there; then `transferpy cleanup " + r.id + "`, and run the transfer again for the targets that have none"}
	}
	return r.journal.Add(journal.Record{Kept: &journal.Kept{Time: r.report.Began.UTC(), Members: c.without(&req)}})
}

// tellKept says of each host whether anything of the attempt before was found
// there.
func (r *run) tellKept() {
	if !r.resumed {
		return
	}
	for _, h := range r.hosts {
		switch kept := r.agents[h].ready.Kept; {
		case kept:
			r.emit(Event{Type: EventAgent, Host: h, Message: "goes on with what was kept there"})
		case h == r.req.Source.Host:
			r.warn(h, "nothing was kept there of what the source had read: all of it is read again")
		default:
			r.warn(h, "nothing was kept there: everything is sent again")
		}
	}
}

package transfer

import (
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/record"
	"github.com/transferpy/transferpy/sdk"
)

// enlist leaves the attempt's line in the list of all transfers, however it
// ended; a dry run is no transfer, and one that others go on with has not ended.
// What was copied is there by now, so a list that cannot be written is a
// warning.
func (r *run) enlist() {
	if r.dry() || r.passedOn || r.deps.StateDir == "" || r.req.Source.Host == "" { // nothing was asked for that could be carried out
		return
	}
	l := lineOf(r.report, &r.req)
	l.EndedBy = record.ByRun
	switch {
	case r.resumed:
		l.EndedBy = record.ByResume
	case r.attached:
		l.EndedBy = record.ByAttach
	}
	if v, ok := r.deps.Plugins.(*versions); ok {
		l.Versions = v.all(r.deps.Version)
	}
	if err := record.Append(r.deps.StateDir, l); err != nil {
		r.warn("", "the transfer could not be noted in the list of all transfers: "+err.Error())
	}
}

// Refused notes in the list of all transfers one that could not begin, because
// of err, with its exit code; it returns the id under which it is listed.
func Refused(req Request, deps Deps, code int, why error) (id string, err error) {
	if deps, err = deps.complete(); err != nil {
		return "", err
	}
	r := newRun(journal.NewID(time.Now()), deps, nil)
	r.adopt(req, nil)
	r.report.ExitCode, r.report.Err = code, sdk.AsError(why)
	for i := range r.report.Targets {
		r.report.Targets[i].ExitCode = code
	}
	l := lineOf(r.report, &req)
	l.EndedBy, l.Versions = record.ByRun, map[string]string{"transferpy": deps.Version}
	return r.id, record.Append(deps.StateDir, l)
}

// enlist leaves the line of a transfer whose own process has died, unless an
// attempt that came to its end has left one.
func (c *cleaner) enlist(state *journal.State, req *Request, kept bool) {
	if state.Outcome != nil || state.Kept != nil {
		return
	}
	rep := &Report{Transfer: c.id, Began: state.Header.Created, Kept: kept}
	if state.Resumed != nil {
		rep.Began = state.Resumed.Time
	}
	rep.Seconds = time.Since(rep.Began).Seconds()
	rep.Err = &sdk.Error{Kind: sdk.KindCrashed, Message: "its process died; it was ended by transferpy cleanup"}
	unknown := c.unknown(state, req)
	published := c.journal.State().Committed
	codes := []int{}
	for i, t := range req.Targets {
		m := c.members[memberName(i)]
		target := TargetReport{Host: t.Host, Path: t.Path, Bytes: m.Bytes, Files: m.Files, Wire: m.Wire, ExitCode: ExitFailed}
		switch {
		case slices.Contains(published, memberName(i)):
			target.ExitCode, target.Digest = ExitOK, m.Root
		case slices.Contains(unknown, t.Host+":"+t.Path.Display()):
			target.ExitCode = ExitControlLost
		}
		rep.Targets, codes = append(rep.Targets, target), append(codes, target.ExitCode)
	}
	rep.ExitCode = worst(codes)
	l := lineOf(rep, req)
	l.EndedBy, l.Versions = record.ByCleanup, map[string]string{"transferpy": state.Header.Program}
	if err := record.Append(c.deps.StateDir, l); err != nil {
		c.emit(Event{Type: EventWarning, Message: "the transfer could not be noted in the list of all transfers: " + err.Error()})
	}
}

// lineOf is the line of an attempt that has ended.
func lineOf(rep *Report, req *Request) record.Line {
	l := record.Line{Transfer: rep.Transfer, Time: rep.Began.Add(time.Duration(rep.Seconds * float64(time.Second))).UTC(), Began: rep.Began.UTC(),
		Seconds: rep.Seconds, Reason: req.Reason, Mode: req.Mode, Source: endOf(req.Source), Targets: []record.Target{},
		ExitCode: rep.ExitCode, Error: rep.Err, Kept: rep.Kept}
	for i, t := range rep.Targets {
		end := record.End{Host: t.Host, Path: t.Path}
		if i < len(req.Targets) {
			end = endOf(req.Targets[i])
		}
		l.Targets = append(l.Targets, record.Target{End: end, ExitCode: t.ExitCode, Bytes: t.Bytes, Files: t.Files, Wire: t.Wire, Digest: t.Digest, Error: t.Err})
		l.Bytes = max(l.Bytes, t.Bytes)
		if l.Digest == "" && t.ExitCode == ExitOK {
			l.Digest = t.Digest
		}
	}
	return l
}

func endOf(e Endpoint) record.End {
	return record.End{Executor: e.Executor, Host: e.Host, Path: e.Path}
}

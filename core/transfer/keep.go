package transfer

import (
	"context"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
)

// keeps reports whether agents are to keep what they have when they are
// stopped: somebody asked for it, and a target has no copy.
func (r *run) keeps() bool { return r.req.KeepPartial && len(r.without()) > 0 }

// without are the targets that have no copy, as far as is known.
func (r *run) without() []string {
	var names []string
	for i, name := range r.names {
		if i+1 < len(r.members) && r.members[i+1].status.Phase == control.PhaseCommitted {
			continue
		}
		names = append(names, name)
	}
	return names
}

// hasKept reports whether something was left for Resume: a target has said
// so, or may not have been asked before a resumed attempt failed.
func (r *run) hasKept() bool {
	for _, m := range r.members {
		if m.status.Kept != "" && m.status.Phase != control.PhaseCommitted {
			return true
		}
	}
	return r.resumed
}

// noteCommitted writes into the journal which targets have said that they are
// published. The copies are there by now, so a journal that cannot be written
// is a warning.
func (r *run) noteCommitted() {
	var names []string
	for _, m := range r.members {
		if m.Destination != nil && m.status.Phase == control.PhaseCommitted {
			names = append(names, m.Name)
		}
	}
	if err := noteCommitted(r.journal, names); err != nil {
		r.warn("", "which targets are published could not be written into the journal: "+err.Error())
	}
}

// noteCommitted adds those names that the journal does not have.
func noteCommitted(j *journal.Journal, names []string) error {
	known := map[string]bool{}
	state := j.State()
	for _, name := range state.Committed {
		known[name] = true
	}
	var news []string
	for _, name := range names {
		if !known[name] {
			news = append(news, name)
		}
	}
	if len(news) == 0 {
		return nil
	}
	return j.Add(journal.Record{Committed: news})
}

// settleKept notes that something was kept, or removes the rests where no
// target has anything to go on with.
func (r *run) settleKept(ctx context.Context, e ending) remains {
	if r.report.Kept = r.hasKept(); r.report.Kept {
		return nil
	}
	e.keep = false
	return e.end(ctx, r.hosts)
}

// endRecord is the last record of an attempt after which no agent lives.
func (r *run) endRecord() journal.Record {
	if r.report.Kept {
		return journal.Record{Kept: &journal.Kept{Time: time.Now().UTC(), Members: r.without()}}
	}
	return journal.Record{Ended: true}
}

// keptAdvice says what to do with what was kept.
func keptAdvice(id string) string {
	return "transferpy resume " + id + " goes on with it, transferpy cleanup " + id + " removes it"
}

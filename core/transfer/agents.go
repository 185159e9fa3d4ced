package transfer

import (
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// agent is one agent as far as the controller knows it. Several host names
// may lead to it.
type agent struct {
	id     string
	host   string // the first name that led to it
	ready  control.Ready
	change uint64 // of the last status
	acked  bool   // it has the plan
	silent bool   // the last call to it failed
	heard  time.Time
	asked  time.Time // when the last question was
	told   time.Time // when the question for the last status was asked
	closed []control.ClosedPort
	undos  []control.UndoStatus
	ended  bool // it said its last answer
	gone   bool // its process has died
}

// over says that the agent's process is no more.
func (a *agent) over() bool { return a.ended || a.gone }

// member is one end of the transfer with what was last heard of it.
type member struct {
	control.Member
	status control.MemberStatus
	heard  time.Time  // when status was
	err    *sdk.Error // why it failed, as the controller sees it
	lost   bool       // nothing was heard of its agent for too long: its outcome is not known
}

// failed reports whether the member can no longer succeed.
func (m *member) failed() bool { return m.err != nil }

// settled reports whether nothing more will come of a target's data: it is
// verified or has failed, or the source has failed before it was served.
func (m *member) settled() bool { return m.failed() || m.status.Phase.AtLeast(control.PhaseVerified) }

func (r *run) source() *member    { return r.members[0] }
func (r *run) targets() []*member { return r.members[1:] }

// absorb takes what came back from a broadcast. A host is believed only
// about the agent that it named when that was prepared; hosts that could not
// be reached are warned of, once until they are back.
func (r *run) absorb(answers map[string]remote.Answer) {
	missing := map[*agent]bool{} // its host answered, and it did not
	for _, host := range r.hosts {
		answer, asked := answers[host]
		a := r.agents[host]
		if !asked || a == nil {
			continue
		}
		if answer.Err != nil {
			r.silence(a, host, answer.Err)
			continue
		}
		a.heard, a.silent = time.Now(), false
		if _, told := missing[a]; !told {
			missing[a] = true
		}
		for i := range answer.Reply.Agents {
			if reply := &answer.Reply.Agents[i]; reply.Agent == a.id {
				missing[a] = false
				r.take(a, host, reply)
			}
		}
	}
	// Only now: of two names of a host, the second may find the agent gone
	// because the first one's call has just ended it.
	for a, gone := range missing {
		if gone && !a.ended {
			r.lostAgent(a, r.whyAway(), !r.attached)
		}
	}
}

// whyAway says why a host has no agent of this transfer any more.
func (r *run) whyAway() string {
	if r.attached {
		return "its agent has ended by itself: nobody asked for it for too long, and what was not published is undone"
	}
	return "its agent has ended, and this process did not ask it to: nobody had asked for it for too long, or another transferpy has taken over"
}

// silence notes that a host could not be asked. If another name leads to the
// same agent, that one's answer counts.
func (r *run) silence(a *agent, host string, err *sdk.Error) {
	if a.ended {
		return
	}
	if !a.silent && !r.ending {
		r.warn(host, "the call failed, it is tried again: "+err.Error())
	}
	a.silent = true
}

// take takes one agent's answer.
func (r *run) take(a *agent, host string, reply *control.Answer) {
	if reply.Gone {
		r.lostAgent(a, "the agent has died", false)
		return
	}
	if reply.Superseded > 0 {
		if !r.superseded {
			r.warn(host, "the agent: "+reply.Error.Error())
		}
		r.superseded = true
		return
	}
	if reply.Error != nil && !a.ended && !r.ending {
		r.warn(host, "the agent: "+reply.Error.Error())
	}
	if s := reply.Status; s != nil && (s.Change >= a.change || s.Ended) {
		a.change, a.acked = s.Change, a.acked || len(s.Members) > 0
		a.undos, a.closed, a.told = s.Undos, s.Closed, a.asked
		for _, u := range s.Undos {
			if r.clearing(u) {
				continue
			}
			if err := markDone(r.journal, a.id, u); err != nil {
				r.warn(host, "that an undo has run could not be written into the journal: "+err.Error())
			}
			tellUndo(r.told, a.id, u, func(e Event) { e.Host = host; r.emit(e) })
		}
		for _, m := range s.Members {
			r.takeMember(a, m)
		}
		if s.Ended && !a.ended {
			a.ended = true
			r.failUnpublished(a)
		}
	}
}

// failUnpublished fails the targets of an agent that has said its last word, and
// not that they are published, unless it was told to end: they never will be.
func (r *run) failUnpublished(a *agent) {
	if r.ending {
		return
	}
	for _, m := range r.members {
		if m.Agent == a.id && m.Destination != nil && !m.failed() && m.status.Phase != control.PhaseCommitted {
			r.failMember(m, &sdk.Error{Kind: sdk.KindTimeout, Message: "its agent has ended by itself, since nobody had asked for it for too long; what was not published is undone",
				Hint: "run the transfer again; --control-lost-for gives agents more time"})
		}
	}
}

// takeMember takes the state of a member that lives in a.
func (r *run) takeMember(a *agent, s control.MemberStatus) {
	for i, m := range r.members {
		if m.Name != s.Name || m.Agent != a.id {
			continue
		}
		if m.status.Phase == control.PhaseCommitted && s.Phase == control.PhaseEnded {
			s.Phase = control.PhaseCommitted // it has ended after it was published
		}
		if i == 0 {
			r.takeDetours(s.Detours)
			r.takeSlow(s.Slow)
		}
		m.status, m.heard = s, time.Now()
		if r.ending {
			if m.lost && s.Phase == control.PhaseCommitted {
				m.lost, m.err = false, nil // its answer to the commit was lost, not the copy
			}
			return
		}
		if s.Error != nil && m.err == nil {
			r.failMember(m, s.Error)
		} else if s.Phase == control.PhaseFailed && m.err == nil {
			r.failMember(m, &sdk.Error{Kind: sdk.KindInternal, Message: "the agent says that it failed, and not why"})
		}
		if i == 0 {
			r.heedSource(s.Failed)
		}
		if i == 0 && s.Phase.AtLeast(control.PhaseReadDone) && m.err == nil && !r.sourceDone {
			r.sourceDone = true
			r.emit(Event{Type: EventSourceDone, Host: m.Host, Message: "nothing is read from the source any more"})
		}
	}
}

// heedSource fails targets that the source has given up and whose own hosts
// do not answer: nothing better will be known of them for a long time.
func (r *run) heedSource(failed []control.PeerError) {
	for _, f := range failed {
		for _, m := range r.targets() {
			if a := r.agents[m.Host]; m.Name == f.Name && f.Error != nil && !m.failed() && a != nil && a.silent {
				r.failMember(m, f.Error)
			}
		}
	}
}

// lostAgent fails the members of an agent that is no more. Where others may have
// ended it, its outcome is not known.
func (r *run) lostAgent(a *agent, why string, others bool) {
	if a.over() {
		return
	}
	a.gone = true
	if r.ending {
		return
	}
	for _, m := range r.members {
		if m.Agent == a.id && m.err == nil && m.status.Phase != control.PhaseCommitted {
			m.lost = r.committing || others // it may have published before it went
			r.failMember(m, &sdk.Error{Kind: sdk.KindCrashed, Message: why, Hint: "what it left is undone by a new one; see the host's log for a kill or a restart"})
		}
	}
}

// failMember notes a member's failure and tells of it.
func (r *run) failMember(m *member, err *sdk.Error) {
	e := *err
	e.Host = m.Host
	m.err = &e
	r.fail(&e)
}

// clearing reports whether an undo is one that the agent deferred for itself
// and that ran at a good end: it removed an empty staging directory, which is
// no news.
func (r *run) clearing(u control.UndoStatus) bool {
	if !u.Done || r.ending || r.journal == nil {
		return false
	}
	for _, known := range r.journal.State().Undos {
		if known.Undo.ID == u.ID {
			return false
		}
	}
	return true
}

// markDone notes in the journal that an undo of its has run.
func markDone(j *journal.Journal, agent string, u control.UndoStatus) error {
	if j == nil || !u.Done {
		return nil
	}
	for _, known := range j.State().Undos {
		if known.Agent == agent && known.Undo.ID == u.ID && !known.Done {
			return j.Add(journal.Record{Done: &journal.Done{Agent: agent, ID: u.ID}})
		}
	}
	return nil
}

// tellUndo tells of an undo once that it ran, and once that it failed.
func tellUndo(told map[string]bool, agent string, u control.UndoStatus, emit func(Event)) {
	if !u.Done && u.Error == nil {
		return
	}
	key := fmt.Sprintf("%s/%v/%s", agent, u.Done, u.ID)
	if told[key] {
		return
	}
	told[key] = true
	message := "undone: " + u.What
	if u.Held > 0 {
		message += fmt.Sprintf(" (after %s)", u.Held.Round(100*time.Millisecond))
	}
	if !u.Done {
		message = "could not be undone: " + u.What + ": " + u.Error.Error()
	}
	emit(Event{Type: EventUndo, Message: message, Err: u.Error})
}

// living returns the hosts whose agents have not ended.
func (r *run) living() []string {
	var hosts []string
	for _, h := range r.hosts {
		if a := r.agents[h]; a != nil && !a.over() {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// seen is what the controller knows of each agent.
func (r *run) seen() map[string]uint64 {
	seen := map[string]uint64{}
	for _, a := range r.agents {
		seen[a.id] = a.change
	}
	return seen
}

// SourceName is the source's name as a member.
const SourceName = "source"

// memberName names the member of a target, by its place in the request. It
// names the staging directory too, so it stays when a transfer is resumed.
func memberName(target int) string { return fmt.Sprintf("target-%d", target+1) }

// memberNames names the members of all targets.
func memberNames(q *Request) []string {
	names := make([]string, len(q.Targets))
	for i := range names {
		names[i] = memberName(i)
	}
	return names
}

package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/process"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// maxOutput bounds what the commands of one do return together, in bytes: an
// executor brings back 256 KiB, encoded, of all agents on its host.
const maxOutput = 96 << 10

// startFor bounds how long a start or a begin may take that waits for nothing.
const startFor = 10 * time.Second

// phasePoll is how often phases are looked at for a request that waits for
// one, since not every phase is news.
const phasePoll = 50 * time.Millisecond

// handle does what q asks for, once for each call, and waits as q says, but
// not longer than patience.
func (s *server) handle(patience context.Context, q *control.Request) *control.Answer {
	if q.Observe {
		return &control.Answer{Agent: s.config.Agent, Status: s.observed(time.Now())}
	}
	if newer, err := s.admit(q); err != nil {
		return &control.Answer{Agent: s.config.Agent, Superseded: newer, Error: err}
	}
	defer s.leave()
	answer := &control.Answer{Agent: s.config.Agent}
	c, err := s.act(q)
	if err != nil {
		answer.Error = sdk.AsError(err)
		answer.Status = s.status()
		return answer
	}
	finished := wait(patience, c.finished)
	if q.Verb == control.VerbStart || q.Verb == control.VerbBegin {
		// These do not wait for anything, and their failure should be told.
		soon, cancel := context.WithTimeout(context.Background(), startFor)
		finished = wait(soon, c.finished)
		cancel()
	}
	switch q.Verb {
	case control.VerbDo:
		answer.Running = !finished
		if finished {
			answer.Done, answer.Error = c.done, c.err
		}
		return answer
	case control.VerbManifest, control.VerbVerify:
		answer.Running = !finished
		if finished {
			answer.Piece, answer.Verified, answer.Error = c.piece, c.verified, c.err
		} else if q.Verb == control.VerbVerify {
			answer.Verified = &control.Verified{Checked: c.checked.Load()}
		}
		return answer
	case control.VerbStart, control.VerbStatus, control.VerbBegin:
		if finished && c.err == nil {
			s.awaitNews(patience, q, c)
		}
	case control.VerbStop:
		if !q.Stop.SourceDone {
			wait(patience, s.ended)
		}
	case control.VerbCommit:
		if finished && c.ends {
			wait(patience, s.ended)
		}
	}
	if finished {
		answer.Error = c.err
	}
	answer.Status = s.status()
	return answer
}

// wait reports whether done was closed before patience ended.
func wait(patience context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-patience.Done():
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// admit notes that the controller is there, unless it has been replaced; then
// it returns the generation of the one that is obeyed.
func (s *server) admit(q *control.Request) (newer uint64, err *sdk.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Generation < s.generation {
		return s.generation, &sdk.Error{Kind: sdk.KindPermission,
			Message: fmt.Sprintf("agent %s is controlled by generation %d, not %d any more", s.config.Agent, s.generation, q.Generation),
			Hint:    "another transferpy has taken over this transfer"}
	}
	s.generation = q.Generation
	s.waiting++
	return 0, nil
}

// leave is the other end of admit: the lease counts from here.
func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	s.asked = time.Now()
}

// act starts what q asks for, or finds the call that has done so already.
func (s *server) act(q *control.Request) (*call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, isNew, err := s.calls.take(q.Call, q.Verb)
	if err != nil || !isNew {
		return c, err
	}
	c.change = s.change
	switch {
	case q.Verb == control.VerbStatus || q.Verb == control.VerbStop:
		c.finish(sdk.AsError(s.perform(q, c))) // at once, and also while the agent ends
	case s.closing:
		c.finish(&sdk.Error{Kind: sdk.KindCancelled, Message: fmt.Sprintf("agent %s is ending", s.config.Agent)})
	default:
		s.work.Go(func() { c.finish(sdk.AsError(s.perform(q, c))) })
	}
	return c, nil
}

// perform is the action itself.
func (s *server) perform(q *control.Request, c *call) error {
	switch q.Verb {
	case control.VerbStart:
		s.mu.Lock()
		s.source = q.Start.Members[0].Name
		s.mu.Unlock()
		return s.job.Start(q.Start)
	case control.VerbBegin:
		s.job.Begin()
	case control.VerbDo:
		return s.do(q.Do, c)
	case control.VerbManifest:
		return s.manifest(q.Manifest, c)
	case control.VerbVerify:
		return s.verify(q.Verify, c)
	case control.VerbCommit:
		return s.commit(q.Commit, c)
	case control.VerbStop:
		if q.Stop.SourceDone {
			s.sourceDone()
			return nil
		}
		s.askToEnd(ending{why: "stop", keep: q.Stop.Keep})
	}
	return nil
}

// do runs this agent's part. The undo of what it changes is on disk before the
// change is made.
func (s *server) do(d *control.Do, c *call) error {
	part, mine := d.Parts[s.config.Agent]
	if !mine {
		return nil
	}
	room := maxOutput
	for _, p := range append([]control.DoPart{part}, part.Then...) {
		result := control.DoResult{Part: s.config.Agent}
		if p.Undo != nil {
			result.Error = sdk.AsError(s.files.undo.Defer(undo.Record{Undo: *p.Undo}))
		}
		if result.Error == nil {
			result.Results = runCommands(s.acting, p.Commands, p.Undo != nil, &room)
		}
		c.done = append(c.done, result)
	}
	return nil
}

// runCommands runs commands one after the other; stop says whether the first
// that fails is the last. What they print is taken from room.
func runCommands(ctx context.Context, commands []sdk.Command, stop bool, room *int) []sdk.Result {
	results := []sdk.Result{}
	for _, cmd := range commands {
		r := process.Run(ctx, cmd, process.Limits{Output: max(*room/2, 1)})
		*room -= len(r.Stdout) + len(r.Stderr)
		results = append(results, r)
		if failed := r.ExitCode != 0 || r.Err != nil; failed && stop {
			break
		}
	}
	return results
}

// commit publishes, and ends the agent if that was all.
func (s *server) commit(q *control.Commit, c *call) error {
	err := s.job.Commit(s.acting, q.Members)
	if err == nil && q.Stop && s.idle() {
		c.ends = true
		s.askToEnd(ending{why: "all is committed", done: true})
	}
	return err
}

// idle reports whether no member has anything left to do. A source is
// verified when every target is, or has failed.
func (s *server) idle() bool {
	s.mu.Lock()
	source := s.source
	s.mu.Unlock()
	for _, m := range s.job.Members() {
		if m.Phase == control.PhaseFailed || !m.Phase.AtLeast(control.PhaseVerified) {
			return false
		}
		if m.Name != source && !m.Phase.AtLeast(control.PhaseCommitted) {
			return false
		}
	}
	return true
}

// awaitNews waits for the phase that q names, or for any change after the
// one that the controller knows: by what it has seen, or else, unless it asks
// just that, by what was there when its call came.
func (s *server) awaitNews(patience context.Context, q *control.Request, c *call) {
	known, seen := q.Seen[s.config.Agent]
	if !seen && q.Verb != control.VerbStatus {
		known = c.change
	}
	for patience.Err() == nil {
		s.mu.Lock()
		change, wanted, news := s.change, s.wanted, s.news
		s.mu.Unlock()
		poll := time.Hour
		if q.Until == "" {
			if change > known {
				return
			}
		} else if wanted > known || reached(s.job.Members(), q.Until) {
			return
		} else {
			poll = phasePoll
		}
		timer := time.NewTimer(poll)
		select {
		case <-news:
		case <-timer.C:
		case <-s.ended:
			timer.Stop()
			return
		case <-patience.Done():
		}
		timer.Stop()
	}
}

// reached reports whether all members are in the phase, or one has failed.
func reached(members []control.MemberStatus, phase control.Phase) bool {
	if anyFailed(members) {
		return true
	}
	for _, m := range members {
		if !m.Phase.AtLeast(phase) {
			return false
		}
	}
	return len(members) > 0
}

// status is the agent's state as it is now.
func (s *server) status() *control.Status {
	ended := false
	select {
	case <-s.ended:
		ended = true
	default:
	}
	s.mu.Lock()
	change, members := s.change, s.final
	s.mu.Unlock()
	if !ended {
		members = s.job.Members()
	}
	return &control.Status{Change: change, Members: members, Undos: s.files.undo.Status(), Ended: ended, Closed: s.job.Closed()}
}

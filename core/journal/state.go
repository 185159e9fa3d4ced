package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/transferpy/transferpy/core/agent/lines"
)

// Bounds of a journal. They are far above what a transfer writes and keep a
// damaged or foreign file from taking the memory of the control host.
const (
	maxLine    = 16 << 20 // a plan is no longer than the message that hands it out
	maxRecords = 1 << 16
	maxHosts   = 1 << 14
	maxMembers = 1 << 14
	maxMember  = 64 // bytes of a member's name
)

// State is what a journal tells, record by record.
type State struct {
	Header Header
	Owner  Owner // the last one
	Hosts  []Host
	Undos  []Undo // oldest first
	Holes  []Hole // of living agents
	Phase  string
	Plan   json.RawMessage // nil: there is nothing that could be taken over
	// Failed are the targets that were given up before the commit, each once.
	Failed   []Failure
	Stopping *Stopping // nil: it was not given up
	Detached *Detached // nil: the last owner is there, or has died
	// Committed are the targets that are known to be published, by the names
	// of their members, in the order in which that was heard.
	Committed []string
	Outcome   *Outcome // of the last attempt; nil while one is under way
	Kept      *Kept    // what a failed attempt has left to be resumed
	Resumed   *Resumed // the last resumption
	Resumes   int      // how often it was resumed
	Ended     bool     // nothing is left on any host
}

// Generation is the control generation of the last owner; 0 before the
// first.
func (s *State) Generation() uint64 { return s.Owner.Generation }

// kinds is how many kinds of a record are set; more than one would leave one
// of them out.
func (r *Record) kinds() int {
	n := 0
	for _, set := range []bool{r.Owner != nil, len(r.Hosts) > 0, r.Undo != nil, r.Done != nil, r.Phase != "", len(r.Committed) > 0,
		len(r.Plan) > 0, len(r.Failed) > 0, r.Stopping != nil, r.Detached != nil, r.Outcome != nil, r.Kept != nil, r.Resumed != nil, r.Hole != nil, r.Ended} {
		if set {
			n++
		}
	}
	return n
}

// apply takes one record into the state.
func (s *State) apply(r Record) error {
	if n := r.kinds(); n > 1 {
		return fmt.Errorf("a record of %d kinds", n)
	}
	switch {
	case r.Owner != nil:
		if r.Owner.Generation <= s.Owner.Generation {
			return fmt.Errorf("owner of generation %d after %d", r.Owner.Generation, s.Owner.Generation)
		}
		s.Owner, s.Detached = *r.Owner, nil
	case len(r.Hosts) > 0:
		for _, h := range r.Hosts {
			if err := s.setHost(h); err != nil {
				return err
			}
		}
	case r.Undo != nil:
		s.Undos = append(s.Undos, *r.Undo)
	case r.Done != nil:
		return s.markDone(*r.Done)
	case r.Phase != "":
		s.Phase = r.Phase
	case len(r.Plan) > 0:
		s.Plan = r.Plan
	case len(r.Failed) > 0:
		return s.fail(r.Failed)
	case r.Stopping != nil:
		s.Stopping = r.Stopping
	case r.Detached != nil:
		s.Detached = r.Detached
	case len(r.Committed) > 0:
		return s.commit(r.Committed)
	case r.Outcome != nil:
		s.Outcome = r.Outcome
	case r.Kept != nil:
		if err := checkMembers(r.Kept.Members); err != nil {
			return err
		}
		s.Kept = r.Kept
	case r.Resumed != nil:
		return s.resume(r.Resumed)
	case r.Hole != nil:
		return s.setHole(*r.Hole)
	case r.Ended:
		s.Ended, s.Kept = true, nil
	default:
		return errors.New("a record without content, or of a kind that this version does not know")
	}
	return nil
}

// markDone marks the newest undo of that name: a resumed transfer may have
// one of the same name again.
func (s *State) markDone(d Done) error {
	for i := len(s.Undos) - 1; i >= 0; i-- {
		if u := &s.Undos[i]; u.Agent == d.Agent && u.Undo.ID == d.ID {
			u.Done = true
			return nil
		}
	}
	return fmt.Errorf("undo %q of agent %q is done, and was never deferred", d.ID, d.Agent)
}

// fail notes failures; of several of one target the first counts.
func (s *State) fail(list []Failure) error {
	for _, f := range list {
		if err := checkMembers([]string{f.Member}); err != nil {
			return err
		}
		if f.Error == nil {
			return fmt.Errorf("%q has failed of nothing", f.Member)
		}
		if !slices.ContainsFunc(s.Failed, func(old Failure) bool { return old.Member == f.Member }) {
			s.Failed = append(s.Failed, f)
		}
	}
	if len(s.Failed) > maxMembers {
		return fmt.Errorf("more than %d failures", maxMembers)
	}
	return nil
}

func (s *State) commit(members []string) error {
	if err := checkMembers(members); err != nil {
		return err
	}
	for _, name := range members {
		if !slices.Contains(s.Committed, name) {
			s.Committed = append(s.Committed, name)
		}
	}
	if len(s.Committed) > maxMembers {
		return fmt.Errorf("more than %d targets", maxMembers)
	}
	return nil
}

func (s *State) resume(r *Resumed) error {
	if err := checkMembers(r.Members); err != nil {
		return err
	}
	if s.Ended {
		return errors.New("it was resumed after its end")
	}
	s.Resumed, s.Kept, s.Outcome, s.Phase = r, nil, nil, ""
	s.Plan, s.Failed, s.Stopping, s.Detached, s.Holes = nil, nil, nil, nil, nil
	s.Resumes++
	return nil
}

// checkMembers bounds the names of members; whose they are is checked by who
// made them.
func checkMembers(names []string) error {
	if len(names) > maxMembers {
		return fmt.Errorf("%d members", len(names))
	}
	for _, name := range names {
		if name == "" || len(name) > maxMember {
			return fmt.Errorf("no member's name: %.80q", name)
		}
	}
	return nil
}

func (s *State) setHost(h Host) error {
	for i := range s.Hosts {
		if s.Hosts[i].Executor == h.Executor && s.Hosts[i].Host == h.Host {
			s.Hosts[i] = h
			return nil
		}
	}
	if len(s.Hosts) >= maxHosts {
		return fmt.Errorf("more than %d hosts", maxHosts)
	}
	s.Hosts = append(s.Hosts, h)
	return nil
}

// decode reads a journal. whole is the length of what was understood: a last
// line without its newline was being written when the process or the machine
// died, nothing that it tells of has been done, and it is left out.
func decode(r io.Reader) (s *State, whole int64, err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	line, err := lines.Next(br, maxLine)
	if err != nil {
		return nil, 0, fmt.Errorf("line 1: %w", err)
	}
	s = &State{}
	if err := strict(line, &s.Header); err != nil {
		return nil, 0, fmt.Errorf("line 1: %w", err)
	}
	if s.Header.V < oldest || s.Header.V > Version {
		return nil, 0, fmt.Errorf("it has version %d, this program reads versions %d to %d", s.Header.V, oldest, Version)
	}
	if err := checkID(s.Header.Transfer); err != nil {
		return nil, 0, fmt.Errorf("line 1: %w", err)
	}
	whole = int64(len(line)) + 1
	for n := 2; n <= maxRecords; n++ {
		line, err := lines.Next(br, maxLine)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return s, whole, nil
		}
		if err != nil {
			return s, whole, fmt.Errorf("line %d: %w", n, err)
		}
		var rec Record
		if err := strict(line, &rec); err != nil {
			return s, whole, fmt.Errorf("line %d: %w", n, err)
		}
		if err := s.apply(rec); err != nil {
			return s, whole, fmt.Errorf("line %d: %w", n, err)
		}
		whole += int64(len(line)) + 1
	}
	return s, whole, fmt.Errorf("more than %d lines", maxRecords)
}

// strict decodes one JSON object and refuses fields that it does not know:
// leaving out a record that a newer program wrote could leave out an undo.
func strict(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value in a line")
	}
	return nil
}

// Summary is one journal in a list.
type Summary struct {
	Transfer string
	Created  time.Time
	Held     bool      // a living process holds its lock
	PID      int       // of its last owner
	UID      int       // of its user
	Since    time.Time // when that owner took it
	Detached *Detached
	Planned  bool // another process can take it over
	Phase    string
	Ended    bool // nothing is left on any host
	Kept     *Kept
	Outcome  *Outcome
	Request  json.RawMessage
	Err      error // it could not be read; the rest is empty but for Transfer
}

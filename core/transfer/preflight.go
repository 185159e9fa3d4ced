package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// clockSkew is how far a host's clock may be off before it is worth a word:
// rules expire and files are dated by it.
const clockSkew = 2 * time.Minute

// preflight asks all hosts at once and lets the mode judge. Nothing is
// changed on any host. One refusal refuses the whole run; all are told.
func (r *run) preflight(ctx context.Context) error {
	questions, err := r.mode.Questions(ctx, r.transfer)
	if err != nil {
		return &refusal{ExitRefused, err}
	}
	union, err := merge(questions, r.hosts)
	if err != nil {
		return &refusal{ExitRefused, err}
	}
	answers, refusals := r.probe(ctx, union)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if len(refusals) == 0 {
		r.found, err = r.mode.Inspect(ctx, r.transfer, answers, r.hostBefore())
		if err != nil {
			return &refusal{ExitRefused, err}
		}
		if refusals = r.found.Refusals; len(refusals) == 0 {
			refusals = r.collisions()
		}
	}
	if err := r.refuse(refusals); err != nil {
		return err
	}
	for _, w := range r.found.Warnings {
		r.warn("", w)
	}
	r.emit(Event{Type: EventPreflight, Total: r.found.Bytes, AtLeast: r.found.AtLeast && r.found.Bytes >= 0, Message: sizes(r.found)})
	return nil
}

// refuse tells of every refusal and makes the first the run's error.
func (r *run) refuse(refusals []*sdk.Error) error {
	if len(refusals) == 0 {
		return nil
	}
	for _, e := range refusals {
		r.fail(e)
	}
	r.refusals = refusals
	first := *refusals[0]
	if more := len(refusals) - 1; more == 1 {
		first.Message += ", and one more refusal"
	} else if more > 1 {
		first.Message += fmt.Sprintf(", and %d more refusals", more)
	}
	return &refusal{ExitRefused, &first}
}

// probe asks the union of all questions and hands each host's answers back
// under the host's own ids.
func (r *run) probe(ctx context.Context, u union) (answers []sdk.Answers, refusals []*sdk.Error) {
	if r.resumed {
		u.probe.Resume = r.id
	}
	replies := r.fleet.Probe(ctx, u.probe, u.keep)
	now := time.Now()
	for _, host := range r.hosts {
		a := replies[host]
		if a.Err != nil {
			refusals = append(refusals, a.Err)
			continue
		}
		facts := a.Reply.Facts
		r.facts[host] = facts
		r.clocks[host] = facts.Now.Sub(now)
		if skew := r.clocks[host]; skew.Abs() > clockSkew {
			r.warn(host, fmt.Sprintf("its clock is off by about %s", skew.Round(time.Second)))
		}
		mine, err := u.answersOf(host, facts)
		if err != nil {
			refusals = append(refusals, err)
		}
		answers = append(answers, mine)
	}
	return answers, refusals
}

// collisions refuses two targets of one host and user that end in the same
// directory: the second would find the names of the first. A mode cannot see
// that two names lead to one host.
func (r *run) collisions() []*sdk.Error {
	var refusals []*sdk.Error
	type place struct {
		instance string
		path     sdk.Raw
	}
	first := map[place]Endpoint{}
	for _, t := range r.req.Targets {
		p := place{r.facts[t.Host].Instance, cleanPath(t.Path)}
		if old, taken := first[p]; taken {
			refusals = append(refusals, &sdk.Error{Kind: sdk.KindExists, Host: t.Host,
				Message: fmt.Sprintf("%s is the same directory as %s:%s, another target", t.Path.Display(), old.Host, old.Path.Display()),
				Hint:    "name each target once"})
			continue
		}
		first[p] = t
	}
	return refusals
}

func sizes(f sdk.Findings) string {
	switch {
	case f.Bytes < 0:
		return "the size is unknown"
	case f.AtLeast && f.Entries < 0:
		return fmt.Sprintf("at least %d bytes", f.Bytes)
	case f.Entries < 0:
		return fmt.Sprintf("%d bytes", f.Bytes)
	case f.AtLeast:
		return fmt.Sprintf("at least %d bytes in %d entries", f.Bytes, f.Entries)
	}
	return fmt.Sprintf("%d bytes in %d entries", f.Bytes, f.Entries)
}

// union is the questions of all hosts in one message, which every host
// answers as a whole, and whose they were.
type union struct {
	probe    control.Probe
	paths    map[string]map[string]string // host, its own id -> id in probe
	commands map[string]map[string]string
}

// merge makes the union. Equal questions are asked once.
func merge(questions []sdk.HostQuestions, hosts []string) (union, error) {
	u := union{paths: map[string]map[string]string{}, commands: map[string]map[string]string{}}
	for _, h := range hosts {
		u.paths[h], u.commands[h] = map[string]string{}, map[string]string{}
	}
	asked := map[string]string{}
	for _, q := range questions {
		if u.paths[q.Host] == nil {
			return u, &sdk.Error{Kind: sdk.KindInternal, Host: q.Host, Message: "the mode asks a host that is none of this transfer's"}
		}
		for _, p := range q.Paths {
			id, known := intern(asked, "p", struct {
				Path  sdk.Raw
				Count bool
			}{p.Path, p.Count})
			if u.paths[q.Host][p.ID] = id; !known {
				p.ID = id
				u.probe.Paths = append(u.probe.Paths, p)
			}
		}
		for _, c := range q.Commands {
			id, known := intern(asked, "c", c.Command)
			if u.commands[q.Host][c.ID] = id; !known {
				c.ID = id
				u.probe.Commands = append(u.probe.Commands, c)
			}
		}
	}
	return u, nil
}

// intern gives a question an id, the same for equal ones.
func intern(asked map[string]string, prefix string, question any) (id string, known bool) {
	text, err := json.Marshal(question)
	if err != nil {
		text = fmt.Appendf(nil, "%#v", question) // strings and numbers always marshal
	}
	key := prefix + string(text)
	if id, known = asked[key]; !known {
		id = fmt.Sprintf("%s%d", prefix, len(asked))
		asked[key] = id
	}
	return id, known
}

// keep leaves of a host's facts what it was asked itself.
func (u union) keep(host string, facts *control.Facts) {
	mine := map[string]bool{}
	for _, ids := range []map[string]string{u.paths[host], u.commands[host]} {
		for _, id := range ids {
			mine[id] = true
		}
	}
	maps.DeleteFunc(facts.Paths, func(id string, _ sdk.PathFacts) bool { return !mine[id] })
	maps.DeleteFunc(facts.Commands, func(id string, _ sdk.Result) bool { return !mine[id] })
}

// answersOf picks a host's answers out of its facts.
func (u union) answersOf(host string, facts *control.Facts) (sdk.Answers, *sdk.Error) {
	a := sdk.Answers{Host: host, Paths: map[string]sdk.PathFacts{}, Commands: map[string]sdk.Result{}}
	for own, id := range u.paths[host] {
		p, ok := facts.Paths[id]
		if !ok {
			return a, &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: fmt.Sprintf("the agent did not answer question %q", own)}
		}
		a.Paths[own] = p
	}
	for own, id := range u.commands[host] {
		c, ok := facts.Commands[id]
		if !ok {
			return a, &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: fmt.Sprintf("the agent did not answer command %q", own)}
		}
		c.Host = host
		a.Commands[own] = c
	}
	return a, nil
}

package transfer

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// site is hosts in memory behind an executor: each runs one agent that obeys
// the control messages in no time, and fails where a test says so.
type site struct {
	sdk.Plugin
	mu     sync.Mutex
	hosts  map[string]*fakeHost
	traits sdk.ExecutorTraits
	calls  []string          // verb and hosts of each call
	ends   map[string]string // the host of each member, from the plan
	hook   func(verb control.Verb)
	dawdle func(ctx context.Context, req *control.Request) // before it is answered
}

// fakeHost is one host of a site.
type fakeHost struct {
	instance string
	prepared bool
	ended    bool
	phases   map[string]control.Phase // by member
	errs     map[string]*sdk.Error
	roots    map[string]string
	undos    []control.UndoStatus
	commands []string // that were run

	// What goes wrong, by verb.
	down        map[control.Verb]int  // calls that fail on the way; -1: all
	hangs       map[control.Verb]bool // it does not answer, and the call does not end
	dies        map[control.Verb]bool
	failAt      map[control.Verb]*sdk.Error // the members fail
	slow        int                         // status calls before it is verified
	root        string
	double      bool
	undoFails   bool
	gone        bool
	givesUp     bool               // it ends by itself before it hears of the commit
	lives       int                // agents that were prepared here so far
	forgetful   bool               // it keeps nothing
	kept        map[string]bool    // members whose state is kept
	prepares    []*control.Prepare // that it was sent
	probes      []*control.Probe
	gaveUp      []control.PeerError // by a source
	superseded  uint64              // it obeys a controller of this generation
	moves       bool                // its members move data until they are verified
	generations []uint64

	site     *site
	clock    time.Duration  // by how much it goes before
	filtered string         // the firewalls, with a + between, that let others reach it once they have opened; empty: they do
	opened   map[string]int // how often each firewall has
	rounds   int            // tried while something was closed

	packed   []byte           // its manifest, if it is the source
	entries  int64            // of that
	verified []control.Answer // to verify, one after the other; the last for good
	verifies []*control.Request
	files    map[sdk.Raw][]byte // that were put
}

func newSite(names ...string) *site {
	s := &site{hosts: map[string]*fakeHost{}, ends: map[string]string{}, traits: sdk.ExecutorTraits{CanPut: false, PollEvery: time.Millisecond, MaxCalls: 8}}
	for _, n := range names {
		s.hosts[n] = &fakeHost{
			site: s, opened: map[string]int{}, instance: "i-" + n, phases: map[string]control.Phase{}, errs: map[string]*sdk.Error{}, roots: map[string]string{},
			down: map[control.Verb]int{}, dies: map[control.Verb]bool{}, failAt: map[control.Verb]*sdk.Error{},
			root: strings.Repeat("a", 64), files: map[sdk.Raw][]byte{}, kept: map[string]bool{},
		}
	}
	return s
}

// Run implements sdk.Executor.
func (s *site) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	if s.file(hosts, cmd) {
		for _, h := range hosts {
			emit(sdk.Result{Host: h})
		}
		return nil
	}
	verb := control.VerbProbe
	if cmd.Argv[0] != "sh" {
		verb = control.Verb(cmd.Argv[1])
	}
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf("%s %s", verb, strings.Join(slices.Sorted(slices.Values(hosts)), ",")))
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(verb)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	req, err := control.DecodeRequest(bytes.NewReader(s.message(hosts[0], cmd)))
	if err != nil {
		return err
	}
	if s.dawdle != nil {
		s.dawdle(ctx, req)
	}
	hanging := false
	defer func() {
		if hanging {
			<-ctx.Done()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range hosts {
		h := s.hosts[name]
		if h.hangs[verb] {
			hanging = true
			continue
		}
		if n := h.down[verb]; n != 0 {
			h.down[verb] = n - 1
			emit(sdk.Result{Host: name, Err: &sdk.Error{Kind: sdk.KindUnreachable, Message: "no route to host"}})
			continue
		}
		reply := h.answer(req)
		data, err := control.EncodeReply(reply)
		if err != nil {
			return err
		}
		emit(sdk.Result{Host: name, Stdout: data})
		if h.double {
			emit(sdk.Result{Host: name, ExitCode: 1})
		}
	}
	return nil
}

// message is the request of a call, which may have been put before.
func (s *site) message(host string, cmd sdk.Command) []byte {
	if len(cmd.Argv) < 4 || cmd.Argv[2] != "--message" {
		return cmd.Stdin
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts[host].files[cmd.Argv[3]]
}

// file takes a command that writes a piece of a file or removes files, and
// reports whether it was one.
func (s *site) file(hosts []string, cmd sdk.Command) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range hosts {
		h := s.hosts[name]
		switch {
		case cmd.Argv[0] == "rm":
			for _, path := range cmd.Argv[1:] {
				delete(h.files, path)
			}
		case len(cmd.Argv) == 7 && cmd.Argv[0] == "sh" && strings.HasPrefix(string(cmd.Argv[4]), "/state/in/"):
			h.files[cmd.Argv[4]] = append(h.files[cmd.Argv[4]], cmd.Stdin...)
		default:
			return false
		}
	}
	return true
}

// id is the id of the agent that was prepared last.
func (h *fakeHost) id() string {
	if h.lives > 1 {
		return fmt.Sprintf("agent-%s-%d", h.instance, h.lives)
	}
	return "agent-" + h.instance
}

// answer is the agent's program.
func (h *fakeHost) answer(req *control.Request) *control.Reply {
	if h.dies[req.Verb] {
		h.gone = true
	}
	switch req.Verb {
	case control.VerbProbe:
		h.probes = append(h.probes, req.Probe)
		f := &control.Facts{Instance: h.instance, Now: time.Now().Add(h.clock), StateDir: "/state", Program: "/agent", Arch: "amd64", Paths: map[string]sdk.PathFacts{}}
		for _, q := range req.Probe.Paths {
			f.Paths[q.ID] = sdk.PathFacts{Exists: true, Size: int64(len(q.Path))}
		}
		return &control.Reply{Facts: f}
	case control.VerbPrepare:
		if err := h.failAt[req.Verb]; err != nil {
			return &control.Reply{Error: err}
		}
		h.prepare(req.Prepare)
		return h.reply(control.Answer{Ready: &control.Ready{Kept: req.Prepare.Resume != "" && len(h.kept) > 0, Fingerprint: strings.Repeat("f", 64), SigningKey: make([]byte, 32), Port: 4400, Addresses: []string{"192.0.2.1"}}})
	case control.VerbDo:
		return h.doParts(req)
	}
	if !h.prepared || h.ended && len(h.kept) == 0 {
		return &control.Reply{Agents: []control.Answer{}}
	}
	if h.ended { // what was kept looks as if its agent had died
		h.gone = true
	}
	if req.Generation < h.superseded {
		return h.reply(control.Answer{Superseded: h.superseded, Error: &sdk.Error{Kind: sdk.KindPermission, Message: "controlled by another"}})
	}
	h.generations = append(h.generations, req.Generation)
	if h.gone && req.Verb != control.VerbRecover {
		return h.reply(control.Answer{Gone: true, Error: &sdk.Error{Kind: sdk.KindCrashed, Message: "died"}, Status: &control.Status{Change: control.ChangeGone}})
	}
	switch req.Verb {
	case control.VerbManifest:
		return h.reply(h.piece(req.Manifest))
	case control.VerbVerify:
		h.verifies = append(h.verifies, req)
		a := h.verified[0]
		if len(h.verified) > 1 {
			h.verified = h.verified[1:]
		}
		return h.reply(a)
	}
	h.step(req)
	return h.reply(control.Answer{Status: h.status()})
}

// piece is a piece of the manifest, a small one.
func (h *fakeHost) piece(m *control.Manifest) control.Answer {
	if err := h.failAt[control.VerbManifest]; err != nil {
		return control.Answer{Error: err}
	}
	rest := h.packed[m.Offset:]
	return control.Answer{Piece: &control.Piece{Size: int64(len(h.packed)), Data: rest[:min(50, len(rest))]}}
}

// prepare makes an agent, a fresh one where the last has ended.
func (h *fakeHost) prepare(p *control.Prepare) {
	if h.ended || !h.prepared {
		h.lives++
		h.ended, h.gone, h.undos = false, false, nil
		h.phases, h.errs, h.roots = map[string]control.Phase{}, map[string]*sdk.Error{}, map[string]string{}
	}
	h.prepared = true
	h.prepares = append(h.prepares, p)
}

// step moves the members on.
func (h *fakeHost) step(req *control.Request) {
	switch req.Verb {
	case control.VerbStart:
		for _, m := range req.Start.Members {
			h.site.ends[m.Name] = m.Host
			if m.Agent == h.id() {
				h.phases[m.Name] = control.PhaseReady
				if h.site.closed() != nil {
					h.phases[m.Name] = control.PhaseLinking
				}
			}
		}
		if !req.Start.Begins && h.slow == 0 {
			h.advance(control.PhaseVerified)
		}
	case control.VerbBegin:
		h.advance(control.PhaseVerified)
	case control.VerbStatus:
		if h.moves {
			h.advance(control.PhaseMoving)
		}
		if h.slow = max(0, h.slow-1); h.slow == 0 {
			h.advance(control.PhaseVerified)
		}
	case control.VerbCommit:
		for _, name := range req.Commit.Members {
			if h.phases[name] == control.PhaseVerified && !h.givesUp {
				h.phases[name] = control.PhaseCommitted
			}
		}
		h.end(h.givesUp || req.Commit.Stop && h.idle())
	case control.VerbStop, control.VerbRecover:
		keep := req.Stop != nil && req.Stop.Keep || req.Recover != nil && req.Recover.Keep
		for name, p := range h.phases {
			if p != control.PhaseCommitted {
				h.phases[name] = control.PhaseEnded
				if keep && !h.forgetful && name != "source" {
					h.kept[name] = true
				}
			}
		}
		if !keep {
			clear(h.kept)
		}
		h.end(true)
	}
	if err := h.failAt[req.Verb]; err != nil {
		for name := range h.phases {
			h.phases[name], h.errs[name] = control.PhaseFailed, err
		}
	}
}

// idle reports whether no member has anything left to do.
func (h *fakeHost) idle() bool {
	for name, p := range h.phases {
		if p == control.PhaseFailed || name == "source" && !p.AtLeast(control.PhaseVerified) || name != "source" && !p.AtLeast(control.PhaseCommitted) {
			return false
		}
	}
	return true
}

func (h *fakeHost) advance(to control.Phase) {
	if h.site.closed() != nil {
		return
	}
	for name, p := range h.phases {
		if p != control.PhasePrepared && !p.AtLeast(to) {
			h.phases[name], h.roots[name] = to, h.root
		}
	}
}

func (h *fakeHost) end(really bool) {
	if !really {
		return
	}
	for i := range h.undos {
		if h.undoFails {
			h.undos[i].Error = &sdk.Error{Kind: sdk.KindInternal, Message: "cannot"}
			continue
		}
		h.undos[i].Done = true
	}
	h.ended = true
}

func (h *fakeHost) doPart(key string, part control.DoPart) control.DoResult {
	if part.Undo != nil {
		h.undos = append(h.undos, control.UndoStatus{ID: part.Undo.ID, What: part.Undo.What})
	}
	d := control.DoResult{Part: key}
	for _, c := range part.Commands {
		h.commands = append(h.commands, argvText(c.Argv))
		d.Results = append(d.Results, sdk.Result{Stdout: h.run(key, c)})
	}
	return d
}

func (h *fakeHost) doParts(req *control.Request) *control.Reply {
	var results []control.DoResult
	for key, part := range req.Do.Parts {
		if key != h.id() && key != h.instance {
			continue
		}
		for _, p := range append([]control.DoPart{part}, part.Then...) {
			results = append(results, h.doPart(key, p))
		}
	}
	if req.Transfer == "" {
		return &control.Reply{Done: results}
	}
	return h.reply(control.Answer{Done: results})
}

func (h *fakeHost) status() *control.Status {
	s := &control.Status{Closed: h.finds(), Change: uint64(len(h.generations)), Ended: h.ended, Undos: slices.Clone(h.undos)}
	for _, name := range slices.Sorted(maps.Keys(h.phases)) {
		s.Members = append(s.Members, control.MemberStatus{Name: name, Phase: h.phases[name], Root: h.roots[name], Error: h.errs[name], Bytes: 1000, Files: 3, Entries: h.entries, Failed: h.gaveUp, Kept: h.keptAt(name)})
	}
	return s
}

func (h *fakeHost) keptAt(member string) sdk.Raw {
	if h.kept[member] && h.ended {
		return sdk.Raw("/srv/" + member)
	}
	return ""
}

// reply adds an answer for an agent that is none of the transfer's, as a host
// that lies might.
func (h *fakeHost) reply(a control.Answer) *control.Reply {
	a.Agent = h.id()
	liar := control.Answer{Agent: "agent-i-somebody", Status: &control.Status{Members: []control.MemberStatus{{Name: "target-1", Phase: control.PhaseFailed, Error: &sdk.Error{Kind: sdk.KindInternal, Message: "lie"}}}}}
	if a.Ready != nil || h.ended || h.gone {
		return &control.Reply{Agents: []control.Answer{a}}
	}
	return &control.Reply{Agents: []control.Answer{liar, a}}
}

// noAgents is never asked for a binary, since every fake host has one.
type noAgents struct{}

func (noAgents) Digests(bool) (map[string]string, error) { return map[string]string{"amd64": "d"}, nil }
func (noAgents) Packed(string) ([]byte, error)           { return nil, os.ErrNotExist }

// trial is one transfer from src to the other hosts of a site.
type trial struct {
	site   *site
	mode   *fakeMode
	req    Request
	deps   Deps
	events []Event
	ctx    context.Context
}

func newTrial(t *testing.T, targets ...string) *trial {
	t.Helper()
	tr := &trial{site: newSite(append([]string{"src"}, targets...)...), mode: &fakeMode{}, ctx: t.Context()}
	tr.req = Request{Source: Endpoint{"x", "src", "/data"}, Mode: "m", ControlLostFor: time.Minute}
	for _, name := range targets {
		tr.req.Targets = append(tr.req.Targets, Endpoint{"x", name, sdk.Raw("/srv/" + name)})
	}
	tr.deps = Deps{Plugins: plugins{tr.site, tr.mode}, StateDir: filepath.Join(t.TempDir(), "control"), Agents: noAgents{}}
	return tr
}

func (tr *trial) run(t *testing.T) *Report {
	t.Helper()
	report, err := Run(tr.ctx, tr.req, tr.deps, func(e Event) { tr.events = append(tr.events, e) })
	if (err != nil) != (report.Err != nil) {
		t.Errorf("Run's error is %v, the report's %v", err, report.Err)
	}
	if last := tr.events[len(tr.events)-1]; last.Type != EventDone || last.Report != report {
		t.Errorf("the last event is %+v", last)
	}
	return report
}

// verbs are the calls without their hosts.
func (tr *trial) verbs() string {
	var verbs []string
	for _, c := range tr.site.calls {
		verbs = append(verbs, strings.Fields(c)[0])
	}
	return strings.Join(verbs, " ")
}

package transfer

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// makePlan asks the mode for its plan, checks it, and shows it.
func (r *run) makePlan(ctx context.Context) error {
	plan, err := r.mode.Plan(ctx, r.transfer, r.found)
	if err != nil {
		return &refusal{ExitRefused, err}
	}
	r.plan = plan
	if err := r.checkPlan(); err != nil {
		return &refusal{ExitRefused, err}
	}
	if err := r.refuse(append(r.loops(), r.reserved()...)); err != nil {
		return err
	}
	if r.resumed && plan.Read.Builtin != sdk.BuiltinTree {
		r.warn(r.req.Source.Host, "a stream cannot be gone on with: it is read and sent anew from its beginning")
	}
	if r.dry() && r.firewalls.any() {
		if err := r.foresee(ctx); err != nil {
			return &refusal{ExitRefused, err}
		}
	}
	view := r.view()
	r.emit(Event{Type: EventPlanned, Plan: view, Total: plan.Bytes, AtLeast: view.AtLeast, Message: "the plan stands"})
	return nil
}

// checkPlan refuses what no agent could carry out, before any is prepared.
func (r *run) checkPlan() error {
	p := &r.plan
	if len(p.Targets) != len(r.req.Targets) {
		return r.badPlan("it has %d destinations for %d targets", len(p.Targets), len(r.req.Targets))
	}
	switch p.Read.Builtin {
	case "", sdk.BuiltinTree, sdk.BuiltinFile:
	default:
		return r.badPlan("no agent can read by %q", p.Read.Builtin)
	}
	if (p.Read.Builtin == sdk.BuiltinTree) != (p.Write.Builtin == sdk.BuiltinTree) {
		return r.badPlan("a tree is read or written by the other end as a stream")
	}
	if r.req.Manifest != "" && p.Read.Builtin != sdk.BuiltinTree {
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("mode %s reads a stream, of which there is no list of files", r.req.Mode), Hint: "leave out --manifest"}
	}
	if r.req.SlowAsked && r.req.SlowTarget == control.SlowDetach && r.slowTarget() != control.SlowDetach {
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("a slow target cannot be detached: mode %s reads a stream, which cannot be read again to serve it afterwards", r.req.Mode),
			Hint: "leave out --slow-target detach: a target that is slow is waited for, and named"}
	}
	verify, err := r.verifyLevel()
	if err != nil {
		return err
	}
	r.verify = verify
	start := r.startPlan()
	for i := range start.Members { // what only agents can tell
		m := &start.Members[i]
		m.Agent, m.Fingerprint, m.SigningKey, m.Port = "agent", strings.Repeat("0", 64), make([]byte, 32), 1
	}
	req := control.Request{V: control.Version, Verb: control.VerbStart, Transfer: r.id, Call: control.NewID(), Start: &start}
	if err := req.Validate(); err != nil {
		return r.badPlan("%v", err)
	}
	return nil
}

func (r *run) badPlan(format string, args ...any) error {
	return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("mode %s made a plan that cannot be carried out: ", r.req.Mode) + fmt.Sprintf(format, args...),
		Hint: "this is a mistake of the mode's plugin"}
}

// verifyLevel is how the copy is verified: as asked for, if the mode's data
// can be.
func (r *run) verifyLevel() (control.VerifyLevel, error) {
	switch want := r.req.Verify; {
	case want == control.VerifySigned,
		want == control.VerifyReadBack && slices.Contains(r.plan.Verify, sdk.VerifyDisk),
		want == control.VerifyReceived && len(r.plan.Verify) > 0:
		return want, nil
	}
	hint := "use --no-checksum"
	if slices.Contains(r.plan.Verify, sdk.VerifyStream) {
		hint = "use --parallel-checksum or --no-checksum"
	}
	return "", &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("what mode %s writes cannot be verified as asked for (%s)", r.req.Mode, r.req.Verify), Hint: hint}
}

// loops refuses a target inside the source on one host: the copy would be
// read while it is written.
func (r *run) loops() []*sdk.Error {
	if r.plan.Read.Builtin != sdk.BuiltinTree {
		return nil
	}
	source := cleanPath(r.plan.Read.Path)
	var refusals []*sdk.Error
	for i, d := range r.plan.Targets {
		t := r.req.Targets[i]
		dir := cleanPath(d.Dir)
		inside := dir == source || strings.HasPrefix(string(dir), strings.TrimSuffix(string(source), "/")+"/")
		if inside && !d.External && r.facts[t.Host].Instance == r.facts[r.req.Source.Host].Instance {
			refusals = append(refusals, &sdk.Error{Kind: sdk.KindConfig, Host: t.Host,
				Message: fmt.Sprintf("%s lies inside the source %s", t.Path.Display(), source.Display()), Hint: "choose a target directory outside the source"})
		}
	}
	return refusals
}

// stagingPrefix begins the names of staging directories, which no copy may
// have: it would be taken for what a dead transfer left.
const stagingPrefix = ".transferpy-"

// reserved refuses final names that are kept for staging directories.
func (r *run) reserved() []*sdk.Error {
	var refusals []*sdk.Error
	for i, d := range r.plan.Targets {
		for _, name := range d.Publish {
			if strings.HasPrefix(string(name), stagingPrefix) {
				refusals = append(refusals, &sdk.Error{Kind: sdk.KindConfig, Host: r.req.Targets[i].Host,
					Message: fmt.Sprintf("%s cannot be put into %s: names that begin with %s are kept for staging directories", name.Display(), d.Dir.Display(), stagingPrefix),
					Hint:    "rename it on the source"})
			}
		}
	}
	return refusals
}

func cleanPath(p sdk.Raw) sdk.Raw { return sdk.Raw(path.Clean(string(p))) }

// view is the plan for people.
func (r *run) view() *PlanView {
	v := &PlanView{Bytes: r.plan.Bytes, Entries: r.found.Entries, AtLeast: r.atLeast()}
	lines := map[string][]string{}
	add := func(host, format string, args ...any) {
		lines[host] = append(lines[host], fmt.Sprintf(format, args...))
	}
	port := "the first free port of 4400-4499"
	if r.req.Port > 0 {
		port = fmt.Sprintf("port %d", r.req.Port)
	}
	for _, h := range r.hosts {
		add(h, "agent %s", r.fleet.PlaceOf(h).Program.Display())
		add(h, "listen on %s", port)
	}
	source := r.req.Source.Host
	add(source, "read %s", stageText(r.plan.Read))
	for i, t := range r.req.Targets {
		r.viewTarget(func(format string, args ...any) { add(t.Host, format, args...) }, i)
	}
	for _, note := range r.plan.Notes {
		add(source, "%s", note)
	}
	for _, h := range r.hosts {
		v.Hosts = append(v.Hosts, HostPlan{Host: h, Lines: lines[h]})
	}
	return v
}

// atLeast reports whether the plan's bytes are a lower bound: as Inspect found
// them, unless what is moved is something else than what comes of it.
func (r *run) atLeast() bool {
	return r.found.AtLeast && r.plan.Bytes >= 0 && r.plan.Bytes == r.found.Bytes
}

func (r *run) viewTarget(add func(format string, args ...any), i int) {
	d := r.plan.Targets[i]
	r.viewFirewall(add, i)
	staging := d.Dir + "/" + stagingPrefix + sdk.Raw(r.id+"-"+r.names[i])
	add("stage in %s", staging.Display())
	add("write %s", stageText(r.plan.Write))
	if r.verify != control.VerifySigned {
		add("verify: %s", r.verify)
	}
	switch {
	case d.External:
		for _, c := range d.Commit {
			add("commit: %s", argvText(c.Argv))
		}
		for _, c := range d.Abort {
			add("abort: %s", argvText(c.Argv))
		}
	case len(d.Publish) == 0:
		add("publish everything in %s", d.Dir.Display())
	default:
		for _, name := range d.Publish {
			add("publish %s", (d.Dir + "/" + name).Display())
		}
	}
}

func stageText(s sdk.Stage) string {
	if s.Command != nil {
		return "by the command " + argvText(s.Command.Argv)
	}
	return strings.TrimSpace(s.Builtin + " " + s.Path.Display())
}

func argvText(argv []sdk.Raw) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = a.Display()
	}
	return strings.Join(words, " ")
}

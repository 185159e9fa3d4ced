package remote

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// mostQuestions bounds what one probe call asks, so that the answers fit into
// the executor's output.
const mostQuestions = 200

// Probe finds or places the agent on every host and asks it. It makes one
// call for each executor; where an agent must be placed, two more. Each
// host's answer carries Facts, or the error says what is in the way there.
func (f *Fleet) Probe(ctx context.Context, probe control.Probe) map[string]Answer {
	answers := newAnswers(len(f.hosts))
	var wg sync.WaitGroup
	for _, e := range f.engines {
		var names []string
		for _, n := range f.all() {
			if f.hosts[n].engine == e {
				names = append(names, n)
			}
		}
		if len(names) > 0 {
			wg.Go(func() { f.probeWith(ctx, e, names, probe, answers) })
		}
	}
	wg.Wait()
	for name, a := range answers.byHost {
		if a.Err == nil {
			f.hosts[name].place = Place{Program: a.Reply.Facts.Program, StateDir: a.Reply.Facts.StateDir}
		}
	}
	return answers.byHost
}

// probeWith probes the hosts of one executor: the first part of the questions
// with the script that finds the agent, what did not fit in one message
// afterwards.
func (f *Fleet) probeWith(ctx context.Context, e *engine, names []string, probe control.Probe, answers *answers) {
	parts, err := split(probe, e.traits.MaxStdin)
	if err == nil {
		err = f.find(ctx, e, names, parts[0], answers)
	}
	if err != nil {
		for _, n := range names {
			answers.set(n, Answer{Err: named(err, n)})
		}
		return
	}
	for _, part := range parts[1:] {
		more := newAnswers(len(names))
		for _, group := range e.found(names, answers) {
			e.ask(ctx, group.names, sdk.Command{Argv: []sdk.Raw{group.program, sdk.Raw(control.VerbProbe)}, Stdin: part}, more)
		}
		for n, a := range more.byHost {
			if err := checkFacts(n, &a); err != nil {
				answers.set(n, Answer{Err: err})
				continue
			}
			merge(answers.byHost[n].Reply.Facts, a.Reply.Facts)
		}
	}
}

// find runs the first script with the first part of the questions, and
// places the agent where it is missing.
func (f *Fleet) find(ctx context.Context, e *engine, names []string, questions []byte, answers *answers) error {
	digests, err := f.options.Agents.Digests(e.name == "local")
	if err != nil {
		return err
	}
	argv := []sdk.Raw{"sh", "-c", findScript, "transferpy"}
	for _, dir := range f.options.AgentDirs {
		argv = append(argv, sdk.Raw("dir="+dir))
	}
	for _, arch := range slices.Sorted(maps.Keys(digests)) {
		argv = append(argv, sdk.Raw(arch+"="+digests[arch]))
	}
	missing := map[gap][]string{}
	for name, res := range e.run(ctx, names, sdk.Command{Argv: argv, Stdin: questions}) {
		g, ok, err := readGap(name, res, digests)
		if ok {
			missing[g] = append(missing[g], name)
			continue
		}
		a := Answer{Err: err}
		if err == nil {
			a.Reply, a.Err = readReply(name, "", res)
		}
		answers.set(name, factsOnly(name, a))
	}
	var wg sync.WaitGroup
	for g, hosts := range missing {
		wg.Go(func() { f.place(ctx, e, hosts, g, digests[g.arch], questions, answers) })
	}
	wg.Wait()
	return nil
}

// place puts the agent on hosts where it is missing, and probes there.
func (f *Fleet) place(ctx context.Context, e *engine, hosts []string, g gap, digest string, questions []byte, answers *answers) {
	packed, err := f.options.Agents.Packed(digest)
	if err != nil {
		for _, h := range hosts {
			answers.set(h, Answer{Err: named(err, h)})
		}
		return
	}
	slices.Sort(hosts)
	byPath, failed := e.putNew(ctx, hosts, sdk.Raw(g.dir), ".in-", packed)
	for h, err := range failed {
		answers.set(h, Answer{Err: err})
	}
	defer e.withdraw(ctx, byPath)
	for file, names := range byPath {
		more := newAnswers(len(names))
		e.ask(ctx, names, sdk.Command{
			Argv:  []sdk.Raw{"sh", "-c", placeScript, "transferpy", sdk.Raw(g.dir), sdk.Raw(digest), sdk.Raw(path.Base(string(file)))},
			Stdin: questions,
		}, more)
		for h, a := range more.byHost {
			answers.set(h, factsOnly(h, a))
			if f.options.Placed != nil && a.Err == nil {
				f.options.Placed(h, g.arch, g.dir)
			}
		}
	}
}

// gap is where an agent of an architecture is missing.
type gap struct{ arch, dir string }

// readGap reads what the first script printed where it found no agent; ok is
// false and err nil where an agent has answered.
func readGap(host string, res sdk.Result, digests map[string]string) (g gap, ok bool, err *sdk.Error) {
	line, is := bytes.CutPrefix(res.Stdout, []byte("transferpy-agent 1 "))
	if res.Err != nil || !is {
		return gap{}, false, nil
	}
	fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 4)
	if len(fields) != 4 {
		return gap{}, false, &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: fmt.Sprintf("the first script answered %.200q", line)}
	}
	what, arch, dir := fields[0], sdk.Raw(fields[1]).Display(), fields[3]
	switch what {
	case "missing":
		if digests[arch] == "" || !clean(dir) {
			return gap{}, false, &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: fmt.Sprintf("the first script answered %.200q", line)}
		}
		return gap{arch: arch, dir: dir}, true, nil
	case "arch":
		return gap{}, false, &sdk.Error{Kind: sdk.KindUnsupported, Host: host, Message: fmt.Sprintf("there is no agent for its architecture, %.40s", arch),
			Hint: fmt.Sprintf("build transferpy with one: make build ARCHES=%q", strings.Join(append(slices.Sorted(maps.Keys(digests)), arch), " "))}
	case "tool":
		return gap{}, false, &sdk.Error{Kind: sdk.KindMissingTool, Host: host, Message: "sha256sum is not installed", Hint: "install coreutils or busybox there"}
	default:
		return gap{}, false, &sdk.Error{Kind: sdk.KindPermission, Host: host,
			Message: "no directory was found in which the agent can be placed and executed",
			Hint:    "tried: /var/lib/transferpy/agents (root), ~/.cache/transferpy/agents and /var/tmp/transferpy-UID/agents; one of them must be writable, closed to others (0700) and on a file system without noexec"}
	}
}

// clean reports whether a path may be used on the host that named it.
func clean(dir string) bool {
	return len(dir) < 4096 && path.IsAbs(dir) && path.Clean(dir) == dir && !strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// factsOnly turns an answer without usable facts into an error.
func factsOnly(host string, a Answer) Answer {
	if err := checkFacts(host, &a); err != nil {
		return Answer{Err: err}
	}
	return a
}

func checkFacts(host string, a *Answer) *sdk.Error {
	if a.Err != nil {
		return a.Err
	}
	f := a.Reply.Facts
	if f == nil || !clean(string(f.Program)) || !clean(string(f.StateDir)) {
		return &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "the agent does not say where it lies"}
	}
	return nil
}

// programs is a group of hosts with the same agent's path.
type programs struct {
	program sdk.Raw
	names   []string
}

// found groups the hosts that have answered by their agent's path.
func (e *engine) found(names []string, answers *answers) []programs {
	byProgram := map[sdk.Raw][]string{}
	for _, n := range names {
		if a := answers.byHost[n]; a.Err == nil {
			byProgram[a.Reply.Facts.Program] = append(byProgram[a.Reply.Facts.Program], n)
		}
	}
	var groups []programs
	for p, hosts := range byProgram {
		groups = append(groups, programs{p, hosts})
	}
	return groups
}

// split encodes a probe into as many requests as are needed for each to fit
// into limit bytes.
func split(p control.Probe, limit int) ([][]byte, error) {
	data, err := control.EncodeRequest(&control.Request{Verb: control.VerbProbe, Call: control.NewID(), Probe: &p})
	if err != nil {
		return nil, err
	}
	n := len(p.Paths) + len(p.Commands) + len(p.Resolve)
	if len(data) <= limit && n <= mostQuestions {
		return [][]byte{data}, nil
	}
	if n <= 1 {
		return nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("a question of %d bytes is longer than the executor can carry (%d)", len(data), limit)}
	}
	a := control.Probe{Paths: p.Paths[:len(p.Paths)/2], Commands: p.Commands[:len(p.Commands)/2], Resolve: p.Resolve[:len(p.Resolve)/2], Resume: p.Resume}
	b := control.Probe{Paths: p.Paths[len(a.Paths):], Commands: p.Commands[len(a.Commands):], Resolve: p.Resolve[len(a.Resolve):], Resume: p.Resume}
	first, err := split(a, limit)
	if err != nil {
		return nil, err
	}
	second, err := split(b, limit)
	return append(first, second...), err
}

// merge adds the answers of a further probe of the same host.
func merge(to, from *control.Facts) {
	if to.Paths == nil {
		to.Paths = map[string]sdk.PathFacts{}
	}
	maps.Copy(to.Paths, from.Paths)
	if to.Commands == nil {
		to.Commands = map[string]sdk.Result{}
	}
	maps.Copy(to.Commands, from.Commands)
	if to.Resolved == nil {
		to.Resolved = map[string][]string{}
	}
	maps.Copy(to.Resolved, from.Resolved)
}

func named(err error, host string) *sdk.Error {
	e := *sdk.AsError(err)
	e.Host = host
	return &e
}

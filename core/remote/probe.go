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

// Keep is told of a host's facts as they come in, and may take out of them what
// was asked for other hosts' sake: since every host answers the questions of
// all, the rest would grow with the square of their number. It is called from
// several goroutines at once.
type Keep func(host string, facts *control.Facts)

// Probe finds or places the agent on every host and asks it. It makes one
// call for each executor; where an agent must be placed, two more. Each
// host's answer carries Facts, or the error says what is in the way there. A
// nil keep keeps all.
func (f *Fleet) Probe(ctx context.Context, probe control.Probe, keep Keep) map[string]Answer {
	if keep == nil {
		keep = func(string, *control.Facts) {}
	}
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
			wg.Go(func() { f.probeWith(ctx, e, names, probe, &prober{fleet: f, engine: e, keep: keep, answers: answers}) })
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
// afterwards. Hosts that have answered do not wait for those that have not.
func (f *Fleet) probeWith(ctx context.Context, e *engine, names []string, probe control.Probe, p *prober) {
	parts, err := split(probe, e.traits.MaxStdin)
	if err == nil {
		p.digests, err = f.options.Agents.Digests(e.name == "local")
	}
	if err != nil {
		for _, n := range names {
			p.answers.set(n, Answer{Err: named(err, n)})
		}
		return
	}
	p.first, p.rest = parts[0], parts[1:]
	p.find(ctx, names)
}

// prober asks the hosts of one executor.
type prober struct {
	fleet   *Fleet
	engine  *engine
	digests map[string]string // of the agents there are, by architecture
	first   []byte            // the questions that go with the script
	rest    [][]byte          // the others
	keep    Keep
	answers *answers
}

// find runs the first script, places the agent where it is missing, and goes
// on with the rest of the questions.
func (p *prober) find(ctx context.Context, names []string) {
	argv := []sdk.Raw{"sh", "-c", findScript, "transferpy"}
	for _, dir := range p.fleet.options.AgentDirs {
		argv = append(argv, sdk.Raw("dir="+dir))
	}
	for _, arch := range slices.Sorted(maps.Keys(p.digests)) {
		argv = append(argv, sdk.Raw(arch+"="+p.digests[arch]))
	}
	p.engine.stream(ctx, names, sdk.Command{Argv: argv, Stdin: p.first}, func(results map[string]sdk.Result) {
		missing, found := map[gap][]string{}, map[string]Answer{}
		for name, res := range results {
			g, ok, err := readGap(name, res, p.digests)
			if ok {
				missing[g] = append(missing[g], name)
				continue
			}
			a := Answer{Err: err}
			if err == nil {
				a.Reply, a.Err = readReply(name, "", res)
			}
			found[name] = a
		}
		var wg sync.WaitGroup
		for g, hosts := range missing {
			wg.Go(func() { p.place(ctx, hosts, g) })
		}
		wg.Go(func() { p.found(ctx, found) })
		wg.Wait()
	})
}

// found takes the first answers of hosts, and asks these the rest.
func (p *prober) found(ctx context.Context, first map[string]Answer) {
	var well []string
	for host, a := range first {
		a = p.take(host, a)
		p.answers.set(host, a)
		if a.Err == nil {
			well = append(well, host)
		}
	}
	p.more(ctx, well, p.rest)
}

// take checks an answer and leaves of its facts what is the host's own.
func (p *prober) take(host string, a Answer) Answer {
	if err := checkFacts(host, &a); err != nil {
		return Answer{Err: err}
	}
	p.keep(host, a.Reply.Facts)
	return a
}

// more asks hosts that have answered further parts of the questions.
func (p *prober) more(ctx context.Context, hosts []string, parts [][]byte) {
	if len(parts) == 0 {
		return
	}
	byProgram := map[sdk.Raw][]string{}
	slices.Sort(hosts)
	for _, h := range hosts {
		program := p.answers.of(h).Reply.Facts.Program
		byProgram[program] = append(byProgram[program], h)
	}
	var wg sync.WaitGroup
	for program, names := range byProgram {
		cmd := sdk.Command{Argv: []sdk.Raw{program, sdk.Raw(control.VerbProbe)}, Stdin: parts[0]}
		wg.Go(func() {
			p.engine.ask(ctx, names, cmd, func(got map[string]Answer) { p.more(ctx, p.add(got), parts[1:]) })
		})
	}
	wg.Wait()
}

// add adds the answers to a further part, and returns the hosts that go on.
func (p *prober) add(got map[string]Answer) []string {
	var well []string
	for host, a := range got {
		if a = p.take(host, a); a.Err != nil {
			p.answers.set(host, a)
			continue
		}
		merge(p.answers.of(host).Reply.Facts, a.Reply.Facts)
		well = append(well, host)
	}
	return well
}

// place puts the agent on hosts where it is missing, and probes there.
func (p *prober) place(ctx context.Context, hosts []string, g gap) {
	fail := func(host string, err *sdk.Error) { p.answers.set(host, Answer{Err: err}) }
	digest := p.digests[g.arch]
	packed, err := p.fleet.options.Agents.Packed(digest)
	if err != nil {
		for _, h := range hosts {
			fail(h, named(err, h))
		}
		return
	}
	slices.Sort(hosts)
	p.engine.putNew(ctx, hosts, newFile{sdk.Raw(g.dir), ".in-", packed}, func(file sdk.Raw, names []string) {
		defer p.engine.withdraw(ctx, file, names)
		cmd := sdk.Command{
			Argv:  []sdk.Raw{"sh", "-c", placeScript, "transferpy", sdk.Raw(g.dir), sdk.Raw(digest), sdk.Raw(path.Base(string(file)))},
			Stdin: p.first,
		}
		p.engine.ask(ctx, names, cmd, func(got map[string]Answer) {
			for h, a := range got {
				if p.fleet.options.Placed != nil && a.Err == nil {
					p.fleet.options.Placed(h, g.arch, g.dir)
				}
			}
			p.found(ctx, got)
		})
	}, fail)
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

// checkFacts says what is wrong with an answer to a probe.
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

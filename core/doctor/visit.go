package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// visit is one Run.
type visit struct {
	req   Request
	deps  Deps
	fleet *remote.Fleet
	hosts map[string]*host
	execs map[string]sdk.Executor
	tools []string // that are looked for everywhere

	mu     sync.Mutex // findings come from several goroutines
	well   bool
	tell   func(Finding)
	placed map[string]string // host -> directory in which an agent was placed
	shut   map[string]bool   // hosts that could not be reached by another
}

// host is one host with what is known of it by now.
type host struct {
	Host
	facts *control.Facts // nil: no agent runs there
}

// bad and ok are findings about one host.
func (v *visit) bad(h, check, advice, format string, args ...any) {
	v.found(Finding{Host: h, Check: check, State: Bad, Text: fmt.Sprintf(format, args...), Advice: advice})
}

func (v *visit) ok(h, check string, value int64, format string, args ...any) {
	v.found(Finding{Host: h, Check: check, State: OK, Text: fmt.Sprintf(format, args...), Value: value})
}

// failed is a finding that is an error.
func (v *visit) failed(h, check string, err *sdk.Error) {
	text := err.Message
	if line, _, _ := strings.Cut(strings.TrimSpace(err.Stderr), "\n"); line != "" {
		text += ": " + line
	}
	v.bad(h, check, err.Hint, "%s", text)
}

func (v *visit) found(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.well = v.well && f.State == OK
	v.tell(f)
}

// baseTools are those that the scripts of core/remote use.
var baseTools = []string{"sh", "sha256sum", "gzip", "id", "uname", "ls", "mkdir", "chmod", "head", "wc", "mv", "rm", "find"}

// open starts the plugins and makes the fleet.
func (v *visit) open(ctx context.Context) error {
	v.execs, v.placed, v.shut = map[string]sdk.Executor{}, map[string]string{}, map[string]bool{}
	_, mode, err := v.deps.Plugins.Mode(ctx, v.req.Mode)
	if err != nil {
		return err
	}
	v.tools = append(slices.Clone(baseTools), mode.Tools...)
	options := remote.Options{Agents: v.deps.Agents, AgentDirs: v.deps.AgentDirs, Placed: func(host, _, dir string) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.placed[host] = dir
	}}
	for _, h := range v.req.Hosts {
		v.hosts[h.Host] = &host{Host: h}
		options.Hosts = append(options.Hosts, remote.Name{Executor: h.Executor, Host: h.Host})
		if v.execs[h.Executor] != nil {
			continue
		}
		exec, about, err := v.deps.Plugins.Executor(ctx, h.Executor)
		if err != nil {
			return err
		}
		v.execs[h.Executor] = exec
		v.tools = append(v.tools, about.Tools...)
		options.Executors = append(options.Executors, remote.Executor{Name: h.Executor, Exec: exec, Traits: about.Executor})
	}
	slices.Sort(v.tools)
	v.tools = slices.Compact(v.tools)
	v.fleet, err = remote.New(options)
	return err
}

// probe finds or places the agent on every host.
func (v *visit) probe(ctx context.Context) {
	answers := v.fleet.Probe(ctx, control.Probe{}, nil)
	for _, h := range v.req.Hosts {
		a := answers[h.Host]
		if a.Err != nil {
			v.failed(h.Host, "agent", a.Err)
			continue
		}
		f := a.Reply.Facts
		v.hosts[h.Host].facts = f
		text := fmt.Sprintf("%s runs (%s, uid %d)", f.Program.Display(), f.Arch, f.UID)
		if v.placed[h.Host] != "" {
			text += "; it was placed now"
		}
		v.ok(h.Host, "agent", 0, "%s", text)
	}
}

// leastRoom is less than which counts as no room: for agents, who keep a
// manifest beside their program, and for a copy.
const (
	leastRoom   = 64 << 20
	leastInodes = 100
)

// space asks how much room there is where agents lie, and in the directories
// that were named.
func (v *visit) space(ctx context.Context) {
	probe := control.Probe{}
	ids := map[sdk.Raw]string{}
	var names []string
	for _, h := range v.alive() {
		names = append(names, h.Host.Host)
		for _, p := range h.roomy() {
			if ids[p] == "" {
				ids[p] = fmt.Sprintf("p%d", len(ids))
				probe.Paths = append(probe.Paths, sdk.PathQuestion{ID: ids[p], Path: p})
			}
		}
	}
	if len(names) == 0 {
		return
	}
	if len(probe.Paths) > control.MaxQuestions {
		probe.Paths = probe.Paths[:control.MaxQuestions]
	}
	req := control.Request{Verb: control.VerbProbe, Call: control.NewID(), Probe: &probe}
	answers := v.fleet.Broadcast(ctx, req, names...)
	for _, h := range v.alive() {
		a := answers[h.Host.Host]
		if a.Err == nil && a.Reply.Facts == nil {
			a.Err = &sdk.Error{Kind: sdk.KindInternal, Message: "the agent told no facts"}
		}
		if a.Err != nil {
			v.failed(h.Host.Host, "space", a.Err)
			continue
		}
		for i, p := range h.roomy() {
			v.room(h.Host.Host, p, i == 1, a.Reply.Facts.Paths[ids[p]])
		}
	}
}

// roomy are the paths whose room matters: the agents' first.
func (h *host) roomy() []sdk.Raw {
	paths := []sdk.Raw{h.facts.StateDir}
	if h.Path != "" {
		paths = append(paths, h.Path)
	}
	return paths
}

// room judges one path; named says that the operator has named it.
func (v *visit) room(h string, path sdk.Raw, named bool, f sdk.PathFacts) {
	where, advice := path.Display(), "free some: agents keep their manifests and logs there"
	if named {
		advice = "free some, or choose another directory"
	}
	switch {
	case f.Err != nil:
		v.failed(h, "space", f.Err)
	case !f.Exists:
		v.bad(h, "space", "make it: a target directory must exist", "%s does not exist", where)
	case named && f.Type == sdk.FileDirectory && !f.Writable:
		v.bad(h, "space", "choose another user, or another directory", "%s cannot be written to", where)
	case f.FreeBytes < leastRoom:
		v.found(Finding{Host: h, Check: "space", State: Bad, Value: f.FreeBytes, Advice: advice,
			Text: fmt.Sprintf("%s free in %s (%s)", size(f.FreeBytes), where, f.FileSystem)})
	case f.FreeInodes >= 0 && f.FreeInodes < leastInodes:
		v.bad(h, "space", "remove some files", "%d free inodes in %s (%s)", f.FreeInodes, where, f.FileSystem)
	default:
		v.ok(h, "space", f.FreeBytes, "%s free in %s (%s)", size(f.FreeBytes), where, f.FileSystem)
	}
}

// alive are the hosts with an agent.
func (v *visit) alive() []*host {
	var list []*host
	for _, h := range v.req.Hosts {
		if known := v.hosts[h.Host]; known.facts != nil {
			list = append(list, known)
		}
	}
	return list
}

// size is bytes in words.
func size(n int64) string {
	const units = "kMGTPE"
	value, unit := float64(n), -1
	for value >= 1000 && unit < len(units)-1 {
		value /= 1000
		unit++
	}
	if unit < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.3g %cB", value, units[unit])
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

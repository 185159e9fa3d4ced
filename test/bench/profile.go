package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// agentState is an agent's state directory on a host, and agentProfiles the
// directory in it that asks for profiles.
const (
	agentState    = "/var/lib/transferpy"
	agentProfiles = agentState + "/profile"
)

// askProfiles has the agents that start next on these hosts write profiles.
func (s *stage) askProfiles(hosts []string) error {
	for _, host := range hosts {
		for _, dir := range []string{agentState, agentProfiles} {
			if err := os.Mkdir(s.path(host, dir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
		left, err := filepath.Glob(s.path(host, agentProfiles) + "/*") // of runs that nobody asked about
		for _, path := range left {
			err = errors.Join(err, os.Remove(path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tellProfiles moves what the agents of a run have written to where profiles
// are kept, and writes what their time went to.
func (s *stage) tellProfiles(ctx context.Context, p contender, testCase string, round int, w io.Writer) error {
	var columns []string
	var shares []map[string]time.Duration
	for _, host := range append([]string{sourceHost}, p.targets()...) {
		found, err := filepath.Glob(s.path(host, agentProfiles) + "/*.pprof")
		if err != nil {
			return err
		}
		for _, path := range found {
			_, kind, _ := strings.Cut(filepath.Base(path), ".")
			name := strings.Join(strings.Fields(fmt.Sprintf("%s-%d %s %s", testCase, round+1, p.name, host)), "-") + "." + kind
			kept := filepath.Join(s.profiles, name)
			if err := move(path, kept); err != nil {
				return err
			}
			if kind != "cpu.pprof" {
				continue
			}
			spent, err := cpuProfile(ctx, kept)
			if err != nil {
				return err
			}
			columns, shares = append(columns, host), append(shares, spent)
		}
	}
	fmt.Fprintf(w, "CPU seconds of the agents, from profiles in %s:\n", s.profiles)
	return writeShares(w, columns, shares)
}

// move moves a file, to another file system if need be.
func move(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, text, 0o644); err != nil {
		return err
	}
	return os.Remove(from)
}

// cpuProfile reads what the time of a profile went to, a group.
func cpuProfile(ctx context.Context, path string) (map[string]time.Duration, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return shares(string(out)), nil
}

// shares adds the samples of what `go tool pprof -traces` prints, a group.
func shares(text string) map[string]time.Duration {
	spent := map[string]time.Duration{}
	var stack []string // the innermost function first
	var took time.Duration
	end := func() {
		if len(stack) > 0 {
			spent[groupOf(stack)] += took
		}
		stack, took = nil, 0
	}
	begun := false
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if strings.HasPrefix(s.Text(), "-----------+") {
			end()
			begun = true
			continue
		}
		fields := strings.Fields(strings.TrimSuffix(s.Text(), " (inline)"))
		if !begun || len(fields) == 0 {
			continue
		}
		if d, err := time.ParseDuration(fields[0]); err == nil && len(fields) > 1 {
			took, fields = d, fields[1:]
		}
		stack = append(stack, fields[0])
	}
	end()
	return spent
}

// group is what a stack is counted as whose innermost function contains one of
// leaf, and any function one of any; an empty list asks nothing.
type group struct {
	name      string
	leaf, any []string
}

// groups are asked in this order.
var groups = []group{
	{"write files", []string{"yscall"}, []string{"syscall.pwrite", "unix.Pwrite", "(*File).Write", "unix.Fallocate", ".ftruncate"}},
	{"read files", []string{"yscall"}, []string{"syscall.pread", "unix.Pread", "(*File).Read", "unix.Seek"}},
	{"write to disk", []string{"yscall"}, []string{"unix.Syncfs", "unix.SyncFileRange", "unix.Fadvise", "unix.Fdatasync", "(*File).Sync"}},
	{"send", []string{"yscall"}, []string{"(*netFD).Write", "(*conn).Write"}},
	{"receive", []string{"yscall"}, []string{"(*netFD).Read", "(*conn).Read"}},
	{"open, name, attributes", []string{"yscall"}, []string{"core/agent"}},
	{"hash", nil, []string{"blake3"}},
	{"copy in memory", []string{"runtime.memmove", "runtime.memclr"}, nil},
	{"cipher", nil, []string{"crypto/"}},
	{"codec", nil, []string{"minlz", "klauspost/compress"}},
	{"manifest", nil, []string{"core/agent/manifest"}},
	{"collector", nil, []string{"runtime.gcBgMarkWorker", "runtime.gcAssist", "runtime.bgsweep", "runtime.bgscavenge", "runtime.mallocgc"}},
	{"scheduler", []string{"runtime."}, nil},
	{"waiting for events", []string{"yscall"}, nil},
}

// rest is the group of all other stacks.
const rest = "all else"

func groupOf(stack []string) string {
	within := func(name string, parts []string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(name, part) })
	}
	for _, g := range groups {
		if (g.leaf == nil || within(stack[0], g.leaf)) &&
			(g.any == nil || slices.ContainsFunc(stack, func(name string) bool { return within(name, g.any) })) {
			return g.name
		}
	}
	return rest
}

// writeShares writes a column an agent and a line a group, those of all agents
// together that took most first.
func writeShares(w io.Writer, columns []string, shares []map[string]time.Duration) error {
	total := map[string]time.Duration{}
	sums := make([]time.Duration, len(columns))
	for i, spent := range shares {
		for name, d := range spent {
			total[name] += d
			sums[i] += d
		}
	}
	var names []string
	for name := range total {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return int(total[b]-total[a]) + strings.Compare(a, b)
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t%s\t\n", strings.Join(columns, "\t\t"))
	for _, name := range names {
		fmt.Fprintf(t, "%s\t", name)
		for i := range columns {
			d := shares[i][name]
			fmt.Fprintf(t, "%.2f\t%.0f %%\t", d.Seconds(), 100*d.Seconds()/max(sums[i].Seconds(), 1e-9))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "in all\t")
	for i := range columns {
		fmt.Fprintf(t, "%.2f\t\t", sums[i].Seconds())
	}
	fmt.Fprintln(t)
	return t.Flush()
}

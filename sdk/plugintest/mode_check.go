package plugintest

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// checkQuestions checks that questions can be carried.
func checkQuestions(t *testing.T, tr sdk.Transfer, questions []sdk.HostQuestions) {
	t.Helper()
	for _, q := range questions {
		if !slices.Contains(hostsOf(tr), q.Host) {
			t.Errorf("Questions asks %q, which is no host of the transfer", q.Host)
		}
		ids := map[string]bool{}
		for _, p := range q.Paths {
			if ids["p"+p.ID] || p.ID == "" {
				t.Errorf("Questions: path question id %q is empty or used twice", p.ID)
			}
			ids["p"+p.ID] = true
			if !path.IsAbs(string(p.Path)) {
				t.Errorf("Questions: the path %s is not absolute", p.Path.Display())
			}
		}
		for _, c := range q.Commands {
			if ids["c"+c.ID] || c.ID == "" {
				t.Errorf("Questions: command question id %q is empty or used twice", c.ID)
			}
			ids["c"+c.ID] = true
			if len(c.Command.Argv) == 0 {
				t.Errorf("Questions: command question %q has no arguments", c.ID)
			}
		}
	}
}

// checkPlan checks that the agents can do what a plan says.
func checkPlan(t *testing.T, tr sdk.Transfer, p sdk.Plan) {
	t.Helper()
	checkStage(t, "Read", p.Read)
	checkStage(t, "Write", p.Write)
	if (p.Read.Builtin == sdk.BuiltinTree) != (p.Write.Builtin == sdk.BuiltinTree) {
		t.Errorf("Plan: %q cannot be written by %q: tree goes with tree", p.Read.Builtin, p.Write.Builtin)
	}
	if len(p.Targets) != len(tr.Targets) {
		t.Fatalf("Plan: %d destinations for %d targets", len(p.Targets), len(tr.Targets))
	}
	for i, d := range p.Targets {
		checkDestination(t, i, d)
	}
	if len(p.Verify) == 0 {
		t.Error("Plan: Verify names no way")
	}
	for _, v := range p.Verify {
		if v != sdk.VerifyDisk && v != sdk.VerifyStream {
			t.Errorf("Plan: the unknown way %q of Verify", v)
		}
	}
	if p.Bytes < -1 {
		t.Errorf("Plan: %d bytes; -1 is unknown", p.Bytes)
	}
}

func checkStage(t *testing.T, name string, s sdk.Stage) {
	t.Helper()
	builtins := []string{sdk.BuiltinTree, sdk.BuiltinFile, sdk.BuiltinUnpackTar, sdk.BuiltinUnpackXbstream}
	if (s.Builtin == "") == (s.Command == nil) {
		t.Errorf("Plan.%s: a stage is either a built-in or a command", name)
		return
	}
	if u := s.Unpack; u != nil {
		if _, err := regexp.Compile(u.ProofLine); err != nil {
			t.Errorf("Plan.%s: %v", name, err)
		}
	}
	if s.Command == nil {
		if !slices.Contains(builtins, s.Builtin) {
			t.Errorf("Plan.%s: there is no built-in %q", name, s.Builtin)
		}
		return
	}
	c := s.Command
	if len(c.Argv) == 0 {
		t.Errorf("Plan.%s: the command has no arguments", name)
	}
	if c.Dir != "" && !path.IsAbs(string(c.Dir)) && !strings.HasPrefix(string(c.Dir), "{staging}") {
		t.Errorf("Plan.%s: the working directory %s is not absolute", name, c.Dir.Display())
	}
	for _, e := range c.Env {
		if n, _, ok := strings.Cut(string(e), "="); !ok || n == "" {
			t.Errorf("Plan.%s: %s in Env is not NAME=VALUE", name, e.Display())
		}
	}
	for _, re := range append([]string{c.Progress, c.Success.LastStderrLine}, c.Redact...) {
		if _, err := regexp.Compile(re); err != nil {
			t.Errorf("Plan.%s: %v", name, err)
		}
	}
	if !slices.Contains([]string{"", "INT", "TERM", "HUP", "QUIT", "KILL", "USR1", "USR2"}, c.StopSignal) {
		t.Errorf("Plan.%s: StopSignal %q is none of INT, TERM, HUP, QUIT, KILL, USR1, USR2", name, c.StopSignal)
	}
}

func checkDestination(t *testing.T, i int, d sdk.Destination) {
	t.Helper()
	if !path.IsAbs(string(d.Dir)) {
		t.Errorf("Plan.Targets[%d]: Dir %s is not absolute: staging needs a place", i, d.Dir.Display())
	}
	if d.External {
		if len(d.Commit) == 0 || len(d.Abort) == 0 {
			t.Errorf("Plan.Targets[%d]: an external destination needs commands to commit and to abort", i)
		}
		if len(d.Publish) > 0 || d.MustEmpty {
			t.Errorf("Plan.Targets[%d]: Publish and MustEmpty are for staged destinations", i)
		}
		return
	}
	if len(d.Commit) > 0 || len(d.Abort) > 0 {
		t.Errorf("Plan.Targets[%d]: Commit and Abort are for external destinations", i)
	}
	for _, name := range d.Publish {
		if n := string(name); n == "" || n == "." || n == ".." || strings.Contains(n, "/") {
			t.Errorf("Plan.Targets[%d]: %s in Publish is no name", i, name.Display())
		}
	}
}

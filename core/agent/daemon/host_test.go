package daemon

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// agentProgram is the agent as it is placed on hosts.
var agentProgram string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "transferpy-agent-test-")
	if err != nil {
		panic(err)
	}
	agentProgram = filepath.Join(dir, "agent")
	args := []string{"build", "-trimpath", "-o", agentProgram}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/transferpy/transferpy/cmd/transferpy-agent")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the agent: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// host is a state directory of its own, with the agents in it.
type host struct {
	t     *testing.T
	state string
	calls int
}

func newHost(t *testing.T) *host {
	// Deeper than the address of a socket may be long.
	deep := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	h := &host{t: t, state: filepath.Join(deep, "state")}
	t.Cleanup(func() {
		for _, pid := range h.pids() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return h
}

// run runs one command of the agent and returns its reply.
func (h *host) run(verb string, stdin []byte, args ...string) *control.Reply {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, agentProgram, append([]string{"--state-dir", h.state, verb}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("%s: %v: %s%s", verb, err, out, stderr.String())
	}
	reply, err := control.DecodeReply(bytes.NewReader(out))
	if err != nil {
		h.t.Fatalf("%s: %v: %s", verb, err, out)
	}
	return reply
}

// ask sends a request, with a call id of its own unless it has one.
func (h *host) ask(q *control.Request) *control.Reply {
	h.t.Helper()
	if q.Call == "" {
		h.calls++
		q.Call = "call-" + strconv.Itoa(h.calls)
	}
	data, err := control.EncodeRequest(q)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.run(string(q.Verb), data)
}

// prepare makes an agent of transfer t and returns its id.
func (h *host) prepare(lease time.Duration) string {
	h.t.Helper()
	r := h.ask(&control.Request{Verb: control.VerbPrepare, Transfer: "t", Prepare: &control.Prepare{Lease: lease, Hold: time.Hour}})
	if r.Error != nil || len(r.Agents) != 1 || r.Agents[0].Ready == nil {
		h.t.Fatalf("prepare: %+v", r)
	}
	return r.Agents[0].Agent
}

func (h *host) transferDir() string { return filepath.Join(h.state, runDir, "t") }

// pids are the processes of the agents.
func (h *host) pids() []int {
	var list []int
	files, _ := filepath.Glob(filepath.Join(h.transferDir(), "*", infoName))
	for _, file := range files {
		i, err := agentDir{path: filepath.Dir(file)}.readInfo()
		if err == nil {
			list = append(list, i.PID)
		}
	}
	return list
}

// change is a do with an undo: it makes the file, and the undo notes its name
// in order and removes it.
func (h *host) change(agent, id, file string, when sdk.When) control.Answer {
	h.t.Helper()
	script := fmt.Sprintf("echo %s >> %s; rm -f %s", id, h.order(), file)
	r := h.ask(&control.Request{Verb: control.VerbDo, Transfer: "t", Wait: 10 * time.Second, Do: &control.Do{Parts: map[string]control.DoPart{
		agent: {Undo: &sdk.Undo{ID: id, What: "make " + file, When: when, Commands: []sdk.Command{sh(script)}}, Commands: []sdk.Command{sh("touch " + file)}},
	}}})
	for _, a := range r.Agents {
		if a.Agent == agent {
			return a
		}
	}
	h.t.Fatalf("no answer of %s: %+v", agent, r)
	return control.Answer{}
}

// order is the file in which undos note that they ran.
func (h *host) order() string { return filepath.Join(filepath.Dir(filepath.Dir(h.state)), "order") }

func (h *host) undone() string {
	data, _ := os.ReadFile(h.order())
	return strings.Join(strings.Fields(string(data)), " ")
}

func (h *host) stop() *control.Reply {
	h.t.Helper()
	return h.ask(&control.Request{Verb: control.VerbStop, Transfer: "t", Wait: 20 * time.Second, Stop: &control.Stop{}})
}

func sh(script string) sdk.Command { return sdk.Command{Argv: []sdk.Raw{"sh", "-c", sdk.Raw(script)}} }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func running(pid int) bool { return syscall.Kill(pid, 0) == nil }

package transfer

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// nobody is the uid of the agents when the tests run as root, so that they
// keep their state below the test's directory instead of /var/lib.
const nobody = 65534

// machine is an executor that runs commands on this machine, each with a
// cache directory of the test's own: real processes and real agents.
type machine struct {
	sdk.Plugin
	dir    string
	mu     sync.Mutex
	before func(argv []string) // called before each command
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	// A short path, for the agents' sockets.
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &machine{dir: dir}
	for _, sub := range []string{"", "cache", "src", "dst"} {
		path := filepath.Join(dir, sub)
		os.MkdirAll(path, 0o755)
		if os.Getuid() == 0 {
			os.Chown(path, nobody, nobody)
		}
	}
	return m
}

func (m *machine) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	argv := make([]string, len(cmd.Argv))
	for i, a := range cmd.Argv {
		argv[i] = string(a)
	}
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		before(argv)
	}
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() { emit(m.one(ctx, h, argv, cmd.Stdin)) })
	}
	wg.Wait()
	return nil
}

func (m *machine) one(ctx context.Context, host string, argv []string, stdin []byte) sdk.Result {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "XDG_CACHE_HOME=" + filepath.Join(m.dir, "cache")}
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var stdout, stderr bytes.Buffer
	c.Dir, c.Stdin, c.Stdout, c.Stderr = "/", bytes.NewReader(stdin), &stdout, &stderr
	err := c.Run()
	res := sdk.Result{Host: host, Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.ExitCode = exit.ExitCode()
	case err != nil:
		res.Err = &sdk.Error{Kind: sdk.KindInternal, Message: err.Error()}
	}
	return res
}

// builtAgent is the agent of this tree, built once for all tests.
type builtAgent struct {
	digest string
	packed []byte
}

func (b builtAgent) Digests(bool) (map[string]string, error) {
	return map[string]string{runtime.GOARCH: b.digest}, nil
}
func (b builtAgent) Packed(string) ([]byte, error) { return b.packed, nil }

var build = sync.OnceValues(func() (builtAgent, error) {
	dir, err := os.MkdirTemp("", "tp-agent")
	if err != nil {
		return builtAgent{}, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "transferpy-agent")
	cmd := exec.Command("go", "build", "-o", path, "github.com/transferpy/transferpy/cmd/transferpy-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return builtAgent{}, fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return builtAgent{}, err
	}
	var b bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	zw.Write(binary)
	zw.Close()
	sum := sha256.Sum256(binary)
	return builtAgent{digest: hex.EncodeToString(sum[:]), packed: b.Bytes()}, nil
})

// localPlugins gives the machine and a mode.
type localPlugins struct {
	plugins
	machine *machine
}

func (p localPlugins) Executor(context.Context, string) (sdk.Executor, sdk.Description, error) {
	return p.machine, sdk.Description{Executor: sdk.ExecutorTraits{
		MaxStdin: 1 << 20, MaxOutput: 1 << 20, MaxCalls: 8, Latency: 5 * time.Millisecond, MaxWait: time.Minute, PollEvery: 100 * time.Millisecond}}, nil
}

// newLocal makes a transfer of a small tree by real agents to targets on this
// machine.
func newLocal(t *testing.T, targets int) (*trial, *machine) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs real agents; run without -short")
	}
	agent, err := build()
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	mode := &fakeMode{found: sdk.Findings{Bytes: 1 << 20, Entries: 12}, change: func(p *sdk.Plan) {
		p.Write.Path = ""
		for i := range p.Targets {
			p.Targets[i].Publish = []sdk.Raw{"tree"}
		}
	}}
	tr := &trial{mode: mode, ctx: t.Context()}
	source := filepath.Join(m.dir, "src", "tree")
	tr.req = Request{Source: Endpoint{"x", "one", sdk.Raw(source)}, Mode: "m", Encrypt: true, LinkTimeout: 10 * time.Second}
	for i := range targets {
		dir := filepath.Join(m.dir, "dst", fmt.Sprint(i))
		os.Mkdir(dir, 0o755)
		if os.Getuid() == 0 {
			os.Chown(dir, nobody, nobody)
		}
		tr.req.Targets = append(tr.req.Targets, Endpoint{"x", fmt.Sprintf("host%d", i), sdk.Raw(dir)})
	}
	for i := range 10 {
		path := filepath.Join(source, fmt.Sprintf("d%d/file %d\n", i%3, i))
		os.MkdirAll(filepath.Dir(path), 0o755)
		os.WriteFile(path, bytes.Repeat([]byte{byte(i)}, 100<<10), 0o644)
	}
	tr.deps = Deps{Plugins: localPlugins{plugins{mode: mode}, m}, StateDir: filepath.Join(t.TempDir(), "control"), Agents: agent}
	return tr, m
}

func (tr *trial) compareTrees(t *testing.T) {
	t.Helper()
	for _, target := range tr.req.Targets {
		if out, err := exec.Command("diff", "-r", string(tr.req.Source.Path), filepath.Join(string(target.Path), "tree")).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", target.Path, err, out)
		}
	}
}

// leftovers are the agents, staging directories and messages that are still
// there.
func (m *machine) leftovers() []string {
	var left []string
	for _, pattern := range []string{"dst/*/.transferpy-*", "cache/transferpy/run/*/*", "cache/transferpy/in/*"} {
		found, _ := filepath.Glob(filepath.Join(m.dir, pattern))
		left = append(left, found...)
	}
	return left
}

func TestRealAgents(t *testing.T) {
	tr, m := newLocal(t, 2)
	r := tr.run(t)
	if r.ExitCode != 0 {
		t.Fatalf("exit %d: %v, %+v", r.ExitCode, r.Err, r.Targets)
	}
	tr.compareTrees(t)
	for _, target := range r.Targets {
		if target.Files != 10 || target.Bytes != 1000<<10 || target.Digest == "" {
			t.Errorf("target: %+v", target)
		}
	}
	if left := m.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRealAgentsInPlaceTakeFourCalls(t *testing.T) {
	tr, _ := newLocal(t, 1)
	if r := tr.run(t); r.ExitCode != 0 {
		t.Fatalf("exit %d: %v, %+v", r.ExitCode, r.Err, r.Targets)
	}
	os.RemoveAll(filepath.Join(string(tr.req.Targets[0].Path), "tree"))
	r := tr.run(t)
	if r.ExitCode != 0 || r.Calls != 4 {
		t.Errorf("exit %d after %d calls: %v", r.ExitCode, r.Calls, r.Err)
	}
	t.Logf("%.0f ms", r.Seconds*1000)
	tr.compareTrees(t)
}

func TestRealInterruptAndCleanup(t *testing.T) {
	tr, m := newLocal(t, 1)
	tr.req.LimitRate = 100 << 10 // so that it is under way for 10 s
	ctx, cancel := context.WithCancelCause(t.Context())
	tr.ctx = ctx
	var once sync.Once
	m.before = func(argv []string) {
		if len(argv) > 1 && argv[1] == "status" {
			once.Do(func() { cancel(ErrInterrupted) })
		}
	}
	r := tr.run(t)
	if r.ExitCode != 130 {
		t.Errorf("exit %d: %v", r.ExitCode, r.Err)
	}
	if left := m.leftovers(); len(left) > 0 {
		t.Errorf("left behind after an interrupt: %v", left)
	}

	m.before = nil
	tr.ctx = t.Context()
	id := tr.crash(t)
	if left := m.leftovers(); len(left) == 0 {
		t.Error("a controller that died has left nothing: the rest of the test shows nothing")
	}
	killOneAgent(t, m)
	if err := Cleanup(t.Context(), id, tr.deps, nil); err != nil {
		t.Error(err)
	}
	if left := m.leftovers(); len(left) > 0 {
		t.Errorf("left behind after cleanup: %v", left)
	}
	if _, err := os.Stat(filepath.Join(string(tr.req.Targets[0].Path), "tree")); err == nil {
		t.Error("something was published")
	}
	if list, _ := journal.List(tr.deps.StateDir); len(list) != 2 || !list[0].Ended || !list[1].Ended {
		t.Errorf("journals: %+v", list)
	}
}

// killOneAgent kills an agent of the machine by SIGKILL.
func killOneAgent(t *testing.T, m *machine) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(m.dir, "cache/transferpy/run/*/*/agent.json"))
	for _, path := range found {
		data, err := os.ReadFile(path)
		var info struct{ PID int }
		if err != nil || json.Unmarshal(data, &info) != nil || info.PID <= 1 {
			continue
		}
		if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error("no agent was found to be killed")
}

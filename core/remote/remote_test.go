package remote

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// shell is an executor whose hosts are all this machine, run by real
// processes, with the limits that a test wants.
type shell struct {
	sdk.Plugin
	mu     sync.Mutex
	down   map[string]bool
	noise  string                            // printed before what the command prints
	sh     []string                          // instead of sh
	double bool                              // emit each result twice, and one of a stranger
	hook   func(host string, argv []sdk.Raw) // called before a command runs; may block
}

func (s *shell) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() {
			if s.hook != nil {
				s.hook(h, cmd.Argv)
			}
			s.mu.Lock()
			down := s.down[h]
			s.mu.Unlock()
			if down {
				emit(sdk.Result{Host: h, Err: &sdk.Error{Kind: sdk.KindUnreachable, Message: "no route"}})
				return
			}
			argv := make([]string, len(cmd.Argv))
			for i, a := range cmd.Argv {
				argv[i] = string(a)
			}
			if argv[0] == "sh" && s.sh != nil {
				argv = append(slices.Clone(s.sh), argv[1:]...)
			}
			c := exec.CommandContext(ctx, argv[0], argv[1:]...)
			var stdout, stderr bytes.Buffer
			c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(cmd.Stdin), &stdout, &stderr
			err := c.Run()
			res := sdk.Result{Host: h, Stdout: append([]byte(s.noise), stdout.Bytes()...), Stderr: stderr.Bytes()}
			var exit *exec.ExitError
			switch {
			case errors.As(err, &exit):
				res.ExitCode = exit.ExitCode()
			case err != nil:
				res.ExitCode = 127
			}
			emit(res)
			if s.double {
				emit(sdk.Result{Host: h, ExitCode: 1})
				emit(sdk.Result{Host: "stranger"})
			}
		})
	}
	wg.Wait()
	return nil
}

// putter is shell with a Put of its own.
type putter struct {
	*shell
	files []string
}

func (p *putter) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	for _, h := range hosts {
		f, err := os.OpenFile(string(file.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, os.FileMode(file.Mode))
		if errors.Is(err, os.ErrExist) {
			emit(sdk.Result{Host: h, Err: &sdk.Error{Kind: sdk.KindExists, Message: "exists"}})
			continue
		}
		if err != nil {
			return err
		}
		p.files = append(p.files, string(file.Path))
		f.Write(file.Content)
		f.Close()
		emit(sdk.Result{Host: h})
	}
	return nil
}

// scriptAgent is an agent played by a shell script: it answers a probe with
// its own path, and everything else with how its request reached it.
type scriptAgent struct{ text string }

func newAgent(state string) scriptAgent {
	return scriptAgent{`#!/bin/sh
verb=$1; shift
how=stdin
if [ "$1" = --message ]; then
	[ "$(sha256sum <"$2")" = "$4  -" ] || exit 9
	[ "$(stat -c %a "$2")" = 600 ] || exit 8
	rm "$2"; how=file
else
	cat >/dev/null
fi
case $verb in
probe) printf '{"v":1,"facts":{"instance":"i","boot_id":"b","netns":"n","hostname":"h","uid":0,"arch":"amd64","kernel":"k","now":"2026-01-01T00:00:00Z","state_dir":"` + state + `","program":"%s","addresses":[],"paths":{"a":{"exists":true}}}}\n' "$0" ;;
*) printf '{"v":1,"agents":[{"agent":"a-%s"}]}\n' "$how" ;;
esac
`}
}

func (a scriptAgent) digest() string {
	sum := sha256.Sum256([]byte(a.text))
	return hex.EncodeToString(sum[:])
}

func (a scriptAgent) Digests(bool) (map[string]string, error) {
	d := a.digest()
	return map[string]string{"amd64": d, "arm64": d}, nil
}

func (a scriptAgent) Packed(string) ([]byte, error) {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	zw.Write([]byte(a.text))
	zw.Close()
	return b.Bytes(), nil
}

type bench struct {
	fleet *Fleet
	dir   string // for agents
	state string
	agent scriptAgent
	shell *shell
}

// newBench makes a fleet of hosts a, b, c of one executor.
func newBench(t *testing.T, traits sdk.ExecutorTraits, change func(*Options, *shell)) *bench {
	t.Helper()
	b := &bench{state: t.TempDir(), dir: filepath.Join(t.TempDir(), "agents"), shell: &shell{down: map[string]bool{}}}
	if err := os.Mkdir(filepath.Join(b.state, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.agent = newAgent(b.state)
	var e sdk.Executor = b.shell
	if traits.CanPut {
		e = &putter{shell: b.shell}
	}
	o := Options{
		Executors: []Executor{{Name: "test", Exec: e, Traits: traits}},
		Hosts:     []Name{{"test", "a"}, {"test", "b"}, {"test", "c"}, {"test", "a"}},
		Agents:    b.agent, AgentDirs: []string{b.dir},
	}
	if change != nil {
		change(&o, b.shell)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.fleet = f
	return b
}

func (b *bench) probe(t *testing.T) {
	t.Helper()
	for host, a := range b.fleet.Probe(t.Context(), control.Probe{}, nil) {
		if a.Err != nil {
			t.Fatalf("%s: %v\n%s", host, a.Err, a.Err.Stderr)
		}
	}
}

func TestPlaceAndReuse(t *testing.T) {
	for _, traits := range []sdk.ExecutorTraits{{CanPut: true}, {CanPut: false, MaxStdin: 300}} {
		t.Run(fmt.Sprintf("put=%v", traits.CanPut), func(t *testing.T) {
			b := newBench(t, traits, func(_ *Options, s *shell) { s.double = true })
			b.probe(t)
			path := filepath.Join(b.dir, "transferpy-agent-"+b.agent.digest())
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o500 {
				t.Fatalf("%v, %v", info, err)
			}
			if left, _ := filepath.Glob(filepath.Join(b.dir, ".*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			before := b.fleet.Calls()
			b.probe(t)
			if n := b.fleet.Calls() - before; n != 1 {
				t.Errorf("%d calls with agents in place, want 1", n)
			}
			after, _ := os.Stat(path)
			if !os.SameFile(info, after) {
				t.Error("the agent was placed again")
			}
		})
	}
}

func TestDamagedAgentIsReplaced(t *testing.T) {
	b := newBench(t, sdk.ExecutorTraits{CanPut: true}, nil)
	b.probe(t)
	path := filepath.Join(b.dir, "transferpy-agent-"+b.agent.digest())
	os.Chmod(path, 0o700)
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho owned\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.probe(t)
	if got, _ := os.ReadFile(path); string(got) != b.agent.text {
		t.Errorf("the agent is %q", got)
	}
}

func TestOpenDirectoryIsNotUsed(t *testing.T) {
	b := newBench(t, sdk.ExecutorTraits{CanPut: true}, func(o *Options, _ *shell) {
		open := o.AgentDirs[0] + "-open"
		os.Mkdir(open, 0o700)
		os.Chmod(open, 0o777)
		o.AgentDirs = []string{open, o.AgentDirs[0]}
	})
	b.probe(t)
	if names, _ := os.ReadDir(b.dir + "-open"); len(names) > 0 {
		t.Errorf("used a directory that is open to others: %v", names)
	}
	if place := b.fleet.PlaceOf("a"); !strings.HasPrefix(string(place.Program), b.dir+"/") {
		t.Errorf("program: %s", place.Program)
	}
}

func TestBroadcast(t *testing.T) {
	for _, traits := range []sdk.ExecutorTraits{{CanPut: true, MaxStdin: 2000}, {MaxStdin: 2000}} {
		b := newBench(t, traits, nil)
		b.probe(t)
		ask := func(names int) map[string]Answer {
			seen := map[string]uint64{}
			for i := range names {
				seen[fmt.Sprintf("agent-%d", i)] = 1
			}
			return b.fleet.Broadcast(t.Context(), control.Request{Verb: control.VerbStatus, Transfer: "t", Call: "c", Seen: seen}, "a", "b", "c", "nobody")
		}
		for n, how := range map[int]string{1: "a-stdin", 1000: "a-file"} {
			answers := ask(n)
			for _, h := range []string{"a", "b", "c"} {
				if a := answers[h]; a.Err != nil || a.Reply.Agents[0].Agent != how {
					t.Errorf("%d names, %s: %+v", n, h, a)
				}
			}
			if answers["nobody"].Err == nil {
				t.Error("a host outside the fleet was asked")
			}
		}
		if left, _ := os.ReadDir(filepath.Join(b.state, "in")); len(left) > 0 {
			t.Errorf("messages left: %v", left)
		}
	}
}

func TestOneSilentHost(t *testing.T) {
	b := newBench(t, sdk.ExecutorTraits{CanPut: true, MaxHosts: 2}, nil)
	b.shell.down["b"] = true
	answers := b.fleet.Probe(t.Context(), control.Probe{}, nil)
	if err := answers["b"].Err; !errors.Is(err, sdk.ErrUnreachable) || err.Host != "b" {
		t.Errorf("b: %v", err)
	}
	for _, h := range []string{"a", "c"} {
		if answers[h].Err != nil {
			t.Errorf("%s: %v", h, answers[h].Err)
		}
	}
}

func TestRetry(t *testing.T) {
	b := newBench(t, sdk.ExecutorTraits{CanPut: true}, nil)
	b.probe(t)
	b.shell.down["b"] = true
	before := b.fleet.Calls()
	answers := b.fleet.Retry(t.Context(), 2, control.Request{Verb: control.VerbStatus, Transfer: "t", Call: "c"}, "a", "b")
	if answers["a"].Err != nil || answers["b"].Err == nil {
		t.Errorf("%+v", answers)
	}
	if n := b.fleet.Calls() - before; n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestHostileOutput(t *testing.T) {
	for name, noise := range map[string]string{
		"banner":             "Welcome!\n",
		"foreign directory":  "transferpy-agent 1 missing amd64 0 ../../etc\n",
		"foreign arch":       "transferpy-agent 1 missing vax 0 /tmp/x\n",
		"arch with controls": "transferpy-agent 1 arch \x1b[2J 0 -\n",
		"nowhere":            "transferpy-agent 1 nowhere amd64 0 -\n",
		"other version":      `{"v":99}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, sdk.ExecutorTraits{CanPut: true}, func(_ *Options, s *shell) { s.noise = noise })
			for host, a := range b.fleet.Probe(t.Context(), control.Probe{}, nil) {
				if a.Err == nil || a.Err.Host != host || strings.ContainsRune(a.Err.Error(), 0x1b) {
					t.Errorf("%s: %q", host, a.Err)
				}
			}
		})
	}
}

func TestProbeIsSplit(t *testing.T) {
	var p control.Probe
	for i := range 700 {
		p.Paths = append(p.Paths, sdk.PathQuestion{ID: fmt.Sprint(i), Path: sdk.Raw("/" + strings.Repeat("x", i))})
	}
	p.Resolve = []string{"a", "b", "c"}
	parts, err := split(p, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	var ids, names []string
	for _, part := range parts {
		req, err := control.DecodeRequest(bytes.NewReader(part))
		if err != nil || len(part) > 64<<10 {
			t.Fatalf("%d bytes, %v", len(part), err)
		}
		for _, q := range req.Probe.Paths {
			ids = append(ids, q.ID)
		}
		names = append(names, req.Probe.Resolve...)
	}
	if len(ids) != 700 || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 700 || len(names) != 3 {
		t.Errorf("%d questions, %d names", len(ids), len(names))
	}
	if _, err := split(control.Probe{Paths: []sdk.PathQuestion{{ID: "x", Path: sdk.Raw("/" + strings.Repeat("x", 70000))}}}, 64<<10); err == nil {
		t.Error("a question that cannot be carried was taken")
	}
}

func TestTwoExecutorsForOneName(t *testing.T) {
	_, err := New(Options{Executors: []Executor{{Name: "x", Exec: &shell{}}, {Name: "y", Exec: &shell{}}}, Hosts: []Name{{"x", "a"}, {"y", "a"}}})
	if !errors.Is(err, sdk.ErrConfig) {
		t.Error(err)
	}
}

func TestNoexecDirectoryIsNotUsed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a file system without exec")
	}
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", syscall.MS_NOEXEC|syscall.MS_NOSUID, "mode=0700,size=1m"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	b := newBench(t, sdk.ExecutorTraits{CanPut: true}, func(o *Options, _ *shell) {
		o.AgentDirs = []string{filepath.Join(mount, "agents"), o.AgentDirs[0]}
	})
	b.probe(t)
	if place := b.fleet.PlaceOf("a"); !strings.HasPrefix(string(place.Program), b.dir+"/") {
		t.Errorf("program: %s", place.Program)
	}
	// One that lies there by whatever means is passed over, too.
	text, _ := os.ReadFile(string(b.fleet.PlaceOf("a").Program))
	if err := os.WriteFile(filepath.Join(mount, "agents", "transferpy-agent-"+b.agent.digest()), text, 0o700); err != nil {
		t.Fatal(err)
	}
	b.probe(t)
}

// TestShells runs the scripts by every shell that a host's sh may be.
func TestShells(t *testing.T) {
	for _, argv := range [][]string{{"dash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		t.Run(argv[0], func(t *testing.T) {
			if _, err := exec.LookPath(argv[0]); err != nil {
				t.Skip("not installed: " + argv[0])
			}
			b := newBench(t, sdk.ExecutorTraits{MaxStdin: 300}, func(_ *Options, s *shell) { s.sh = argv })
			b.probe(t)
			b.probe(t)
		})
	}
}

// FuzzReadGap: whatever a host prints, nothing is placed but in a clean path
// and for an architecture that there is an agent for.
func FuzzReadGap(f *testing.F) {
	for _, s := range []string{
		"transferpy-agent 1 missing amd64 0 /var/lib/transferpy/agents\n", "transferpy-agent 1 nowhere amd64 0 -\n",
		"transferpy-agent 1 arch vax 0 -\n", "transferpy-agent 1 missing amd64 0 /a/../b\n", "transferpy-agent 1 x\n", "{",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		g, ok, err := readGap("h", sdk.Result{Stdout: out}, map[string]string{"amd64": "d"})
		if ok && (err != nil || g.arch != "amd64" || !filepath.IsAbs(g.dir) || filepath.Clean(g.dir) != g.dir || strings.ContainsAny(g.dir, "\n\x00\x1b")) {
			t.Errorf("%q became %+v, %v", out, g, err)
		}
		if err != nil && (err.Host != "h" || strings.ContainsAny(err.Message, "\n\x00\x1b")) {
			t.Errorf("%q became %q", out, err.Message)
		}
	})
}

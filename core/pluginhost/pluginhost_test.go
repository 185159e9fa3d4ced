package pluginhost

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

// quick are limits that let a test of a hang end soon.
var quick = wire.Limits{Start: 3 * time.Second, Describe: time.Second, Configure: time.Second,
	Pure: time.Second, Idle: time.Second, Grace: time.Second}

var (
	buildMu sync.Mutex
	built   = map[string]string{}
)

// misbehave installs the misbehaving plugin with its harm into a fresh plugin
// directory and returns the directory.
func misbehave(t testing.TB, kind, name, harm string) string {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	id := kind + "-" + name + "-" + harm
	if built[id] == "" {
		path := filepath.Join(buildDir, id)
		out, err := exec.Command("go", "build", "-ldflags", "-s -w -X main.kind="+kind+" -X main.name="+name+" -X main.harm="+harm,
			"-o", path, "./testdata/misbehave").CombinedOutput()
		if err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		built[id] = path
	}
	dir := t.TempDir()
	if err := os.Link(built[id], filepath.Join(dir, "transferpy-executor-bad")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

var buildDir string

func TestMain(m *testing.M) {
	if os.Getenv("PLUGINHOST_TEST_HOST") != "" {
		beHost()
		return
	}
	dir, err := os.MkdirTemp("", "pluginhost-test-")
	if err != nil {
		panic(err)
	}
	buildDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// newHost makes a Host over dir that is closed with the test.
func newHost(t *testing.T, dir string, change ...func(*Options)) *Host {
	opt := Options{Dirs: []string{dir}, Limits: quick}
	for _, f := range change {
		f(&opt)
	}
	h := New(opt)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// run runs one command on host "h1".
func run(t *testing.T, e sdk.Executor, argv ...sdk.Raw) ([]sdk.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var results []sdk.Result
	err := e.Run(ctx, []string{"h1"}, sdk.Command{Argv: argv}, func(r sdk.Result) { results = append(results, r) })
	return results, err
}

func TestRoundTrip(t *testing.T) {
	t.Setenv("MISBEHAVE_WANTED", "yes")
	t.Setenv("MISBEHAVE_UNWANTED", "no")
	h := newHost(t, misbehave(t, "executor", "bad", "none"))
	e, d, err := h.Executor(t.Context(), "bad")
	if err != nil {
		t.Fatal(err)
	}
	if d.SDKVersion != sdk.Version || d.Name != "bad" || d.Executor.MaxCalls != 8 {
		t.Errorf("description: %+v", d)
	}
	again, _, err := h.Executor(t.Context(), "bad")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := run(t, e, "pid")
	second, _ := run(t, again, "pid")
	if len(first) != 1 || string(first[0].Stdout) != string(second[0].Stdout) {
		t.Errorf("a second call started another process: %+v %+v", first, second)
	}
	results, err := run(t, e, "hello")
	if err != nil || len(results) != 1 || string(results[0].Stdout) != "1m30s" {
		t.Errorf("the default is not there in canonical form: %+v, %v", results, err)
	}
	results, err = run(t, e, "env")
	if err != nil {
		t.Fatal(err)
	}
	env := string(results[0].Stdout)
	if !strings.Contains(env, "MISBEHAVE_WANTED=yes") || strings.Contains(env, "UNWANTED") {
		t.Errorf("environment:\n%s", env)
	}
	if strings.Contains(env, "PLUGIN") {
		t.Errorf("children of the plugin are told of the handshake:\n%s", env)
	}
	if results, _ := run(t, e, "strangers"); len(results) != 1 || results[0].Host != "h1" || results[0].ExitCode != 0 {
		t.Errorf("results that were not asked for came through: %+v", results)
	}
	_, err = run(t, e, "typed")
	if !errors.Is(err, sdk.ErrNoSpace) || sdk.AsError(err).Hint != "buy another" || sdk.AsError(err).Host != "h1" {
		t.Errorf("a typed error arrived as %#v", err)
	}
}

// TestStartFailures starts plugins that fail before they can be used.
func TestStartFailures(t *testing.T) {
	for _, test := range []struct {
		harm, kind, name string
		want             error
		text             []string // in message, hint or stderr
	}{
		{"crash-on-start", "executor", "bad", sdk.ErrCrashed, []string{"executor/bad", "transferpy-executor-bad", "exit status 3", "cannot find my teapot"}},
		{"silent-exit", "executor", "bad", sdk.ErrCrashed, []string{"exit status 0", "before the handshake"}},
		{"print-first", "executor", "bad", sdk.ErrUnsupported, []string{`"Hello, I am a plugin!"`, "standard output", "author"}},
		{"hang-on-start", "executor", "bad", sdk.ErrTimeout, []string{"handshake", "executor/bad"}},
		{"hang-in-describe", "executor", "bad", sdk.ErrTimeout, []string{"Describe", "1s", "killed"}},
		{"hang-in-configure", "executor", "bad", sdk.ErrTimeout, []string{"Configure"}},
		{"wrong-major", "executor", "bad", sdk.ErrUnsupported, []string{"99", "version 1", "rebuild"}},
		{"none", "executor", "other", sdk.ErrConfig, []string{"says that it is executor/other", "transferpy-KIND-NAME"}},
		{"none", "mode", "bad", sdk.ErrCrashed, []string{`kind "mode"`, "exit status 1"}},
	} {
		t.Run(test.harm+"-"+test.kind+"-"+test.name, func(t *testing.T) {
			dir := misbehave(t, test.kind, test.name, test.harm)
			h := newHost(t, dir)
			began := time.Now()
			_, _, err := h.Executor(t.Context(), "bad")
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want kind %v", err, test.want)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("took %v", took)
			}
			e := sdk.AsError(err)
			text := e.Error() + "\n" + e.Stderr
			for _, want := range test.text {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in:\n%s", want, text)
				}
			}
			noneLeft(t, dir)
		})
	}
}

// noneLeft checks that no process runs a file of dir.
func noneLeft(t *testing.T, dir string) {
	t.Helper()
	for _, pid := range processesOf(dir) {
		t.Errorf("process %d still runs a plugin of %s", pid, dir)
	}
}

// processesOf gives the processes whose argv[0] lies in dir. The executable
// itself is no guide: tests share it by hard links.
func processesOf(dir string) []int {
	var pids []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(line), dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestCallFailures makes calls that go wrong in the middle.
func TestCallFailures(t *testing.T) {
	for _, test := range []struct {
		verb sdk.Raw
		want error
		text []string
		dies bool
	}{
		{"exit", sdk.ErrCrashed, []string{"executor/bad", "in Run", "exit status 3", "giving up", "[redacted]"}, true},
		{"segv", sdk.ErrCrashed, []string{"executor/bad"}, true},
		{"panic", sdk.ErrCrashed, []string{"panic in Run: no teapot", "misbehave/main.go"}, false},
		{"panic-elsewhere", sdk.ErrCrashed, []string{"out of reach", "exit status 2"}, true},
		{"hang", sdk.ErrTimeout, []string{"no sign of life in Run", "killed"}, true},
		{"huge", sdk.ErrUnsupported, []string{"64 MiB"}, false},
	} {
		t.Run(string(test.verb), func(t *testing.T) {
			dir := misbehave(t, "executor", "bad", "none")
			h := newHost(t, dir, secret(t))
			e, _, err := h.Executor(t.Context(), "bad")
			if err != nil {
				t.Fatal(err)
			}
			_, err = run(t, e, test.verb)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want kind %v", err, test.want)
			}
			text := sdk.AsError(err).Error() + "\n" + sdk.AsError(err).Stderr
			for _, want := range test.text {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in:\n%s", want, text)
				}
			}
			if strings.Contains(text, "swordfish") {
				t.Errorf("the secret is in:\n%s", text)
			}
			_, err = run(t, e, "hello")
			if test.dies && err == nil || !test.dies && err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

// secret configures the token of the misbehaving plugin.
func secret(t *testing.T) func(*Options) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("swordfish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *Options) {
		o.Config = func(sdk.Kind, string) map[string][]string { return map[string][]string{"token": {"@" + path}} }
	}
}

// TestCancelled ends a call by its caller: the plugin lives on.
func TestCancelled(t *testing.T) {
	h := newHost(t, misbehave(t, "executor", "bad", "none"))
	e, _, err := h.Executor(t.Context(), "bad")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = e.Run(ctx, []string{"h1"}, sdk.Command{Argv: []sdk.Raw{"wait"}}, func(sdk.Result) {})
	if !errors.Is(err, sdk.ErrTimeout) {
		t.Errorf("deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	err = e.Run(ctx, []string{"h1"}, sdk.Command{Argv: []sdk.Raw{"wait"}}, func(sdk.Result) {})
	if !errors.Is(err, sdk.ErrCancelled) {
		t.Errorf("cancel: %v", err)
	}
	if _, err := run(t, e, "hello"); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestConfigMistakes(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "none")
	h := newHost(t, dir, func(o *Options) {
		o.Config = func(kind sdk.Kind, name string) map[string][]string {
			return map[string][]string{"identity_fil": {"x"}, "timeout": {"ninety"}}
		}
	})
	_, _, err := h.Executor(t.Context(), "bad")
	if !errors.Is(err, sdk.ErrConfig) {
		t.Fatal(err)
	}
	for _, want := range []string{"bad.identity_fil", "executor bad", "did you mean identity_file?", "bad.timeout", `"ninety"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	noneLeft(t, dir)
}

func TestDiagnostics(t *testing.T) {
	var warned []sdk.Diagnostic
	h := newHost(t, misbehave(t, "executor", "bad", "diagnose"), secret(t), func(o *Options) {
		o.Warn = func(_ string, d sdk.Diagnostic) { warned = append(warned, d) }
	})
	_, _, err := h.Executor(t.Context(), "bad")
	if !errors.Is(err, sdk.ErrConfig) || !strings.Contains(err.Error(), "bad.token: the server refused [redacted]") {
		t.Errorf("error: %v", err)
	}
	if len(warned) != 1 || warned[0].Field != "timeout" {
		t.Errorf("warnings: %+v", warned)
	}
}

// TestLogs sees that what a plugin logs and prints after the handshake
// arrives, without its secret.
func TestLogs(t *testing.T) {
	var logged syncBuffer
	h := newHost(t, misbehave(t, "executor", "bad", "none"), secret(t), func(o *Options) {
		o.Log = hclog.New(&hclog.LoggerOptions{Output: &logged, Level: hclog.Debug})
	})
	e, _, err := h.Executor(t.Context(), "bad")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, e, "print"); err != nil {
		t.Fatal(err)
	}
	want := []string{"to standard output", "to standard error", "[WARN]  executor-bad: to the log: token=[redacted]"}
	for until := time.Now().Add(3 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text := logged.String()
		missing := slices.IndexFunc(want, func(s string) bool { return !strings.Contains(text, s) })
		if missing < 0 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("%q is not in:\n%s", want[missing], text)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"swordfish", "[ERROR]"} {
		if strings.Contains(logged.String(), bad) {
			t.Errorf("%q is in:\n%s", bad, logged.String())
		}
	}
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

package pluginhost

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// BenchmarkStart starts a plugin until it is configured, and stops it.
func BenchmarkStart(b *testing.B) {
	dir := misbehave(b, "executor", "bad", "none")
	for b.Loop() {
		h := New(Options{Dirs: []string{dir}})
		if _, _, err := h.Executor(b.Context(), "bad"); err != nil {
			b.Fatal(err)
		}
		if err := h.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestClose stops a plugin whose child holds its stderr, one that hangs, and
// one that is stopped by a signal.
func TestClose(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "none")
	for _, state := range []string{"idle", "child", "hang", "stopped"} {
		t.Run(state, func(t *testing.T) {
			h := New(Options{Dirs: []string{dir}})
			e, _, err := h.Executor(t.Context(), "bad")
			if err != nil {
				t.Fatal(err)
			}
			child := 0
			ended := make(chan error, 1)
			switch state {
			case "child":
				results, err := run(t, e, "child")
				if err != nil {
					t.Fatal(err)
				}
				child, _ = strconv.Atoi(string(results[0].Stdout))
			case "hang":
				go func() {
					ended <- e.Run(context.Background(), []string{"h1"}, sdk.Command{Argv: []sdk.Raw{"hang"}}, func(sdk.Result) {})
				}()
				time.Sleep(100 * time.Millisecond)
			case "stopped":
				results, _ := run(t, e, "pid")
				pid, _ := strconv.Atoi(string(results[0].Stdout))
				syscall.Kill(pid, syscall.SIGSTOP)
			}
			began := time.Now()
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 6*time.Second {
				t.Errorf("Close took %v", took)
			}
			noneLeft(t, dir)
			if child != 0 && alive(child) {
				t.Errorf("the plugin's child %d lives", child)
			}
			if state == "hang" {
				if err := <-ended; err == nil {
					t.Error("the call that was cut short returned no error")
				}
			}
			if _, _, err := h.Executor(t.Context(), "bad"); !errors.Is(err, sdk.ErrCancelled) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// TestCloseEndsAStart closes a host that is just starting a plugin.
func TestCloseEndsAStart(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "hang-in-configure")
	h := New(Options{Dirs: []string{dir}})
	ended := make(chan error, 1)
	go func() {
		_, _, err := h.Executor(context.Background(), "bad")
		ended <- err
	}()
	for until := time.Now().Add(5 * time.Second); len(processesOf(dir)) == 0 && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	began := time.Now()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, sdk.ErrCancelled) {
		t.Errorf("the start: %v", err)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("Close took %v", took)
	}
	noneLeft(t, dir)
}

// TestDeadIsStartedAgain kills an executor between two calls: what is got
// afterwards is a new process, configured like the first.
func TestDeadIsStartedAgain(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "none")
	h := New(Options{Dirs: []string{dir}})
	defer h.Close()
	ask := func() error {
		e, _, err := h.Executor(t.Context(), "bad")
		if err != nil {
			return err
		}
		return e.Run(t.Context(), []string{"h1"}, sdk.Command{Argv: []sdk.Raw{"true"}}, func(sdk.Result) {})
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range processesOf(dir) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := ask(); err != nil && !errors.Is(err, sdk.ErrCrashed) {
		t.Errorf("the call in which its death is found: %v", err)
	}
	if err := ask(); err != nil {
		t.Errorf("the call after that: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	noneLeft(t, dir)
}

// TestInterruptedStart: whoever ends a start is told of that, not of a fault of
// the plugin.
func TestInterruptedStart(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "hang-on-start")
	h := New(Options{Dirs: []string{dir}})
	defer h.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(errors.New("interrupted by hand")) })
	_, _, err := h.Executor(ctx, "bad")
	if !errors.Is(err, sdk.ErrCancelled) || !strings.Contains(err.Error(), "interrupted by hand") || strings.Contains(err.Error(), "author") {
		t.Errorf("got %v", err)
	}
	noneLeft(t, dir)
}

// alive reports whether a process runs (and is no zombie).
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// beHost is the process that TestHostKilled kills: it starts a plugin and
// waits.
func beHost() {
	h := New(Options{Dirs: []string{os.Getenv("PLUGINHOST_TEST_HOST")}})
	e, _, err := h.Executor(context.Background(), "bad")
	if err != nil {
		panic(err)
	}
	e.Run(context.Background(), []string{"h1"}, sdk.Command{Argv: []sdk.Raw{"child"}}, func(r sdk.Result) {
		os.Stdout.WriteString(string(r.Stdout) + "\n")
	})
	time.Sleep(time.Minute)
}

// TestHostKilled kills a host by SIGKILL while its plugin is in a call: the
// plugin and its child are gone within 5 s.
func TestHostKilled(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "none")
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), "PLUGINHOST_TEST_HOST="+dir)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	defer host.Process.Kill()
	line := make([]byte, 32)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	sockets := socketDirs(processesOf(dir))
	if len(sockets) != 1 {
		t.Fatalf("directories of sockets: %v", sockets)
	}
	child, _ := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	pids := processesOf(dir)
	if len(pids) != 1 || !alive(child) {
		t.Fatalf("plugin processes: %v, child %d", pids, child)
	}
	host.Process.Signal(syscall.SIGKILL)
	host.Wait()
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if len(processesOf(dir)) == 0 && !alive(child) {
			if _, err := os.Stat(sockets[0]); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the directory of its sockets is left: %v", err)
			}
			return
		}
	}
	t.Errorf("5 s after its host was killed the plugin lives: %v, child alive: %v", processesOf(dir), alive(child))
}

// socketDirs gives the private directories of plugins, from the environment
// that they were started with.
func socketDirs(pids []int) []string {
	var dirs []string
	for _, pid := range pids {
		env, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		for _, v := range strings.Split(string(env), "\x00") {
			if dir, ok := strings.CutPrefix(v, "PLUGIN_UNIX_SOCKET_DIR="); ok {
				dirs = append(dirs, filepath.Dir(dir))
			}
		}
	}
	return dirs
}

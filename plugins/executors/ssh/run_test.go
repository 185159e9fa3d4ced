package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// checkExact runs commands whose result is known to the byte.
func checkExact(t *testing.T, e sdk.Executor) {
	t.Helper()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	long := strings.Repeat("x", 120<<10)
	tests := []struct {
		name           string
		argv           []sdk.Raw
		stdin          []byte
		code           int
		stdout, stderr string
	}{
		{"nothing", raws("true"), nil, 0, "", ""},
		{"exit code", raws("sh", "-c", "exit 37"), nil, 37, "", ""},
		{"bytes", raws("printf", `\0\377\r\033a\n\n`), nil, 0, "\x00\xff\r\x1ba\n\n", ""},
		{"both", raws("sh", "-c", "printf 'out\n'; printf 'err\n' >&2; exit 3"), nil, 3, "out\n", "err\n"},
		{"stdin", raws("cat"), all, 0, string(all), ""},
		{"empty stdin", raws("cat"), []byte{}, 0, "", ""},
		{"no stdin", raws("cat"), nil, 0, "", ""},
		{"unread stdin", raws("true"), bytes.Repeat([]byte("x"), maxStdin), 0, "", ""},
		{"killed", raws("sh", "-c", "printf a; kill -9 $$"), nil, 137, "a", ""},
		{"terminated", raws("sh", "-c", "kill -15 $$"), nil, 143, "", ""},
		{"arguments", raws("printf", "%s|", "", "a'b", "$(id)`id`", "\n", "-x", "!!", "\\", "%h", "\xff\xfe", "\x01\x7f\x81\x88"), nil, 0,
			"|a'b|$(id)`id`|\n|-x|!!|\\|%h|\xff\xfe|\x01\x7f\x81\x88|", ""},
		{"large arguments", raws("sh", "-c", `printf %s%s "$0" "$1"`, long, long), nil, 0, long + long, ""},
	}
	for _, tt := range tests {
		r := runOne(t, e, "db1", sdk.Command{Argv: tt.argv, Stdin: tt.stdin, Timeout: 20 * time.Second})
		if r.Err != nil || r.ExitCode != tt.code || string(r.Stdout) != tt.stdout || string(r.Stderr) != tt.stderr || r.Truncated {
			t.Errorf("%s: got code %d, stdout %.200q, stderr %q, err %+v; want %d, %.200q, %q",
				tt.name, r.ExitCode, r.Stdout, r.Stderr, r.Err, tt.code, tt.stdout, tt.stderr)
		}
	}
}

func TestRunIsExact(t *testing.T) { checkExact(t, startSSHD(t).executor(t)) }

// TestAnyLoginShell lets a shell of another kind read the line, after the
// noise of a talkative login.
func TestAnyLoginShell(t *testing.T) {
	for _, name := range []string{"sh", "bash", "zsh", "tcsh", "fish"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("%s is not installed: not tried", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startSSHD(t, fmt.Sprintf(`ForceCommand echo Welcome; echo 'no line end' | tr -d '\n' >&2; exec %s -c "$SSH_ORIGINAL_COMMAND"`, path))
			checkExact(t, l.executor(t))
		})
	}
}

func TestMissingCommand(t *testing.T) {
	l := startSSHD(t)
	e := l.executor(t)
	plain := l.write(t, "plain", "", 0o600)
	for arg, code := range map[string]int{"no-such-command": 127, "-x": 127, "": 127, plain: 126} {
		r := runOne(t, e, "db1", sdk.Command{Argv: raws(arg)})
		if r.Err != nil || r.ExitCode != code || len(r.Stderr) == 0 {
			t.Errorf("%q: got %+v, want %d and a reason", arg, r, code)
		}
	}
}

func TestOutputIsCutAndDrained(t *testing.T) {
	r := runOne(t, startSSHD(t).executor(t), "db1", sdk.Command{Argv: raws("head", "-c", strconv.Itoa(5*maxOutput), "/dev/zero")})
	if r.Err != nil || r.ExitCode != 0 || len(r.Stdout) != maxOutput || !r.Truncated {
		t.Errorf("code %d, %d bytes, truncated %v, err %v", r.ExitCode, len(r.Stdout), r.Truncated, r.Err)
	}
}

// spawner leaves a grandchild that ignores SIGTERM and prints its id.
var spawner = raws("sh", "-c", "(trap '' TERM; sleep 63.5) & echo $!; wait")

func TestTimeoutLeavesNoProcess(t *testing.T) {
	start := time.Now()
	r := runOne(t, startSSHD(t).executor(t), "db1", sdk.Command{Argv: spawner, Timeout: 500 * time.Millisecond})
	if !errors.Is(r.Err, sdk.ErrTimeout) || time.Since(start) > 5*time.Second {
		t.Fatalf("got %+v after %v, want KindTimeout", r, time.Since(start))
	}
	checkGone(t, r.Stdout)
}

func TestCancelLeavesNoProcess(t *testing.T) {
	e := startSSHD(t).executor(t)
	runOne(t, e, "db1", sdk.Command{Argv: raws("true")}) // the connection stands
	var wg sync.WaitGroup
	for range sessionsAtOnce { // so that killing needs what is above the slots
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			var r sdk.Result
			e.Run(ctx, []string{"db1"}, sdk.Command{Argv: spawner, Timeout: 30 * time.Second}, func(got sdk.Result) { r = got })
			if !errors.Is(r.Err, sdk.ErrCancelled) || time.Since(start) > 6*time.Second {
				t.Errorf("got %+v after %v, want KindCancelled", r, time.Since(start))
			}
			checkGone(t, r.Stdout)
		})
	}
	wg.Wait()
}

// checkGone fails if the process whose id was printed lives on.
func checkGone(t *testing.T, stdout []byte) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(string(stdout)))
	if err != nil {
		t.Error(err)
		return
	}
	for range 40 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Errorf("process %d lives on", pid)
}

func TestManyCallsShareOneConnection(t *testing.T) {
	l := startSSHD(t, "LogLevel VERBOSE")
	e := l.executor(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			want := strconv.Itoa(i)
			if r := runOne(t, e, "db1", sdk.Command{Argv: raws("echo", "-n", want)}); r.Err != nil || string(r.Stdout) != want {
				t.Errorf("call %d: %+v", i, r)
			}
		})
	}
	wg.Wait()
	log, _ := os.ReadFile(l.path("sshd.log"))
	if n := bytes.Count(log, []byte("Accepted publickey")); n != 1 {
		t.Errorf("%d logins for 20 calls, want 1", n)
	}
}

func TestFewerSessionsThanCalls(t *testing.T) {
	e := startSSHD(t, "MaxSessions 2").executor(t)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if r := runOne(t, e, "db1", sdk.Command{Argv: raws("sleep", "0.1")}); r.Err != nil {
				t.Errorf("call %d: %v", i, r.Err)
			}
		})
	}
	wg.Wait()
}

// serverPid returns the process of sshd that holds the connection.
func serverPid(t *testing.T, e sdk.Executor) int {
	t.Helper()
	r := runOne(t, e, "db1", sdk.Command{Argv: raws("sh", "-c", `cut -d ' ' -f 4 /proc/$PPID/stat`)})
	pid, err := strconv.Atoi(strings.TrimSpace(string(r.Stdout)))
	if err != nil || pid < 2 {
		t.Fatalf("%+v: %v", r, err)
	}
	return pid
}

func TestDeadConnectionIsMadeAnew(t *testing.T) {
	e := startSSHD(t).executor(t)
	pid := strconv.Itoa(serverPid(t, e))
	r := runOne(t, e, "db1", sdk.Command{Argv: raws("sh", "-c", `kill -9 "$0"; sleep 1`, pid), Timeout: 10 * time.Second})
	if !errors.Is(r.Err, sdk.ErrUnreachable) {
		t.Errorf("got %+v, want KindUnreachable", r)
	}
	if r := runOne(t, e, "db1", sdk.Command{Argv: raws("true")}); r.Err != nil || r.ExitCode != 0 {
		t.Errorf("after it: %+v", r)
	}
}

// TestHangingConnection stops the server's process: packets are taken and
// nothing comes back.
func TestHangingConnection(t *testing.T) {
	l := startSSHD(t)
	l.conf = l.config(t, "ssh_config", "Host *\n  ServerAliveInterval 1\n  ServerAliveCountMax 2")
	e := l.executor(t)
	pid := serverPid(t, e)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var r sdk.Result
	start := time.Now()
	e.Run(ctx, []string{"db1"}, nothing, func(got sdk.Result) { r = got })
	if !errors.Is(r.Err, sdk.ErrCancelled) || time.Since(start) > 6*time.Second {
		t.Errorf("cancelled: got %+v after %v", r, time.Since(start))
	}
	// The next call waits until the connection is given up and makes another.
	if r := runOne(t, e, "db1", nothing); r.Err != nil || time.Since(start) > 15*time.Second {
		t.Errorf("after it: got %+v after %v", r, time.Since(start))
	}
}

func TestCloseEndsCalls(t *testing.T) {
	e := startSSHD(t).executor(t)
	runOne(t, e, "db1", nothing)
	time.AfterFunc(300*time.Millisecond, func() { e.(io.Closer).Close() })
	start := time.Now()
	r := runOne(t, e, "db1", sdk.Command{Argv: raws("sleep", "5"), Timeout: 6 * time.Second})
	if r.Err == nil || time.Since(start) > 4*time.Second {
		t.Errorf("got %+v after %v", r, time.Since(start))
	}
	e.(io.Closer).Close()
	if r := runOne(t, e, "db1", nothing); !errors.Is(r.Err, sdk.ErrCancelled) {
		t.Errorf("after it: %+v", r)
	}
}

func TestManyHostsAtOnce(t *testing.T) {
	l := startSSHD(t)
	dead := freePort(t)
	l.conf = l.config(t, "ssh_config", fmt.Sprintf(`Host refused
  Port %d
Host unknown-name
  HostName no-such-host.invalid
Host silent
  HostName 192.0.2.1
  ConnectTimeout 1
`, dead))
	hosts := []string{"refused", "unknown-name", "silent", "-oProxyCommand=id", "a b", ""}
	for i := range 12 {
		hosts = append(hosts, fmt.Sprintf("db%d", i))
	}
	got := map[string]sdk.Result{}
	start := time.Now()
	err := l.executor(t).Run(t.Context(), hosts, sdk.Command{Argv: raws("true")}, func(r sdk.Result) { got[r.Host] = r })
	if err != nil || len(got) != len(hosts) || time.Since(start) > 10*time.Second {
		t.Fatalf("%d results of %d after %v, %v", len(got), len(hosts), time.Since(start), err)
	}
	want := map[string]*sdk.Error{
		"refused": sdk.ErrUnreachable, "unknown-name": sdk.ErrUnreachable, "silent": sdk.ErrUnreachable,
		"-oProxyCommand=id": sdk.ErrConfig, "a b": sdk.ErrConfig, "": sdk.ErrConfig,
	}
	for _, h := range hosts {
		r := got[h]
		if want[h] == nil {
			if r.Err != nil || r.ExitCode != 0 {
				t.Errorf("%s: %+v", h, r)
			}
			continue
		}
		if !errors.Is(r.Err, want[h]) || r.Err.Host != h || r.Err.Hint == "" {
			t.Errorf("%s: got %v, want kind %s with host and hint", h, r.Err, want[h].Kind)
		}
	}
}

func TestLatency(t *testing.T) {
	e := startSSHD(t).executor(t)
	for _, what := range []string{"first call, with login", "next call"} {
		start := time.Now()
		if r := runOne(t, e, "db1", sdk.Command{Argv: raws("true")}); r.Err != nil {
			t.Fatal(r.Err)
		}
		t.Logf("%s: %v", what, time.Since(start).Round(time.Millisecond))
	}
}

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func raws(args ...string) []sdk.Raw {
	list := make([]sdk.Raw, len(args))
	for i, a := range args {
		list[i] = sdk.Raw(a)
	}
	return list
}

func sh(script string) sdk.Command { return sdk.Command{Argv: raws("sh", "-c", script)} }

func TestRun(t *testing.T) {
	dir := t.TempDir()
	plainFile := filepath.Join(dir, "plain")
	noInterpreter := filepath.Join(dir, "script")
	for path, content := range map[string]string{plainFile: "x", noInterpreter: "#!/no/such/interpreter\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(noInterpreter, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		cmd    sdk.Command
		code   int
		stdout string
		stderr string // a part of it
	}{
		{"output", sh("echo out; echo err >&2; exit 3"), 3, "out\n", "err"},
		{"exact arguments", sdk.Command{Argv: raws("printf", "%s|", "a b", "", "$HOME", "\xff\n", "-n", "*")}, 0, "a b||$HOME|\xff\n|-n|*|", ""},
		{"signal", sh("kill -9 $$"), 137, "", ""},
		{"missing", sdk.Command{Argv: raws("no-such-command")}, 127, "", "not found"},
		{"missing path", sdk.Command{Argv: raws("/no/such")}, 127, "", "no such file"},
		{"missing interpreter", sdk.Command{Argv: raws(noInterpreter)}, 127, "", noInterpreter},
		{"not executable", sdk.Command{Argv: raws(plainFile)}, 126, "", "permission denied"},
		{"a directory", sdk.Command{Argv: raws(dir)}, 126, "", "permission denied"},
		{"stdin", sdk.Command{Argv: raws("cat"), Stdin: []byte("in\x00put")}, 0, "in\x00put", ""},
		{"no stdin", sdk.Command{Argv: raws("cat")}, 0, "", ""},
		{"stdin unread", sdk.Command{Argv: raws("true"), Stdin: make([]byte, 1<<20)}, 0, "", ""},
		{"directory", sdk.Command{Argv: raws("pwd")}, 0, "/\n", ""},
		{"sbin is in the path", sh(`case $PATH in */usr/sbin*) exit 0;; esac; exit 1`), 0, "", ""},
		{"group of its own", sh(`test $$ = $(ps -o pgid= -p $$ | tr -d ' ')`), 0, "", ""},
	}
	for _, tt := range tests {
		r := Run(t.Context(), tt.cmd, Limits{})
		if r.Err != nil || r.ExitCode != tt.code || string(r.Stdout) != tt.stdout || !strings.Contains(string(r.Stderr), tt.stderr) {
			t.Errorf("%s: %d %q %q %v", tt.name, r.ExitCode, r.Stdout, r.Stderr, r.Err)
		}
	}
}

func TestRunEnvironmentIsMinimal(t *testing.T) {
	t.Setenv("SECRET_TOKEN", "x")
	r := Run(t.Context(), sdk.Command{Argv: raws("env")}, Limits{})
	if strings.Contains(string(r.Stdout), "SECRET") || !strings.Contains(string(r.Stdout), "LC_ALL=C\n") {
		t.Errorf("%s", r.Stdout)
	}
}

func TestRunBoundsOutput(t *testing.T) {
	r := Run(t.Context(), sh("head -c 50000000 /dev/zero; echo end >&2"), Limits{Output: 1000})
	if r.Err != nil || r.ExitCode != 0 || len(r.Stdout) != 1000 || !r.Truncated || string(r.Stderr) != "end\n" {
		t.Errorf("%d bytes, %+v", len(r.Stdout), r.Err)
	}
}

func TestRunTimeoutKillsTheGroup(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	cmd := sh("trap '' TERM; echo before; (trap '' TERM; echo $BASHPID; sleep 1000) & echo $! > " + pids + "; wait; wait; sleep 1000")
	cmd.Timeout = 300 * time.Millisecond
	began := time.Now()
	r := Run(t.Context(), cmd, Limits{})
	if !errors.Is(r.Err, sdk.ErrTimeout) || !strings.HasPrefix(string(r.Stdout), "before\n") {
		t.Errorf("%+v", r)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("took %v", took)
	}
	gonePIDs(t, pids)
}

func TestRunIsCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if r := Run(ctx, sh("sleep 1000"), Limits{}); !errors.Is(r.Err, sdk.ErrCancelled) {
		t.Errorf("%+v", r)
	}
	if r := Run(ctx, sh("true"), Limits{}); !errors.Is(r.Err, sdk.ErrCancelled) {
		t.Errorf("started under a context that has ended: %+v", r)
	}
}

func TestRunDoesNotWaitForWhatIsLeftBehind(t *testing.T) {
	began := time.Now()
	r := Run(t.Context(), sh("setsid sleep 30 & echo $!"), Limits{})
	if took := time.Since(began); took > 10*time.Second || r.ExitCode != 0 || r.Err != nil {
		t.Errorf("took %v: %+v", took, r)
	}
	if pid, _ := strconv.Atoi(strings.TrimSpace(string(r.Stdout))); pid > 0 {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// gonePIDs checks that none of the processes in the file runs.
func gonePIDs(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(data)) {
		stat, err := os.ReadFile("/proc/" + word + "/stat")
		if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
			t.Errorf("process %s still runs: %s", word, stat)
		}
	}
}

func stage(script string) sdk.StageCommand { return sdk.StageCommand{Argv: raws("sh", "-c", script)} }

func TestSource(t *testing.T) {
	dir := t.TempDir()
	c := sdk.StageCommand{Argv: raws("sh", "-c", "pwd; echo $1; echo $X", "-", "{staging}/a"), Dir: "{staging}", Env: raws("X=y z")}
	p, err := StartSource(t.Context(), c, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(p.Stdout())
	if err != nil || string(data) != dir+"\n"+dir+"/a\ny z\n" {
		t.Errorf("%q, %v", data, err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	p.Stop(t.Context()) // bears it
}

func TestSink(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p, err := StartSink(t.Context(), stage("cat > "+out), "/nowhere", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("data"), 1<<20)
	if _, err := p.Stdin().Write(want); err != nil {
		t.Fatal(err)
	}
	if err := p.Stdin().Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(out); !bytes.Equal(got, want) {
		t.Errorf("%d bytes", len(got))
	}
}

// TestPipesAreLarge: 1 MiB between a command and the agent, both ways.
func TestPipesAreLarge(t *testing.T) {
	for name, begin := range map[string]func(context.Context, sdk.StageCommand, string, io.Writer) (*Proc, error){"source": StartSource, "sink": StartSink} {
		p, err := begin(t.Context(), sdk.StageCommand{Argv: raws("sh", "-c", "sleep 60")}, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		size, err := unix.FcntlInt(p.data.Fd(), unix.F_GETPIPE_SZ, 0)
		if err != nil || size != pipeSize {
			t.Errorf("the pipe of a %s holds %d bytes (%v); see /proc/sys/fs/pipe-max-size", name, size, err)
		}
		p.Stop(t.Context())
	}
}

func TestSuccessRule(t *testing.T) {
	tests := []struct {
		name   string
		script string
		rule   sdk.Success
		kind   error  // nil: success
		why    string // part of the message
	}{
		{"zero", "true", sdk.Success{}, nil, ""},
		{"not zero", "echo reason >&2; exit 5", sdk.Success{}, sdk.ErrCrashed, "exit code 5"},
		{"listed", "exit 5", sdk.Success{ExitCodes: []int{0, 5}}, nil, ""},
		{"zero not listed", "true", sdk.Success{ExitCodes: []int{5}}, sdk.ErrCrashed, "exit code 0"},
		{"signal", "kill -SEGV $$", sdk.Success{}, sdk.ErrCrashed, "signal 11"},
		{"last line", "echo x >&2; echo 'completed OK!' >&2; echo >&2", sdk.Success{LastStderrLine: "completed OK!$"}, nil, ""},
		{"last line is another", "echo 'completed OK!' >&2; echo bad >&2", sdk.Success{LastStderrLine: "completed OK!$"}, sdk.ErrCrashed, "last line"},
		{"no last line", "true", sdk.Success{LastStderrLine: "OK"}, sdk.ErrCrashed, "last line"},
		{"last line but exit code", "echo OK >&2; exit 1", sdk.Success{LastStderrLine: "OK"}, sdk.ErrCrashed, "exit code 1"},
		{"empty stderr", "true", sdk.Success{EmptyStderr: true}, nil, ""},
		{"stderr not empty", "echo w >&2", sdk.Success{EmptyStderr: true}, sdk.ErrCrashed, "stderr"},
		{"leaves something behind", "sleep 1000 & true", sdk.Success{}, sdk.ErrCrashed, "went on"},
	}
	for _, tt := range tests {
		c := stage(tt.script)
		c.Success = tt.rule
		p, err := StartSink(t.Context(), c, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		p.Stdin().Close()
		err = p.Wait()
		if tt.kind == nil && err != nil || tt.kind != nil && (!errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.why)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestStderrIsRedactedAndBounded(t *testing.T) {
	c := stage("echo user=a password=geheim >&2; printf 'prog 1\\rprog 2 geheim\\r' >&2; exit 1")
	c.Redact, c.Progress = []string{"password=[^ ]*", "geheim"}, "^prog"
	p, err := StartSource(t.Context(), c, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	failure := sdk.AsError(p.Wait())
	if failure == nil || strings.Contains(failure.Stderr, "geheim") || !strings.Contains(failure.Stderr, "user=a [redacted]") {
		t.Errorf("%+v", failure)
	}
	if got := p.Progress(); got != "prog 2 [redacted]" {
		t.Errorf("progress %q", got)
	}

	p, err = StartSource(t.Context(), stage("head -c 20000000 /dev/zero >&2; echo >&2; seq 100000 >&2"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if lines := strings.Split(p.Tail(), "\n"); len(lines) != tailLines || lines[len(lines)-1] != "100000" {
		t.Errorf("%d lines", len(lines))
	}
}

func TestStopKillsWhatIgnoresIt(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	c := stage("trap '' INT; (trap '' INT; sleep 1000) & echo $$ $! > " + pids + "; echo up; wait; wait; sleep 1000")
	c.StopSignal, c.StopAfter = "INT", 300*time.Millisecond
	p, err := StartSource(t.Context(), c, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(p.Stdout(), make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	p.Stop(t.Context())
	gonePIDs(t, pids)
	if err := p.Wait(); !errors.Is(err, sdk.ErrCancelled) {
		t.Errorf("%v", err)
	}
}

func TestStopSignalIsHeard(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	c := stage("trap 'echo heard > " + out + "; exit 0' QUIT; echo up; while :; do sleep 0.05; done")
	c.StopSignal = "QUIT"
	p, err := StartSource(t.Context(), c, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(p.Stdout(), make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	p.Stop(t.Context())
	if got, _ := os.ReadFile(out); string(got) != "heard\n" {
		t.Errorf("%q", got)
	}
}

// A source whose shell has died while what it started writes on.
func TestContextEndsOrphans(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := StartSource(ctx, stage("sleep 1000 & echo $! > "+pids+"; echo up"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, cancel)
	data, _ := io.ReadAll(p.Stdout()) // ends by cancel only
	if string(data) != "up\n" || ctx.Err() == nil {
		t.Errorf("%q", data)
	}
	p.Stop(t.Context())
	gonePIDs(t, pids)
}

func TestStartRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		c    sdk.StageCommand
		kind error
	}{
		"nothing":        {sdk.StageCommand{}, sdk.ErrConfig},
		"missing":        {sdk.StageCommand{Argv: raws("no-such-command")}, sdk.ErrMissingTool},
		"not executable": {sdk.StageCommand{Argv: raws("/etc/passwd")}, sdk.ErrPermission},
		"no directory":   {sdk.StageCommand{Argv: raws("true"), Dir: "/no/such"}, sdk.ErrNotFound},
		"signal":         {sdk.StageCommand{Argv: raws("true"), StopSignal: "NOPE"}, sdk.ErrConfig},
		"pattern":        {sdk.StageCommand{Argv: raws("true"), Redact: []string{"("}}, sdk.ErrConfig},
		"user":           {sdk.StageCommand{Argv: raws("true"), User: "no-such-user"}, nil},
	} {
		p, err := StartSink(t.Context(), tt.c, "", nil)
		if err == nil {
			p.Stop(t.Context())
		}
		if err == nil || tt.kind != nil && !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: the agent cannot become another user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody here")
	}
	c := stage("id -u; id -g; id -G; echo $USER")
	c.User = "nobody"
	p, err := StartSource(t.Context(), c, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(p.Stdout())
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("%s\n%s\n%s\nnobody\n", nobody.Uid, nobody.Gid, nobody.Gid)
	if string(data) != want {
		t.Errorf("%q, want %q", data, want)
	}
	// A user that only getent knows would have no groups of the agent either.
	if who, err := accountOf(t.Context(), "nobody"); err != nil || len(who.cred.Groups) == 0 {
		t.Errorf("%+v, %v", who, err)
	}
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("a geheim b\r\ngeheim\n"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		keep, err := newTail([]string{"geheim"}, "")
		if err != nil {
			t.Fatal(err)
		}
		for n := int(step) + 1; len(data) > 0; data = data[min(n, len(data)):] {
			keep.Write(data[:min(n, len(data))])
		}
		keep.flush()
		text := keep.text()
		if strings.Contains(text, "geheim") || len(text) > tailLines*(maxTailLine*len(redacted)) {
			t.Fatalf("%q", text)
		}
	})
}

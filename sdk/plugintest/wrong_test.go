package plugintest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/plugins/executors/local"
	"github.com/transferpy/transferpy/sdk"
)

// wrongEnv names the mistake that TestWrong's child process makes.
const wrongEnv = "PLUGINTEST_WRONG"

// wrongExecutor is the local executor with a mistake in what goes in or comes
// out.
type wrongExecutor struct {
	sdk.Executor
	in  func(hosts []string, c sdk.Command) ([]string, sdk.Command)
	out func(r sdk.Result) sdk.Result
}

func (w wrongExecutor) Run(ctx context.Context, hosts []string, c sdk.Command, emit func(sdk.Result)) error {
	asked := hosts
	if w.in != nil {
		hosts, c = w.in(hosts, c)
	}
	i := 0
	return w.Executor.Run(ctx, hosts, c, func(r sdk.Result) {
		r.Host = asked[i]
		i++
		if w.out != nil {
			r = w.out(r)
		}
		emit(r)
	})
}

func (w wrongExecutor) Describe() sdk.Description {
	d := w.Executor.Describe()
	d.Executor.CanPut = false
	return d
}

var wrongExecutors = map[string]struct {
	e    wrongExecutor
	want string // what the suite complains of
}{
	"joins the arguments": {wrongExecutor{in: func(h []string, c sdk.Command) ([]string, sdk.Command) {
		var words []string
		for _, a := range c.Argv {
			words = append(words, string(a))
		}
		c.Argv = argv("sh", "-c", strings.Join(words, " "))
		return h, c
	}}, "arguments_are_exact"},
	"trims output": {wrongExecutor{out: func(r sdk.Result) sdk.Result {
		r.Stdout = bytes.TrimRight(r.Stdout, "\n")
		return r
	}}, "output_is_exact"},
	"mixes stderr in": {wrongExecutor{out: func(r sdk.Result) sdk.Result {
		r.Stdout, r.Stderr = append(r.Stdout, r.Stderr...), nil
		return r
	}}, "output_is_exact"},
	"folds exit codes": {wrongExecutor{out: func(r sdk.Result) sdk.Result {
		r.ExitCode = min(r.ExitCode, 1)
		return r
	}}, "exit code 1, stdout \"3\\n\""},
	"forgets stdin": {wrongExecutor{in: func(h []string, c sdk.Command) ([]string, sdk.Command) {
		c.Stdin = nil
		return h, c
	}}, "stdin_is_exact"},
	"runs for anybody": {wrongExecutor{in: func(h []string, c sdk.Command) ([]string, sdk.Command) {
		here := make([]string, len(h))
		for i := range h {
			here[i] = "localhost"
		}
		return here, c
	}}, "a command ran; want an error"},
	"hides the cut": {wrongExecutor{out: func(r sdk.Result) sdk.Result {
		r.Truncated = false
		return r
	}}, "Truncated is not set"},
	"forgets the time limit": {wrongExecutor{in: func(h []string, c sdk.Command) ([]string, sdk.Command) {
		if c.Timeout > 0 {
			c.Argv = append(argv("setsid", "-w"), c.Argv...)
		}
		return h, c
	}}, "a_time_limit_kills_the_process_group"},
}

// TestWrong runs the suite over executors that are wrong, each in a process
// of its own, and wants it to fail for the right reason.
func TestWrong(t *testing.T) {
	for name, test := range wrongExecutors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complains(t, "TestWrongChild", name, test.want)
		})
	}
}

// complains runs a test in a process of its own, which makes the mistake of
// this name, and wants it to fail with a text.
func complains(t *testing.T, test, mistake, want string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), wrongEnv+"="+mistake)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL") || !strings.Contains(string(out), want) {
		t.Errorf("the suite does not complain of %q: %v\n%s", want, err, out)
	}
}

func TestWrongChild(t *testing.T) {
	test, ok := wrongExecutors[os.Getenv(wrongEnv)]
	if !ok {
		t.Skip("a part of TestWrong")
	}
	test.e.Executor = local.New()
	Executor(t, test.e, ExecutorCase{Good: []string{"localhost"}})
}

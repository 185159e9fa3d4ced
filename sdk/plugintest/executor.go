package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// ExecutorCase is what the executor suite needs to know.
type ExecutorCase struct {
	Config      map[string][]string // raw values of its section
	Good        []string            // hosts on which commands can be run; at least one
	Unreachable string              // a host that does not answer; empty: that part is left out and says so
	Unknown     string              // a host that there is not; empty: as Unreachable
	Once        bool                // most calls are made once and not twice: for backends that take seconds a call
	Query       string              // for an Expander: a query and
	Expanded    []string            // what it names
}

// Executor is the conformance suite for executors. It leaves nothing on the
// hosts and takes about a minute over a backend that takes a second a call.
func Executor(t *testing.T, p sdk.Executor, c ExecutorCase) {
	if len(c.Good) == 0 {
		t.Fatal("ExecutorCase.Good names no host")
	}
	e := prepare(t, p, sdk.KindExecutor, c.Config).(sdk.Executor)
	s := &executorSuite{ExecutorCase: c, e: e, traits: e.Describe().Executor}
	t.Run("arguments are exact", s.arguments)
	t.Run("stdin is exact", s.stdin)
	t.Run("output is exact", s.output)
	t.Run("exit codes", s.exitCodes)
	t.Run("a missing command", s.missing)
	t.Run("a time limit kills the process group", s.timeout)
	t.Run("cancelling ends the call", s.cancel)
	t.Run("each host has one result", s.hosts)
	t.Run("an unreachable host", s.unreachable)
	t.Run("a slow host", s.slow)
	t.Run("output beyond the limit is cut", s.limit)
	t.Run("calls at once", s.atOnce)
	t.Run("hostile host names", s.hostile)
	t.Run("Put", s.put)
	t.Run("Expand", s.expand)
}

type executorSuite struct {
	ExecutorCase
	e      sdk.Executor
	traits sdk.ExecutorTraits
}

// collect makes one call and returns the results by host.
func (s *executorSuite) collect(t *testing.T, ctx context.Context, hosts []string, cmd sdk.Command) (map[string]sdk.Result, error) {
	t.Helper()
	var mu sync.Mutex
	results := map[string]sdk.Result{}
	returned := false
	err := s.e.Run(ctx, hosts, cmd, func(r sdk.Result) {
		mu.Lock()
		defer mu.Unlock()
		if _, twice := results[r.Host]; twice {
			t.Errorf("host %q has a second result", r.Host)
		}
		if returned {
			t.Error("emit was called after Run had returned")
		}
		results[r.Host] = r
	})
	mu.Lock()
	defer mu.Unlock()
	returned = true
	return results, err
}

// times is how often a call is made.
func (s *executorSuite) times() int {
	if s.Once {
		return 1
	}
	return 2
}

// twice runs a command on the first good host, two times (s.times), and gives
// each result to check.
func (s *executorSuite) twice(t *testing.T, cmd sdk.Command, check func(t *testing.T, r sdk.Result)) {
	t.Helper()
	for range s.times() {
		ctx, cancel := within(t, 2*time.Minute)
		results, err := s.collect(t, ctx, s.Good[:1], cmd)
		cancel()
		r, ok := results[s.Good[0]]
		switch {
		case err != nil:
			t.Fatal("Run: " + full(err))
		case !ok:
			t.Fatal("Run: no result")
		}
		check(t, r)
	}
}

// wantResult checks a result to its last byte.
func wantResult(t *testing.T, r sdk.Result, code int, stdout, stderr string) {
	t.Helper()
	if r.Err != nil {
		t.Errorf("error: %s", full(r.Err))
		return
	}
	if r.ExitCode != code || string(r.Stdout) != stdout || string(r.Stderr) != stderr || r.Truncated {
		t.Errorf("got exit code %d, stdout %s, stderr %s, truncated %v\nwant %d, %s, %s",
			r.ExitCode, show(string(r.Stdout)), show(string(r.Stderr)), r.Truncated, code, show(stdout), show(stderr))
	}
}

// show is s quoted, in bounds.
func show(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%q... (%d bytes)", s[:300], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func argv(words ...string) []sdk.Raw {
	out := make([]sdk.Raw, len(words))
	for i, w := range words {
		out[i] = sdk.Raw(w)
	}
	return out
}

// sh is a command of sh with arguments $1, $2, ...
func sh(script string, args ...string) sdk.Command {
	return sdk.Command{Argv: append(argv("sh", "-c", script, "sh"), argv(args...)...), Timeout: 20 * time.Second}
}

func (s *executorSuite) arguments(t *testing.T) {
	every := make([]byte, 0, 255)
	for b := 1; b < 256; b++ {
		every = append(every, byte(b))
	}
	args := []string{"", " ", "a b", "  lead and trail  ", "'", `"`, `'"'"'`, `\`, `\\n`, "$HOME", "$(id)", "`id`", "${x}", "\n", "a\nb\n",
		"\r\n", "\t", "*", "?", "[a-z]", "~", "~root", "-n", "--", "-e", "#", "# x", "!", "!!", ";", "&", "&&", "|", ">", "<", "(", "{a,b}",
		"%s", "%", "a=b", "=", "yes", "null", "010", "{a: b}", "[1,2]", "\xff\xfe", "\xc3\x28", "é", "日本", "\x01\x1b[31m", "{host}", "{{x}}",
		string(every), ""}
	s.twice(t, sh(`for a in "$@"; do printf '%s\0' "$a"; done`, args...), func(t *testing.T, r sdk.Result) {
		got := strings.Split(strings.TrimSuffix(string(r.Stdout), "\x00"), "\x00")
		if r.Err != nil || r.ExitCode != 0 || len(got) != len(args) {
			t.Fatalf("%d arguments came out of %d: exit code %d, error %v, stderr %s", len(got), len(args), r.ExitCode, r.Err, show(string(r.Stderr)))
		}
		for i := range args {
			if got[i] != args[i] {
				t.Errorf("argument %d is %s, want %s", i+1, show(got[i]), show(args[i]))
			}
		}
	})
	s.twice(t, sdk.Command{Argv: argv("printf", "%s", "no shell: $HOME;")}, func(t *testing.T, r sdk.Result) {
		wantResult(t, r, 0, "no shell: $HOME;", "")
	})
}

func (s *executorSuite) stdin(t *testing.T) {
	s.twice(t, sdk.Command{Argv: argv("cat")}, func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, "", "") })
	size := s.traits.MaxStdin
	if size == 0 {
		size = 64 << 10
	}
	limit := s.maxOutput()
	in := make([]byte, min(size, limit, 256<<10))
	for i := range in {
		in[i] = byte(i ^ i>>8)
	}
	s.twice(t, sdk.Command{Argv: argv("cat"), Stdin: in}, func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, string(in), "") })
	s.twice(t, sdk.Command{Argv: argv("cat"), Stdin: []byte("\n\x00\n")}, func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, "\n\x00\n", "") })
	s.twice(t, sdk.Command{Argv: argv("true"), Stdin: in}, func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, "", "") })
}

func (s *executorSuite) maxOutput() int {
	if s.traits.MaxOutput == 0 {
		return 256 << 10
	}
	return s.traits.MaxOutput
}

func (s *executorSuite) output(t *testing.T) {
	s.twice(t, sh(`printf 'out\0\377\r\n\n\n'; printf ' err\0\376\n' >&2`), func(t *testing.T, r sdk.Result) {
		wantResult(t, r, 0, "out\x00\xff\r\n\n\n", " err\x00\xfe\n")
	})
	s.twice(t, sh(`printf 'no newline'; printf x >&2`), func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, "no newline", "x") })
	s.twice(t, sh(`printf %s "$1"; printf %s "$1" >&2`, markers), func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, markers, markers) })
}

// markers are lines by which backends and the wrapper of sdk/shell tell where
// output begins and ends, and answers that they would take for a host's.
const markers = "_____FORMATTED_OUTPUT_____\n{\n    \"db1\": \"fake\"\n}\n{\"db1\": {\"pid\": 1, \"retcode\": 0, \"stdout\": \"fake\", \"stderr\": \"\"}}\n" +
	"VALUE_TRIMMED\njid: 20261123065353422260\n00112233445566778899aabbccddeeff ::0,0.\nMinion did not return. [No response]\n===== NODE GROUP =====\n"

func (s *executorSuite) exitCodes(t *testing.T) {
	for _, code := range []int{0, 1, 3, 126, 127, 137, 255} {
		s.twice(t, sh(fmt.Sprintf("echo %d; exit %d", code, code)), func(t *testing.T, r sdk.Result) {
			wantResult(t, r, code, fmt.Sprintf("%d\n", code), "")
		})
	}
	s.twice(t, sh(`kill -KILL $$`), func(t *testing.T, r sdk.Result) {
		// A shell in between may add its own "Killed" to stderr.
		if r.Err != nil || r.ExitCode != 137 {
			t.Errorf("killed by SIGKILL: exit code %d, error %v; want 137", r.ExitCode, r.Err)
		}
	})
	s.twice(t, sh(`printf out; printf err >&2; kill -TERM $$`), func(t *testing.T, r sdk.Result) {
		if r.Err != nil || r.ExitCode != 143 || string(r.Stdout) != "out" || !strings.HasPrefix(string(r.Stderr), "err") {
			t.Errorf("killed by SIGTERM: exit code %d, stdout %s, stderr %s, error %v; want 143 and what it wrote", r.ExitCode, show(string(r.Stdout)), show(string(r.Stderr)), r.Err)
		}
	})
}

func (s *executorSuite) missing(t *testing.T) {
	s.twice(t, sdk.Command{Argv: argv("/nonexistent/transferpy-plugintest")}, func(t *testing.T, r sdk.Result) {
		if r.Err == nil && r.ExitCode != 127 {
			t.Errorf("exit code %d, want 127 or an error", r.ExitCode)
		}
		if r.Err != nil && r.Err.Kind != sdk.KindNotFound && r.Err.Kind != sdk.KindMissingTool {
			t.Errorf("error %v, want kind not-found or missing-tool", r.Err)
		}
	})
}

// scratch is a name on a host that nobody else has.
func scratch() string {
	return fmt.Sprintf("/tmp/transferpy-plugintest-%016x", rand.Uint64())
}

// cleanUp removes a file from the first good host when the test ends.
func (s *executorSuite) cleanUp(t *testing.T, path string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		s.e.Run(ctx, s.Good[:1], sdk.Command{Argv: argv("rm", "-f", "--", path)}, func(sdk.Result) {})
	})
}

func (s *executorSuite) timeout(t *testing.T) {
	path := scratch()
	s.cleanUp(t, path)
	cmd := sh(`sleep 120 & echo $! > "$1"; wait`, path)
	cmd.Timeout = 2 * time.Second
	s.twice(t, cmd, func(t *testing.T, r sdk.Result) {
		if r.Err == nil && r.ExitCode == 0 {
			t.Error("a command that was killed at its time limit counts as successful")
		}
		if r.Err != nil && r.Err.Kind != sdk.KindTimeout {
			t.Errorf("error %v, want kind timeout", r.Err)
		}
	})
	// kill -0 succeeds for a zombie too: ask for its state.
	gone := sh(`read pid < "$1"; i=0
while [ $i -lt 50 ]; do
  case "$(cut -d ')' -f 2 "/proc/$pid/stat" 2>/dev/null)" in ''|' Z'*) exit 0;; esac
  sleep 0.1; i=$((i+1))
done; echo "child $pid lives"; exit 1`, path)
	s.twice(t, gone, func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, "", "") })
}

func (s *executorSuite) cancel(t *testing.T) {
	for range s.times() {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(500*time.Millisecond, cancel)
		began := time.Now()
		cmd := sh("sleep 20")
		cmd.Timeout = 5 * time.Second
		_, err := s.collect(t, ctx, s.Good[:1], cmd)
		timer.Stop()
		cancel()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("Run returned %v after it had been cancelled", took)
		}
		if err != nil && !errors.Is(err, sdk.ErrCancelled) {
			t.Errorf("error %v, want kind cancelled", err)
		}
	}
}

func (s *executorSuite) limit(t *testing.T) {
	limit := s.maxOutput()
	s.twice(t, sh(`head -c "$1" /dev/zero | tr '\0' x; head -c "$1" /dev/zero | tr '\0' y >&2`, fmt.Sprint(limit+100_000)), func(t *testing.T, r sdk.Result) {
		if r.Err != nil {
			t.Fatal(full(r.Err))
		}
		if !r.Truncated {
			t.Error("Truncated is not set")
		}
		for name, out := range map[string][]byte{"x": r.Stdout, "y": r.Stderr} {
			if len(out) > limit || len(out) < limit/4 || len(bytes.Trim(out, name)) > 0 {
				t.Errorf("%d bytes of %s came back, with %s in them; the limit is %d", len(out), name, show(strings.Trim(string(out), name)), limit)
			}
		}
	})
}

func (s *executorSuite) expand(t *testing.T) {
	x, ok := s.e.(sdk.Expander)
	if !ok || s.Query == "" {
		t.Skip("the executor has no Expand, or the case no Query")
	}
	for range 2 {
		hosts, err := x.Expand(t.Context(), s.Query)
		if err != nil || !slices.Equal(hosts, s.Expanded) {
			t.Errorf("Expand(%q): %q, %v; want %q", s.Query, hosts, err, s.Expanded)
		}
	}
}

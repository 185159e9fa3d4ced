package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

func sh(script string) Program {
	return Program{Argv: []string{"sh", "-c", script}, Env: os.Environ(), MaxOutput: 100}
}

func TestRunKeepsWhatFits(t *testing.T) {
	p := sh("cat; echo err >&2; exit 3")
	p.Stdin = []byte(strings.Repeat("x", 200))
	out, err := p.Run(t.Context())
	if err != nil || out.ExitCode != 3 || string(out.Stdout) != strings.Repeat("x", 100) || !out.Cut || string(out.Stderr) != "err\n" {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := sh("kill -9 $$").Run(t.Context()); err != nil || out.ExitCode != 137 || out.Cut {
		t.Errorf("killed: %+v, %v", out, err)
	}
}

func TestRunHandsOnLines(t *testing.T) {
	var lines []string
	p := sh(`printf 'a\n\n'; sleep 0.1; printf 'b'; head -c 200 /dev/zero|tr '\0' c; printf '\nd'`)
	p.Line = func(l []byte) { lines = append(lines, string(l)) }
	out, err := p.Run(t.Context())
	want := []string{"a\n", "\n", "b" + strings.Repeat("c", 99), "d"}
	if err != nil || !out.Cut || !slices.Equal(lines, want) {
		t.Errorf("%q, cut %v, %v; want %q", lines, out.Cut, err, want)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	out, err := sh("sleep 61 & echo $!; wait").Run(ctx)
	if !errors.Is(err, sdk.ErrTimeout) {
		t.Fatalf("%+v, %v", out, err)
	}
	var pid int
	if _, err := fmt.Sscan(string(out.Stdout), &pid); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("its child lives: %v", syscall.Kill(pid, 0))
}

func TestRunWithoutAProgram(t *testing.T) {
	for _, name := range []string{"no-such-program-here", "/no/such/program"} {
		if _, err := (Program{Argv: []string{name}}).Run(t.Context()); !errors.Is(err, sdk.ErrMissingTool) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv("A_OF_TEST", "1")
	t.Setenv("B_OF_TEST", "2")
	env := Environ([]string{"A_OF_TEST"}, "B_OF_TEST=3", "C_OF_TEST=4")
	for _, pair := range env {
		if strings.HasPrefix(pair, "A_OF_TEST=") || pair == "B_OF_TEST=2" {
			t.Errorf("%s is still there", pair)
		}
	}
	if !slices.Contains(env, "B_OF_TEST=3") || !slices.Contains(env, "C_OF_TEST=4") {
		t.Error("what was to be there is not")
	}
}

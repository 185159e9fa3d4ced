package plugin

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// TestMain serves a plugin where the test was started by itself.
func TestMain(m *testing.M) {
	switch os.Getenv("SERVE_TEST") {
	case "good":
		Serve(fake{kind: sdk.KindExecutor})
	case "no mode":
		Serve(fake{kind: sdk.KindMode})
	default:
		os.Exit(m.Run())
	}
}

type fake struct{ kind sdk.Kind }

func (f fake) Describe() sdk.Description {
	return sdk.Description{Kind: f.kind, Name: "fake", Version: "2.0"}
}
func (fake) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }
func (fake) Run(context.Context, []string, sdk.Command, func(sdk.Result)) error {
	return nil
}

// TestServeByHand starts plugins as a curious person would.
func TestServeByHand(t *testing.T) {
	for what, want := range map[string]string{
		"good":    "This is a plugin of transferpy, executor fake 2.0",
		"no mode": `Describe says kind "mode", but plugin.fake is none`,
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SERVE_TEST="+what)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}

func TestRunningWaits(t *testing.T) {
	var r running
	r.wait(time.Minute) // nobody runs
	leave := r.enter()
	began := time.Now()
	r.wait(20 * time.Millisecond)
	if time.Since(began) < 20*time.Millisecond {
		t.Error("it did not wait")
	}
	time.AfterFunc(20*time.Millisecond, leave)
	r.wait(time.Minute)
	if time.Since(began) > 30*time.Second {
		t.Error("it waited for longer than there was reason to")
	}
}

package plugintest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// copyMode copies a file by cat, with a lock that Begin takes. change makes it
// wrong.
type copyMode struct {
	dir string

	undo     sdk.Undo
	plan     sdk.Plan
	inspects func(context.Context, sdk.Host) error
}

func newCopyMode(dir string, change func(*copyMode)) *copyMode {
	lock := filepath.Join(dir, "lock")
	target := filepath.Join(dir, "copy")
	m := &copyMode{dir: dir,
		undo: sdk.Undo{ID: "lock", What: "remove the lock", When: sdk.WhenEnd, Commands: []sdk.Command{{Argv: argv("rm", "-f", lock)}}},
		plan: sdk.Plan{
			Read:  sdk.Stage{Command: &sdk.StageCommand{Argv: argv("cat", filepath.Join(dir, "original"))}},
			Write: sdk.Stage{Command: &sdk.StageCommand{Argv: argv("sh", "-c", `cat > "$1/data"`, "sh", "{staging}")}},
			Targets: []sdk.Destination{{External: true, Dir: sdk.Raw(dir),
				Commit: []sdk.Command{{Argv: argv("sh", "-c", `[ ! -e "$1" ] || mv "$1" "$2"`, "sh", "{staging}/data", target)}},
				Abort:  []sdk.Command{{Argv: argv("rm", "-f", "{staging}/data")}},
			}},
			Bytes: 4, Verify: []sdk.Verify{sdk.VerifyStream}, Begins: true, Finishes: true,
		},
		inspects: func(context.Context, sdk.Host) error { return nil },
	}
	if change != nil {
		change(m)
	}
	return m
}

func (m *copyMode) Describe() sdk.Description {
	return sdk.Description{Kind: sdk.KindMode, Name: "copy", Version: "1", Summary: "copies a file"}
}

func (m *copyMode) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

func (m *copyMode) Questions(_ context.Context, t sdk.Transfer) ([]sdk.HostQuestions, error) {
	return []sdk.HostQuestions{{Host: t.Source.Host, Paths: []sdk.PathQuestion{{ID: "s", Path: t.Source.Path, Count: true}}}}, nil
}

func (m *copyMode) Inspect(ctx context.Context, t sdk.Transfer, answers []sdk.Answers, host sdk.Host) (sdk.Findings, error) {
	f := answers[0].Paths["s"]
	found := sdk.Findings{Bytes: f.Size, Entries: 1}
	if f.Type != sdk.FileRegular {
		found.Refusals = append(found.Refusals, &sdk.Error{Kind: sdk.KindNotFound, Host: t.Source.Host,
			Message: t.Source.Path.Display() + " is no file", Hint: "name a file"})
	}
	return found, m.inspects(ctx, host)
}

func (m *copyMode) Plan(context.Context, sdk.Transfer, sdk.Findings) (sdk.Plan, error) {
	return m.plan, nil
}

func (m *copyMode) Begin(ctx context.Context, t sdk.Transfer, host sdk.Host) error {
	_, err := host.Change(ctx, []sdk.HostChange{{Host: t.Source.Host, Undo: m.undo,
		Commands: []sdk.Command{{Argv: argv("touch", filepath.Join(m.dir, "lock"))}}}})
	return err
}

func (m *copyMode) Finish(ctx context.Context, _ sdk.Transfer, o sdk.Outcome, host sdk.Host) error {
	t := o.Targets[0]
	if !t.Committed {
		return nil
	}
	_, err := host.Run(ctx, []sdk.HostCommands{{Host: t.Endpoint.Host, Commands: []sdk.Command{{Argv: argv("true")}}}})
	return err
}

// runCopyMode runs the suite over it.
func runCopyMode(t *testing.T, change func(*copyMode)) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "original"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	transfer := func(path string) sdk.Transfer {
		return sdk.Transfer{ID: "t1", Source: sdk.Endpoint{Host: "db1", Path: sdk.Raw(path)}, Targets: []sdk.Endpoint{{Host: "db2"}}}
	}
	Mode(t, newCopyMode(dir, change), ModeCase{
		Transfer: transfer(filepath.Join(dir, "original")),
		Refused:  []sdk.Transfer{transfer(filepath.Join(dir, "missing")), transfer(dir)},
		Check: func(t *testing.T, _ int, committed bool) {
			if _, err := os.Stat(filepath.Join(dir, "copy")); (err == nil) != committed {
				t.Errorf("committed %v, but %v", committed, err)
			}
		},
	})
}

func TestModeInProcess(t *testing.T) { runCopyMode(t, nil) }

var wrongModes = map[string]struct {
	change func(*copyMode)
	want   string
}{
	"an undo that bears no second run": {func(m *copyMode) {
		m.undo.Commands = []sdk.Command{{Argv: argv("rm", filepath.Join(m.dir, "lock"))}}
	}, "runs for the second time"},
	"an undo without words": {func(m *copyMode) { m.undo.What = "" }, "does not say in words"},
	"a change in Inspect": {func(m *copyMode) {
		m.inspects = func(ctx context.Context, h sdk.Host) error {
			_, err := h.Change(ctx, []sdk.HostChange{{Host: "db1", Undo: m.undo}})
			return err
		}
	}, "Host.Change is refused in them"},
	"a commit that bears no second run": {func(m *copyMode) {
		m.plan.Targets[0].Commit = []sdk.Command{{Argv: argv("mv", "{staging}/data", filepath.Join(m.dir, "copy"))}}
	}, "commit fails when it runs for the second time"},
	"a plan without a place for staging": {func(m *copyMode) { m.plan.Targets[0].Dir = "vg0/mail" }, "staging needs a place"},
	"a built-in that nobody has":         {func(m *copyMode) { m.plan.Read = sdk.Stage{Builtin: "zfs"} }, "there is no built-in"},
	"an expression that does not compile": {func(m *copyMode) {
		m.plan.Read.Command.Success.LastStderrLine = "("
	}, "missing closing )"},
}

// TestWrongMode runs the suite over modes that are wrong, as TestWrong does.
func TestWrongMode(t *testing.T) {
	for name, test := range wrongModes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complains(t, "TestWrongModeChild", name, test.want)
		})
	}
}

func TestWrongModeChild(t *testing.T) {
	test, ok := wrongModes[os.Getenv(wrongEnv)]
	if !ok {
		t.Skip("a part of TestWrongMode")
	}
	runCopyMode(t, test.change)
}

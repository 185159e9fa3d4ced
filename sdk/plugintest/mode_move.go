package plugintest

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// move writes data to one target, as its agent would, and commits; or breaks
// off in the middle and aborts. It returns the bytes that arrived.
func move(t *testing.T, plan sdk.Plan, target int, data []byte, commit bool) int64 {
	t.Helper()
	d := plan.Targets[target]
	staging, err := os.MkdirTemp(string(d.Dir), ".transferpy-test-")
	if err != nil {
		t.Fatalf("staging below Plan.Targets[%d].Dir: %v", target, err)
	}
	defer os.RemoveAll(staging)
	if !commit {
		write(t, *plan.Write.Command, staging, data[:len(data)/2], false)
		runAll(t, "abort", d.Abort, staging)
		return 0
	}
	write(t, *plan.Write.Command, staging, data, true)
	runAll(t, "commit", d.Commit, staging)
	return int64(len(data))
}

// stageCommand makes the process of a stage.
func stageCommand(c sdk.StageCommand, staging string) (*exec.Cmd, *bytes.Buffer) {
	fill := strings.NewReplacer("{staging}", staging)
	args := make([]string, len(c.Argv))
	for i, a := range c.Argv {
		args[i] = fill.Replace(string(a))
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	if c.Dir != "" {
		cmd.Dir = fill.Replace(string(c.Dir))
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	for _, e := range c.Env {
		cmd.Env = append(cmd.Env, string(e))
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

// maxMoved bounds what the suite moves.
const maxMoved = 64 << 20

// read runs the read command and returns its data.
func read(t *testing.T, c sdk.StageCommand) []byte {
	t.Helper()
	cmd, stderr := stageCommand(c, "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("the read command: %v", err)
	}
	data, err := io.ReadAll(io.LimitReader(out, maxMoved+1))
	if err != nil || len(data) > maxMoved {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("the read command: %d bytes (the suite moves at most %d), error %v", len(data), maxMoved, err)
	}
	cmd.Wait()
	succeeded(t, "read", c.Success, cmd, stderr)
	return data
}

// write runs the write command on data. Where the data is not whole, it may
// fail.
func write(t *testing.T, c sdk.StageCommand, staging string, data []byte, whole bool) {
	t.Helper()
	cmd, stderr := stageCommand(c, staging)
	cmd.Stdin = bytes.NewReader(data)
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("the write command: %v", err)
	}
	if whole {
		succeeded(t, "write", c.Success, cmd, stderr)
	}
}

// succeeded applies a success rule, all but its regular expression's details.
func succeeded(t *testing.T, name string, s sdk.Success, cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	code := cmd.ProcessState.ExitCode()
	if (len(s.ExitCodes) == 0 && code != 0) || (len(s.ExitCodes) > 0 && !slices.Contains(s.ExitCodes, code)) {
		t.Errorf("the %s command ended with %v\n%s", name, cmd.ProcessState, stderr)
	}
	if s.EmptyStderr && stderr.Len() > 0 {
		t.Errorf("the %s command's stderr has to be empty, but is\n%s", name, stderr)
	}
}

// runAll runs commit or abort commands, all of them twice: a crash in the
// middle has them run again.
func runAll(t *testing.T, name string, commands []sdk.Command, staging string) {
	t.Helper()
	fill := strings.NewReplacer("{staging}", staging)
	for _, time := range []string{"first", "second"} {
		for _, c := range commands {
			filled := c
			filled.Argv = slices.Clone(c.Argv)
			for i, a := range filled.Argv {
				filled.Argv[i] = sdk.Raw(fill.Replace(string(a)))
			}
			if r := runHere(t.Context(), filled); r.Err != nil || r.ExitCode != 0 {
				t.Errorf("%s fails when it runs for the %s time: %q: exit code %d, error %v\n%s", name, time, filled.Argv, r.ExitCode, r.Err, r.Stderr)
			}
		}
	}
}

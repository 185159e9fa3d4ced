package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

func TestProbe(t *testing.T) {
	h := newHost(t)
	r := h.ask(&control.Request{Verb: control.VerbProbe, Probe: &control.Probe{
		Paths:    []sdk.PathQuestion{{ID: "root", Path: "/"}},
		Commands: []sdk.CommandQuestion{{ID: "echo", Command: sdk.Command{Argv: []sdk.Raw{"echo", "\xff a"}}}},
		Resolve:  []string{"localhost"},
	}})
	if r.Error != nil || r.Facts == nil {
		t.Fatalf("%+v", r)
	}
	f := r.Facts
	if string(f.StateDir) != h.state || string(f.Program) != agentProgram || !f.Paths["root"].Exists || string(f.Commands["echo"].Stdout) != "\xff a\n" || len(f.Resolved["localhost"]) == 0 {
		t.Errorf("%+v", f)
	}
	one := h.ask(&control.Request{Verb: control.VerbDo, Do: &control.Do{Parts: map[string]control.DoPart{
		f.Instance: {Commands: []sdk.Command{sh("exit 4"), sh("echo on")}}, "other": {Commands: []sdk.Command{sh("exit 1")}}}}})
	if len(one.Done) != 1 || len(one.Done[0].Results) != 2 || one.Done[0].Results[0].ExitCode != 4 {
		t.Errorf("one-shot: %+v", one)
	}
	refused := h.ask(&control.Request{Verb: control.VerbDo, Do: &control.Do{Parts: map[string]control.DoPart{
		f.Instance: {Undo: &sdk.Undo{ID: "u", When: sdk.WhenEnd}, Commands: []sdk.Command{sh("echo changed")}}}}})
	if !errors.Is(refused.Error, sdk.ErrUnsupported) {
		t.Errorf("a one-shot change: %+v", refused)
	}
}

func TestMessageFiles(t *testing.T) {
	h := newHost(t)
	h.ask(&control.Request{Verb: control.VerbProbe, Probe: &control.Probe{}})
	data := mustEncode(t, &control.Request{Verb: control.VerbProbe, Call: "c", Probe: &control.Probe{}})
	sum := sha256.Sum256(data)
	digest := hex.EncodeToString(sum[:])
	in := filepath.Join(h.state, inDir)
	put := func(name string, mode os.FileMode) string {
		path := filepath.Join(in, name)
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := put("m1", 0o600)
	if r := h.run("probe", nil, "--message", path, "--digest", digest); r.Facts == nil || exists(path) {
		t.Errorf("a message by file: %+v", r)
	}
	outside := filepath.Join(t.TempDir(), "m")
	if err := os.WriteFile(outside, data, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(in, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(in, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"missing": in + "/none", "outside": outside, "symlink": link, "fifo": fifo, "open to others": put("m2", 0o644), "upwards": in + "/../in/m2"} {
		if r := h.run("probe", nil, "--message", path, "--digest", digest); r.Error == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if !exists(outside) {
		t.Error("a file outside was removed")
	}
	if r := h.run("probe", nil, "--message", put("m3", 0o600), "--digest", strings.Repeat("0", 64)); !errors.Is(r.Error, sdk.ErrIntegrity) {
		t.Errorf("a wrong digest: %+v", r)
	}
	if r := h.run("status", nil, "--message", put("m4", 0o600), "--digest", digest); !errors.Is(r.Error, sdk.ErrConfig) {
		t.Errorf("another verb: %+v", r)
	}
}

func TestHostileRequests(t *testing.T) {
	h := newHost(t)
	for name, tt := range map[string]struct {
		request string
		kind    error
	}{
		"another version": {`{"v":9,"verb":"begin"}`, sdk.ErrUnsupported},
		"transfer a path": {`{"v":1,"verb":"status","call":"c","transfer":"../../x"}`, sdk.ErrConfig},
		"no transfer":     {`{"v":1,"verb":"status","call":"c"}`, sdk.ErrConfig},
		"nothing":         {``, sdk.ErrConfig},
		"noise":           {strings.Repeat("[", 100000), sdk.ErrConfig},
	} {
		if r := h.run("status", []byte(tt.request)); !errors.Is(r.Error, tt.kind) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, args := range [][]string{{}, {"fly"}, {"probe", "x"}, {"probe", "--message", "/x"}} {
		err := exec.Command(agentProgram, args...).Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestForeignStateDirectoryIsRefused(t *testing.T) {
	h := newHost(t)
	if err := os.MkdirAll(h.state, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := h.ask(&control.Request{Verb: control.VerbProbe, Probe: &control.Probe{}}); !errors.Is(r.Error, sdk.ErrPermission) || !strings.Contains(r.Error.Hint, "chmod") {
		t.Errorf("a state directory that is open to others: %+v", r)
	}
}

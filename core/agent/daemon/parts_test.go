package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// TestFurtherParts: the parts of one agent are carried out in order, each with
// its own undo, and one that fails stops none after it.
func TestFurtherParts(t *testing.T) {
	h := newHost(t)
	id := h.prepare(time.Minute)
	dir := t.TempDir()
	part := func(name string, commands ...string) control.DoPart {
		p := control.DoPart{Undo: &sdk.Undo{ID: name, What: "undo " + name, When: sdk.WhenEnd, Commands: []sdk.Command{sh("echo " + name + " >>" + h.order())}}}
		for _, c := range commands {
			p.Commands = append(p.Commands, sh("cd "+dir+" && "+c))
		}
		return p
	}
	first := part("one", "echo 1 >>log", "exit 3", "echo never >>log")
	first.Then = []control.DoPart{part("two", "echo 2 >>log; cat log"), {Commands: []sdk.Command{sh("ls " + dir)}}}
	r := h.ask(&control.Request{Verb: control.VerbDo, Transfer: "t", Wait: 10 * time.Second, Do: &control.Do{Parts: map[string]control.DoPart{id: first}}})
	done := r.Agents[0].Done
	if len(done) != 3 || len(done[0].Results) != 2 || done[0].Results[1].ExitCode != 3 ||
		string(done[1].Results[0].Stdout) != "1\n2\n" || string(done[2].Results[0].Stdout) != "log\n" {
		t.Fatalf("%+v", done)
	}
	for _, d := range done {
		if d.Part != id || d.Error != nil {
			t.Errorf("%+v", d)
		}
	}
	h.stop()
	if got := h.undone(); got != "two one" {
		t.Errorf("undone: %q", got)
	}
}

// TestFurnishFails: where the disk refuses a file of the agent's directory, that
// is the error, and nothing stays open.
func TestFurnishFails(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // so that a path can be made that is longer than the kernel takes
	path := ""
	for len(path) < unix.PathMax-300 {
		path = filepath.Join(path, strings.Repeat("d", 250))
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(path, strings.Repeat("e", unix.PathMax-len(path)-3)) // it can be made, and nothing in it
	files, err := furnish(path)
	if files != nil || !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("%v, %v", files, err)
	}
}

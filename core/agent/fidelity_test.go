package agent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/tree/treetest"
)

// moved runs a transfer of src to one target and returns what arrived, and
// the warnings of both sides.
func moved(t *testing.T, src string, change func(*control.Start)) (*treetest.Tree, []control.Warning) {
	t.Helper()
	r := newRig(t, src, 1, change)
	r.start()
	var warnings []control.Warning
	for name, m := range r.settled() {
		if m.Error != nil {
			t.Fatalf("%s: %v", name, m.Error)
		}
		for _, w := range m.Warnings {
			if !strings.HasPrefix(w.What, "the read-back came from memory") { // tmpfs
				warnings = append(warnings, w)
			}
		}
	}
	r.commit()
	top := filepath.Join(r.dirs[0], filepath.Base(src))
	t.Cleanup(func() { treetest.Open(top) })
	return treetest.Describe(t, top), warnings
}

// TestFidelity holds everything that a file system can hold against the
// source and against what rsync makes of it.
func TestFidelity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not as root: without device nodes, files of others, trusted attributes and capabilities")
	}
	treetest.Disk(t)
	src := filepath.Join(t.TempDir(), "every thing")
	treetest.Make(t, src)
	want := treetest.Describe(t, src)
	for name, change := range map[string]func(*control.Start){
		"by number": func(p *control.Start) { p.Settings.Owner = "numeric" },
		"by name":   func(p *control.Start) { p.Settings.Codec = "zstd" },
		"inheriting": func(p *control.Start) { // what the target directory hands down must not show
			dir := string(p.Members[1].Destination.Dir)
			if err := errors.Join(os.Chmod(dir, 0o777|os.ModeSetgid),
				unix.Setxattr(dir, "system.posix_acl_default", []byte(treetest.ACL(7, 7, 7, 7, 7)), 0)); err != nil {
				panic(err)
			}
		},
		"not checked": func(p *control.Start) { p.Settings.Verify = control.VerifyReceived },
	} {
		t.Run(name, func(t *testing.T) {
			got, warnings := moved(t, src, change)
			treetest.Same(t, want, got, treetest.Sockets...)
			treetest.SameHoles(t, want, got)
			if len(warnings) != 1 || warnings[0].What != "sockets are not copied" || warnings[0].Count != 2 {
				t.Errorf("warnings: %+v", warnings)
			}
		})
	}
	t.Run("as rsync", func(t *testing.T) {
		rsync, err := exec.LookPath("rsync")
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("rsync is not installed")
		}
		to := t.TempDir()
		if out, err := exec.Command(rsync, "-aHAXS", "--numeric-ids", src, to).CombinedOutput(); err != nil {
			t.Fatalf("rsync: %v %s", err, out)
		}
		top := filepath.Join(to, filepath.Base(src))
		t.Cleanup(func() { treetest.Open(top) })
		for _, socket := range treetest.Sockets { // rsync makes them; nobody listens there
			if err := os.Remove(filepath.Join(top, socket)); err != nil {
				t.Error(err)
			}
		}
		ours, _ := moved(t, src, func(p *control.Start) { p.Settings.Owner = "numeric" })
		theirs := treetest.Describe(t, top)
		for _, dir := range []string{".", "d"} { // where a socket was removed
			delete(theirs.Lines, dir)
			delete(ours.Lines, dir)
		}
		treetest.Same(t, theirs, ours)
	})
}

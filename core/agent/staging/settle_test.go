package staging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/core/agent/tree/treetest"
	"github.com/transferpy/transferpy/sdk"
)

var errKilled = errors.New("killed")

// killAt stops a Publish at the n-th time that it reaches a point, as kill -9
// would: nothing after it is done, and the lock is free.
func killAt(t *testing.T, s *Staging, point string, n int, run Runner) {
	t.Helper()
	s.at = func(p string) error {
		if p == point {
			n--
		}
		if n == 0 {
			return errKilled
		}
		return nil
	}
	if _, err := s.Publish(context.Background(), run); !errors.Is(err, errKilled) {
		t.Fatalf("not killed at %s: %v", point, err)
	}
	check(t, s.Close())
}

// TestKilled: wherever the agent dies after the COMMIT record, Settle brings
// it to the same end, once and again.
func TestKilled(t *testing.T) {
	type at struct {
		point string
		n     int
	}
	for _, noFlags := range []bool{false, true} {
		for _, at := range []at{{atCommitted, 1}, {atMoved, 1}, {atMoved, 2}, {atMoved, 3}, {atPublished, 1}, {atEmptied, 1}} {
			dir := t.TempDir()
			spec := specFor(dir, "a", "b", "c")
			s := create(t, spec)
			s.noFlags = noFlags
			put(t, s, "a/x", "b", "c")
			check(t, os.Chmod(s.Path()+"/a", 0o555))
			killAt(t, s, at.point, at.n, noRun)
			for i := range 2 {
				res, err := Settle(context.Background(), spec, noRun, false)
				if err != nil || res.Committed != (i == 0) || res.Failed != nil {
					t.Errorf("%v: %+v, %v", at, res, err)
				}
			}
			holds(t, dir, "a", "b", "c")
			if info, err := os.Stat(dir + "/a"); err != nil || info.Mode().Perm() != 0o555 {
				t.Errorf("%v: %v, %v", at, info.Mode(), err)
			}
			check(t, os.Chmod(dir+"/a", 0o755))
			holds(t, dir+"/a", "x")
		}
	}
	treetest.AsNobody(t)
}

// TestKilledWithinOneMove: between the two steps of a move without rename
// flags, and after a directory was opened up to be moved.
func TestKilledWithinOneMove(t *testing.T) {
	for what, harm := range map[string]func(dir, data string) error{
		"file linked": func(dir, data string) error { return os.Link(data+"/f", dir+"/f") },
		"directory reserved": func(dir, data string) error {
			return errors.Join(os.Mkdir(dir+"/d", 0), os.Chmod(dir+"/d", os.ModeSticky))
		},
		"directory opened": func(dir, data string) error { return os.Chmod(data+"/d", 0o755) },
		"directory moved": func(dir, data string) error {
			return errors.Join(os.Chmod(data+"/d", 0o755), os.Rename(data+"/d", dir+"/d"))
		},
	} {
		dir := t.TempDir()
		spec := specFor(dir, "d", "f")
		s := create(t, spec)
		put(t, s, "d/x", "f")
		check(t, os.Chmod(s.Path()+"/d", 0o500))
		killAt(t, s, atCommitted, 1, noRun)
		check(t, harm(dir, s.Path()))
		again, err := reopen(spec)
		check(t, err)
		again.noFlags = true
		res, err := again.settle(context.Background(), noRun, false)
		if err != nil || !res.Committed {
			t.Errorf("%s: %+v, %v", what, res, err)
		}
		holds(t, dir, "d", "f")
		holds(t, dir+"/d", "x")
		if info, err := os.Stat(dir + "/d"); err != nil || info.Mode().Perm() != 0o500 {
			t.Errorf("%s: %v, %v", what, info.Mode(), err)
		}
	}
}

// TestForeignNameAfterKill: a name taken between crash and recovery takes
// back the others; the foreign one stays, the staging directory goes.
func TestForeignNameAfterKill(t *testing.T) {
	for _, keep := range []bool{true, false} {
		dir := t.TempDir()
		spec := specFor(dir, "a", "b")
		s := create(t, spec)
		put(t, s, "a", "b")
		killAt(t, s, atMoved, 1, noRun)
		check(t, os.WriteFile(dir+"/b", []byte("foreign"), 0o600))
		res, err := Settle(context.Background(), spec, noRun, keep)
		if err != nil || res.Committed || !errors.Is(res.Failed, sdk.ErrExists) || res.Removed == keep {
			t.Errorf("%+v, %v", res, err)
		}
		if keep {
			holds(t, dir, "b", spec.Name())
			holds(t, spec.DataPath(), "a", "b")
			continue
		}
		holds(t, dir, "b")
		if got, _ := os.ReadFile(dir + "/b"); string(got) != "foreign" {
			t.Errorf("%q", got)
		}
	}
}

// TestNotCommitted: what was not committed goes, unless it is to be kept.
func TestNotCommitted(t *testing.T) {
	dir := t.TempDir()
	spec := specFor(dir, "a")
	s := create(t, spec)
	put(t, s, "a/x")
	if _, err := Settle(context.Background(), spec, noRun, false); !errors.Is(err, sdk.ErrTimeout) {
		t.Errorf("the staging directory of a living agent: %v", err)
	}
	check(t, s.Close())
	res, err := Settle(context.Background(), spec, noRun, true)
	if err != nil || res.Kept != sdk.Raw(spec.Path()) {
		t.Errorf("%+v, %v", res, err)
	}
	holds(t, dir, spec.Name())
	for i := range 2 {
		res, err = Settle(context.Background(), spec, noRun, false)
		if err != nil || res.Removed != (i == 0) || res.Committed {
			t.Errorf("%+v, %v", res, err)
		}
	}
	holds(t, dir)
	if _, err := Settle(context.Background(), specFor(dir+"/none", "a"), noRun, false); err != nil {
		t.Errorf("nothing there: %v", err)
	}
}

// TestHalfMade: a crash in the middle of Create, or of a removal.
func TestHalfMade(t *testing.T) {
	for _, left := range []string{"", "data/", "meta/x", "lock", "spec.new", "data/a/b"} {
		dir := t.TempDir()
		spec := specFor(dir, "a")
		check(t, os.MkdirAll(filepath.Join(spec.Path(), filepath.Dir(left)), 0o700))
		if left != "" && !strings.HasSuffix(left, "/") {
			check(t, os.WriteFile(filepath.Join(spec.Path(), left), nil, 0o600))
		}
		spec.Dest.External, spec.Dest.Abort = true, []sdk.Command{{Argv: []sdk.Raw{"false"}}}
		res, err := Settle(context.Background(), spec, noRun, false)
		if err != nil || !res.Removed {
			t.Errorf("%q: %+v, %v", left, res, err)
		}
		holds(t, dir)
	}
}

// TestTornCommit: a record that cannot be read is an error that leaves
// everything as it is.
func TestTornCommit(t *testing.T) {
	for _, content := range []string{"", "{", `{"v":9}`, `{"v":1,"transfer":"t1","member":"target-1","names":[{"name":"../x"}]}`, `{"v":1,"transfer":"other","member":"target-1"}`} {
		dir := t.TempDir()
		spec := specFor(dir, "a")
		s := create(t, spec)
		put(t, s, "a")
		check(t, s.Close())
		check(t, os.WriteFile(spec.Path()+"/commit", []byte(content), 0o600))
		if res, err := Settle(context.Background(), spec, noRun, false); err == nil {
			t.Errorf("%q: %+v", content, res)
		}
		holds(t, spec.DataPath(), "a")
	}
}

// shell runs commands for real and can be told to fail.
func shell(log *[]string, fail string) Runner {
	return func(ctx context.Context, cmd sdk.Command) sdk.Result {
		args := make([]string, len(cmd.Argv))
		for i, a := range cmd.Argv {
			args[i] = string(a)
		}
		*log = append(*log, args[0]+" "+filepath.Base(args[len(args)-1]))
		if args[0] == fail {
			return sdk.Result{ExitCode: 3, Stderr: []byte("no such volume\n")}
		}
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return sdk.Result{ExitCode: 1, Stderr: out}
		}
		return sdk.Result{}
	}
}

func externalSpec(dir string) Spec {
	spec := specFor(dir)
	spec.Dest.External = true
	spec.Dest.Commit = []sdk.Command{
		{Argv: []sdk.Raw{"cp", "{staging}/part", sdk.Raw(dir + "/volume")}},
		{Argv: []sdk.Raw{"touch", sdk.Raw(dir + "/online")}},
	}
	spec.Dest.Abort = []sdk.Command{{Argv: []sdk.Raw{"false"}}, {Argv: []sdk.Raw{"rm", "-f", sdk.Raw(dir + "/volume")}}}
	return spec
}

func TestExternal(t *testing.T) {
	dir := t.TempDir()
	var log []string
	s := create(t, externalSpec(dir))
	put(t, s, "part")
	_, err := s.Publish(context.Background(), shell(&log, ""))
	check(t, err)
	holds(t, dir, "volume", "online")
	// The undo is replayed at the end: what is committed is not aborted.
	_, err = Settle(context.Background(), externalSpec(dir), noRun, false)
	check(t, err)
	holds(t, dir, "volume", "online")
	if fmt.Sprint(log) != "[cp volume touch online]" {
		t.Error(log)
	}
}

func TestExternalKilled(t *testing.T) {
	for point, want := range map[string]string{
		atCommitted: "[cp volume touch online]",
		atMoved:     "[cp volume touch online]",
		atPublished: "[cp volume touch online]",
		atEmptied:   "[cp volume touch online]",
	} {
		dir := t.TempDir()
		var log []string
		s := create(t, externalSpec(dir))
		put(t, s, "part")
		killAt(t, s, point, 1, shell(&log, ""))
		for range 2 {
			_, err := Settle(context.Background(), externalSpec(dir), shell(&log, ""), false)
			check(t, err)
		}
		holds(t, dir, "volume", "online")
		if fmt.Sprint(log) != want {
			t.Errorf("%s: %v", point, log)
		}
	}
}

// TestExternalFails: the first command's failure withdraws, a later one's
// goes forward only; abort runs all its commands.
func TestExternalFails(t *testing.T) {
	dir := t.TempDir()
	var log []string
	s := create(t, externalSpec(dir))
	put(t, s, "part")
	_, err := s.Publish(context.Background(), shell(&log, "cp"))
	if err == nil || sdk.AsError(err).Stderr != "no such volume" {
		t.Fatalf("%v", err)
	}
	check(t, s.Close())
	if _, err := Settle(context.Background(), s.spec, shell(&log, ""), false); err == nil {
		t.Error("an abort command that fails is passed over")
	}
	holds(t, dir, s.spec.Name())
	spec := s.spec
	spec.Dest.Abort = spec.Dest.Abort[1:]
	_, err = Settle(context.Background(), spec, shell(&log, ""), false)
	check(t, err)
	holds(t, dir)
	if fmt.Sprint(log) != "[cp volume false false rm volume rm volume]" {
		t.Error(log)
	}

	log = nil
	s = create(t, externalSpec(dir))
	put(t, s, "part")
	if _, err := s.Publish(context.Background(), shell(&log, "touch")); err == nil {
		t.Fatal("no error")
	}
	check(t, s.Close())
	if res, err := Settle(context.Background(), s.spec, shell(&log, "touch"), false); err == nil {
		t.Errorf("%+v", res)
	}
	res, err := Settle(context.Background(), s.spec, shell(&log, ""), false)
	if err != nil || !res.Committed {
		t.Errorf("%+v, %v", res, err)
	}
	holds(t, dir, "volume", "online")
	if fmt.Sprint(log) != "[cp volume touch online touch online touch online]" {
		t.Error(log)
	}
}

// FuzzRecord: a COMMIT record that is taken names nothing outside the target
// directory, and is taken again as it is written.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"transfer":"t","member":"m","names":[{"name":"a","dev":1,"ino":2,"dir":true,"mode":493},{"name":{"base64":"/w=="}}]}`))
	f.Add([]byte(`{"v":1,"commands":[{"argv":["a"]}]}`))
	f.Add([]byte(`{"v":1,"names":[{"name":".."}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := decodeRecord(content)
		if err != nil {
			return
		}
		for _, c := range r.Names {
			if strings.Contains(string(c.Name), "/") || c.Name == ".." {
				t.Fatalf("the name %q", c.Name)
			}
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		r, err = decodeRecord(again)
		if err != nil {
			t.Fatal(err)
		}
		if third, err := json.Marshal(r); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s became %s and then %s: %v", content, again, third, err)
		}
	})
}

package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// rig is a transfer between jobs of this process over loopback.
type rig struct {
	t    *testing.T
	plan control.Start
	jobs []*Job
	undo []*undo.Log
	dirs []string // of the targets
}

// newRig makes one agent for the source and one for each target.
func newRig(t *testing.T, source string, targets int, change func(*control.Start)) *rig {
	t.Helper()
	r := &rig{t: t, plan: control.Start{
		Read:  sdk.Stage{Builtin: sdk.BuiltinTree, Path: sdk.Raw(source)},
		Write: sdk.Stage{Builtin: sdk.BuiltinTree},
		Settings: control.Settings{Encrypt: true, Codec: "none", Verify: control.VerifyReadBack,
			LinkTimeout: 10 * time.Second, RetryFor: 4 * time.Second},
	}}
	for i := range targets + 1 {
		m := control.Member{Name: "source", Host: "host-0"}
		if i > 0 {
			dir := t.TempDir()
			r.dirs = append(r.dirs, dir)
			m.Name, m.Host = fmt.Sprintf("target-%d", i), fmt.Sprintf("host-%d", i)
			m.Destination = &sdk.Destination{Dir: sdk.Raw(dir), Publish: []sdk.Raw{sdk.Raw(filepath.Base(source))}}
		}
		m.Agent = fmt.Sprintf("agent-%d", i)
		r.agent(&m)
		r.plan.Members = append(r.plan.Members, m)
	}
	if change != nil {
		change(&r.plan)
	}
	return r
}

// agent makes the member's job.
func (r *rig) agent(m *control.Member) {
	id, err := link.NewIdentity()
	if err != nil {
		r.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	state := r.t.TempDir()
	log, err := undo.Open(state)
	if err != nil {
		r.t.Fatal(err)
	}
	m.Fingerprint, m.SigningKey = id.Fingerprint(), id.SigningKey()
	m.Port, m.BootID, m.NetNS = ln.Addr().(*net.TCPAddr).Port, "boot", "netns"
	j := New(Config{Transfer: "20260101-test", Agent: m.Agent, StateDir: state, Identity: id, Listener: ln, Undo: log,
		Log: slog.New(slog.NewTextHandler(r.t.Output(), nil)), Changed: func() {}, Wanted: func() {}, SourceDone: func() {}})
	r.jobs, r.undo = append(r.jobs, j), append(r.undo, log)
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := j.Stop(ctx); err != nil {
			r.t.Errorf("stop %s: %v", m.Agent, err)
		}
		log.Close()
	})
}

func (r *rig) start() {
	r.t.Helper()
	for _, j := range r.jobs {
		if err := j.Start(&r.plan); err != nil {
			r.t.Fatal(err)
		}
	}
}

// settled waits until every member is verified or has failed.
func (r *rig) settled() map[string]control.MemberStatus {
	r.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		all, ok := make(map[string]control.MemberStatus), true
		for _, j := range r.jobs {
			for _, m := range j.Members() {
				all[m.Name] = m
				ok = ok && (m.Phase == control.PhaseVerified || m.Phase == control.PhaseFailed)
			}
		}
		if ok {
			return all
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("not settled: %+v", all)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (r *rig) commit() {
	r.t.Helper()
	for _, j := range r.jobs {
		var names []string
		for _, m := range j.Members() {
			names = append(names, m.Name)
		}
		if err := j.Commit(r.t.Context(), names); err != nil {
			r.t.Fatal(err)
		}
	}
}

// content is a tree with what the pipeline distinguishes: empty, small,
// several pieces, holes, links, odd names.
func content(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	random := make([]byte, 5<<20+12345)
	rand.Read(random)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	for name, data := range map[string][]byte{
		"empty": nil, "small": []byte("hello"), "a/large": random, "a/piece": random[:1<<20], "a/b/half": random[:1<<19],
		"a/b/text": bytes.Repeat([]byte("all work and no play\n"), 200_000), "new\nline \xff": []byte("odd"),
	} {
		must(os.WriteFile(filepath.Join(dir, name), data, 0o640))
	}
	for i := range 300 {
		must(os.WriteFile(filepath.Join(dir, "a/b", fmt.Sprintf("f%d", i)), random[:i*7], 0o600))
	}
	must(os.Symlink("../elsewhere", filepath.Join(dir, "link")))
	for name, at := range map[string][]int64{"sparse": {100, 3<<20 + 5, 9 << 20}, "a/tail": {0}, "nothing": nil} {
		f, err := os.Create(filepath.Join(dir, name))
		must(err)
		must(f.Truncate(12<<20 + 3))
		for _, off := range at {
			_, err := f.WriteAt(random[:70_000], off)
			must(err)
		}
		must(f.Close())
	}
	must(os.Chtimes(filepath.Join(dir, "small"), time.Unix(1e9, 5), time.Unix(1e9, 123456789)))
	must(os.Chmod(filepath.Join(dir, "a/b"), 0o555))
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "a/b"), 0o755) })
	return dir
}

// same compares two trees by content, type, mode and time.
func same(t *testing.T, want, got string) {
	t.Helper()
	describe := func(root string) map[string]string {
		m := make(map[string]string)
		err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, p)
			body := ""
			switch {
			case info.Mode().IsRegular():
				b, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				body = string(b)
			case info.Mode()&os.ModeSymlink != 0:
				body, _ = os.Readlink(p)
			}
			m[rel] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), len(body)) + body
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a, b := describe(want), describe(got)
	for p := range a {
		if a[p] != b[p] {
			t.Errorf("%q differs: %.80q, want %.80q", p, b[p], a[p])
		}
		delete(b, p)
	}
	for p := range b {
		t.Errorf("%q is too much", p)
	}
}

func TestTree(t *testing.T) {
	src := content(t)
	cases := map[string]struct {
		targets int
		change  func(*control.Start)
	}{
		"one target":    {1, nil},
		"chain of four": {4, nil},
		"plain":         {2, func(p *control.Start) { p.Settings.Encrypt = false }},
		"minlz":         {2, func(p *control.Start) { p.Settings.Codec = "minlz" }},
		"zstd received": {1, func(p *control.Start) { p.Settings.Codec = "zstd"; p.Settings.Verify = control.VerifyReceived }},
		"received":      {2, func(p *control.Start) { p.Settings.Verify = control.VerifyReceived }},
		"signed":        {2, func(p *control.Start) { p.Settings.Verify = control.VerifySigned }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, src, c.targets, c.change)
			r.start()
			all := r.settled()
			for name, m := range all {
				if m.Error != nil || m.Root == "" || m.Root != all["source"].Root {
					t.Fatalf("%s: %+v", name, m)
				}
			}
			for _, dir := range r.dirs {
				if _, err := os.Lstat(filepath.Join(dir, "tree")); err == nil {
					t.Error("published before commit")
				}
			}
			r.commit()
			for _, dir := range r.dirs {
				same(t, src, filepath.Join(dir, "tree"))
				if left, _ := filepath.Glob(filepath.Join(dir, ".transferpy*")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

func TestMembersOfOneAgent(t *testing.T) {
	src := content(t)
	r := newRig(t, src, 2, nil)
	// All three members live in the first agent; the other two have none.
	first := r.plan.Members[0]
	for i := range r.plan.Members {
		m := &r.plan.Members[i]
		m.Agent, m.Fingerprint, m.SigningKey, m.Port = first.Agent, first.Fingerprint, first.SigningKey, first.Port
	}
	if err := r.jobs[1].Start(&r.plan); err == nil {
		t.Error("an agent without a member took the plan")
	}
	if err := r.jobs[0].Start(&r.plan); err != nil {
		t.Fatal(err)
	}
	for name, m := range r.settled() {
		if m.Error != nil {
			t.Fatalf("%s: %v", name, m.Error)
		}
	}
	r.commit()
	for _, dir := range r.dirs {
		same(t, src, filepath.Join(dir, "tree"))
	}
}

func TestStream(t *testing.T) {
	src := t.TempDir()
	data := make([]byte, 3<<20+17)
	rand.Read(data)
	if err := os.WriteFile(filepath.Join(src, "data"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(script string) sdk.Stage {
		return sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"sh", "-c", sdk.Raw(script)}, Dir: sdk.Raw(src)}}
	}
	write := sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"sh", "-c", "cat > {staging}/copy"}}}
	cases := map[string]struct {
		read, write sdk.Stage
		name, fails string
	}{
		"command to command": {read("cat data"), write, "copy", ""},
		"command to file":    {read("cat data"), sdk.Stage{Builtin: sdk.BuiltinFile, Path: "copy"}, "copy", ""},
		"file to command":    {sdk.Stage{Builtin: sdk.BuiltinFile, Path: sdk.Raw(filepath.Join(src, "data"))}, write, "copy", ""},
		"empty":              {read(":"), write, "copy", ""},
		"source fails":       {read("cat data; echo no luck >&2; exit 3"), write, "copy", "no luck"},
		"sink fails":         {read("cat data"), sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"sh", "-c", "head -c 100 >/dev/null; echo disk on fire >&2; exit 5"}}}, "copy", "disk on fire"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, filepath.Join(src, c.name), 2, func(p *control.Start) {
				p.Read, p.Write, p.Settings.Verify = c.read, c.write, control.VerifyReceived
			})
			r.start()
			all := r.settled()
			for _, n := range []string{"target-1", "target-2"} {
				e := all[n].Error
				if c.fails == "" && e != nil || c.fails != "" && (e == nil || !strings.Contains(e.Message+e.Stderr, c.fails)) {
					t.Fatalf("%s: %+v", n, e)
				}
			}
			if c.fails != "" {
				return
			}
			r.commit()
			want := data
			if name == "empty" {
				want = nil
			}
			for _, dir := range r.dirs {
				got, err := os.ReadFile(filepath.Join(dir, "copy"))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v: %d bytes, want %d", err, len(got), len(want))
				}
			}
		})
	}
}

func TestSourceChanges(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"grows":   func(p string) error { return appendTo(p, "more") },
		"shrinks": func(p string) error { return os.Truncate(p, 5<<20) },
		"is altered in place": func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("changed"), 100)
			return errors.Join(err, f.Close())
		},
		"vanishes": func(p string) error { return os.Remove(filepath.Join(filepath.Dir(p), "z/small")) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "tree")
			if err := os.MkdirAll(filepath.Join(dir, "z"), 0o755); err != nil {
				t.Fatal(err)
			}
			for path, size := range map[string]int{"large": 40 << 20, "z/small": 10} {
				if err := os.WriteFile(filepath.Join(dir, path), make([]byte, size), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := newRig(t, dir, 2, func(p *control.Start) { p.Settings.LimitRate = 10 << 20 })
			r.start()
			for deadline := time.Now().Add(30 * time.Second); r.jobs[0].Members()[0].Bytes == 0; {
				if time.Now().After(deadline) {
					t.Fatal("no data flows")
				}
				time.Sleep(time.Millisecond)
			}
			if err := change(filepath.Join(dir, "large")); err != nil {
				t.Fatal(err)
			}
			all := r.settled()
			if name == "vanishes" && all["source"].Error == nil { // it may not have been listed yet
				return
			}
			for n, m := range all {
				if m.Error == nil || !strings.Contains(m.Error.Message, "tree/") || name != "vanishes" && m.Error.Kind != sdk.KindChanged {
					t.Errorf("%s: %+v", n, m.Error)
				}
			}
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/listing"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// list gives a trial's source a manifest, and all its hosts that root.
func (tr *trial) list(t *testing.T, path string) {
	t.Helper()
	tr.req.Manifest = path
	spool, err := manifest.Create(t.TempDir(), manifest.Header{DigestRule: manifest.RuleBLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	for i, e := range []manifest.Entry{{Path: "data", Type: sdk.FileDirectory}, {Path: "data/a\nb", Type: sdk.FileRegular, Size: 3}, {Path: "data/\xff", Type: sdk.FileFifo}} {
		record, err := manifest.AppendEntry(nil, &e)
		if err == nil {
			_, _, err = spool.Append(record)
		}
		if err == nil && e.Type == sdk.FileRegular {
			err = spool.SetDigest(uint64(i), manifest.Digest{Size: 3, Sum: digest.Of([]byte("abc")), State: manifest.DigestOK})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	root, err := spool.Root(t.Context())
	if err = errors.Join(err, spool.Export(t.Context(), z), z.Close()); err != nil {
		t.Fatal(err)
	}
	for _, h := range tr.site.hosts {
		h.root = digest.Sum(root).String()
	}
	src := tr.site.hosts["src"]
	src.packed, src.entries = packed.Bytes(), 3
}

// names are what is in the manifest's directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func TestManifest(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(tr *trial, path string)
		exit    int
		left    string // in the directory
		kind    sdk.ErrorKind
		verbs   string // the last calls
	}{
		{name: "all well", left: "list", verbs: "manifest commit"},
		{name: "of two targets one fails", prepare: func(tr *trial, _ string) { tr.site.hosts["b"].root = strings.Repeat("b", 64) }, exit: 3, left: "list"},
		{name: "all targets fail", prepare: func(tr *trial, _ string) {
			tr.site.hosts["a"].root, tr.site.hosts["b"].root = strings.Repeat("b", 64), strings.Repeat("b", 64)
		}, exit: 3, verbs: "start stop"},
		{name: "it exists", prepare: func(_ *trial, p string) { os.WriteFile(p, []byte("mine"), 0o600) }, exit: 255, left: "list", kind: sdk.KindExists},
		{name: "it is a dangling link", prepare: func(_ *trial, p string) { os.Symlink("nowhere", p) }, exit: 255, left: "list", kind: sdk.KindExists},
		{name: "it is taken meanwhile", prepare: func(tr *trial, p string) {
			tr.site.hook = func(verb control.Verb) {
				if verb == control.VerbCommit {
					os.WriteFile(p, []byte("mine"), 0o600)
				}
			}
		}, exit: 1, left: "list", kind: sdk.KindExists},
		{name: "no directory", prepare: func(tr *trial, p string) { tr.req.Manifest = filepath.Join(p, "list") }, exit: 255, kind: sdk.KindNotFound},
		{name: "a dry run", prepare: func(tr *trial, _ string) { tr.req.DryRun = true }},
		{name: "a stream", prepare: func(tr *trial, _ string) {
			tr.mode.change = func(p *sdk.Plan) { p.Read.Builtin, p.Write.Builtin = sdk.BuiltinFile, sdk.BuiltinFile }
		}, exit: 255, kind: sdk.KindUnsupported, verbs: "probe"},
		{name: "the agent has none", prepare: func(tr *trial, _ string) { tr.site.hosts["src"].failAt[control.VerbManifest] = sdk.ErrNoSpace },
			exit: 1, kind: sdk.KindNoSpace, verbs: "manifest commit"},
		{name: "a lie", prepare: func(tr *trial, _ string) { tr.site.hosts["src"].entries = 4 }, exit: 1, kind: sdk.KindInternal, verbs: "commit"},
		{name: "cut short", prepare: func(tr *trial, _ string) { s := tr.site.hosts["src"]; s.packed = s.packed[:len(s.packed)-9] },
			exit: 1, kind: sdk.KindInternal, verbs: "commit"},
		{name: "another root", prepare: func(tr *trial, _ string) {
			for _, h := range tr.site.hosts {
				h.root = strings.Repeat("c", 64)
			}
		}, exit: 1, kind: sdk.KindInternal, verbs: "commit"},
		{name: "a call fails on the way", prepare: func(tr *trial, _ string) { tr.site.hosts["src"].down[control.VerbManifest] = 2 }, left: "list"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTrial(t, "a", "b")
			dir := t.TempDir()
			path := filepath.Join(dir, "list")
			tr.list(t, path)
			if tt.prepare != nil {
				tt.prepare(tr, path)
			}
			r := tr.run(t)
			if r.ExitCode != tt.exit {
				t.Errorf("exit code %d, want %d: %v", r.ExitCode, tt.exit, r.Err)
			}
			if got := names(t, dir); got != tt.left {
				t.Errorf("left: %q, want %q", got, tt.left)
			}
			if tt.kind != "" && (r.Err == nil || r.Err.Kind != tt.kind) {
				t.Errorf("%v is no %s", r.Err, tt.kind)
			}
			if !strings.HasSuffix(tr.verbs(), tt.verbs) {
				t.Errorf("calls: %s", tr.verbs())
			}
			if wrote := r.Manifest != ""; wrote != (tt.left != "" && tt.exit != 255 && tt.kind == "") {
				t.Errorf("it says that the manifest is in %q", r.Manifest)
			} else if wrote {
				checkList(t, path, r)
			}
		})
	}
}

func checkList(t *testing.T, path string, r *Report) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	n := 0
	h, err := listing.Read(f, func(manifest.Entry, manifest.Digest) error { n++; return nil })
	if err != nil || n != 3 || h.Transfer != r.Transfer || h.Source != "src:/data" || fmt.Sprintf("%x", h.Root) != r.Targets[0].Digest {
		t.Errorf("%d entries, %+v, %v", n, h, err)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list")
	tr := newTrial(t, "a")
	tr.list(t, path)
	if r := tr.run(t); r.ExitCode != 0 {
		t.Fatal(r.Err)
	}
	broken := filepath.Join(dir, "broken")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(broken, bytes.Replace(text, []byte("entries: 3"), []byte("entries: 2"), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	found := func(v control.Verified) []control.Answer {
		return []control.Answer{{Running: true, Verified: &control.Verified{Checked: 1}}, {Running: true}, {Verified: &v}}
	}
	for _, tt := range []struct {
		name     string
		manifest string
		change   func(*fakeHost)
		exit     int
		kind     sdk.ErrorKind
		verbs    string
	}{
		{name: "all well", exit: 0, verbs: "probe prepare verify verify verify stop"},
		{name: "additional", change: func(h *fakeHost) { h.verified = found(control.Verified{Additional: 1}) }, exit: 1},
		{name: "attributes", change: func(h *fakeHost) { h.verified = found(control.Verified{Attributes: 1}) }, exit: 1},
		{name: "missing", change: func(h *fakeHost) { h.verified = found(control.Verified{Missing: 1, Attributes: 1}) }, exit: 3},
		{name: "differing", change: func(h *fakeHost) { h.verified = found(control.Verified{Differing: 1}) }, exit: 3},
		{name: "refused", change: func(h *fakeHost) { h.verified = []control.Answer{{Error: sdk.ErrNotFound}} }, exit: 255, kind: sdk.KindNotFound},
		{name: "no answer in it", change: func(h *fakeHost) { h.verified = []control.Answer{{}} }, exit: 255, kind: sdk.KindInternal},
		{name: "silent for a while", change: func(h *fakeHost) { h.down[control.VerbVerify] = 2 }, exit: 0},
		{name: "dies", change: func(h *fakeHost) { h.dies[control.VerbVerify] = true }, exit: 255, kind: sdk.KindCrashed, verbs: "probe prepare verify stop recover"},
		{name: "unreachable", change: func(h *fakeHost) { h.down[control.VerbProbe] = -1 }, exit: 255, kind: sdk.KindUnreachable, verbs: "probe"},
		{name: "no agent", change: func(h *fakeHost) { h.failAt[control.VerbPrepare] = sdk.ErrPermission }, exit: 255, kind: sdk.KindPermission},
		{name: "no manifest", manifest: filepath.Join(dir, "nothing"), exit: 255, kind: sdk.KindNotFound, verbs: "-"},
		{name: "a changed manifest", manifest: broken, exit: 255, kind: sdk.KindConfig, verbs: "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTrial(t, "a")
			h := tr.site.hosts["a"]
			h.verified = found(control.Verified{})
			if tt.change != nil {
				tt.change(h)
			}
			req := VerifyRequest{Target: Endpoint{"x", "a", "/srv/a"}, Manifest: path, Owner: "name", Ignore: []string{"mtime"}}
			if tt.manifest != "" {
				req.Manifest = tt.manifest
			}
			r, err := Verify(t.Context(), req, tr.deps, nil)
			if r.ExitCode != tt.exit || (err != nil) != (r.Err != nil) || (tt.kind == "") != (err == nil) || tt.kind != "" && r.Err.Kind != tt.kind {
				t.Errorf("exit code %d, %v", r.ExitCode, err)
			}
			if got := tr.verbs(); tt.verbs != "" && got != strings.Trim(tt.verbs, "-") {
				t.Errorf("calls: %s", got)
			}
			for _, q := range h.verifies {
				if q.Call != h.verifies[0].Call || len(q.Verify.Parts) != 1 || q.Verify.Dir != "/srv/a" || q.Verify.Ignore[0] != "mtime" || q.Wait <= 0 {
					t.Errorf("%+v", q.Verify)
				}
			}
			if tt.exit == 255 && len(h.files) > 0 {
				t.Errorf("%d files are left", len(h.files))
			}
			if h.prepared && !h.ended {
				t.Error("the agent was not ended")
			}
			checkSent(t, h, text)
		})
	}
}

// checkSent: what was put is the manifest.
func checkSent(t *testing.T, h *fakeHost, text []byte) {
	t.Helper()
	for _, packed := range h.files {
		z, err := zstd.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		var got bytes.Buffer
		if _, err := got.ReadFrom(z); err != nil || !bytes.Equal(got.Bytes(), text) {
			t.Errorf("%v: %s", err, got.Bytes())
		}
	}
}

// TestVerifyInterrupted ends the agent, and says so by its exit code.
func TestVerifyInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	tr := newTrial(t, "a")
	tr.list(t, path)
	if r := tr.run(t); r.ExitCode != 0 {
		t.Fatal(r.Err)
	}
	tr = newTrial(t, "a")
	h := tr.site.hosts["a"]
	h.verified = []control.Answer{{Running: true}}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(ErrInterrupted) })
	r, err := Verify(ctx, VerifyRequest{Target: Endpoint{"x", "a", "/srv/a"}, Manifest: path, Owner: "name"}, tr.deps, nil)
	if r.ExitCode != ExitSIGINT || err == nil || !h.ended {
		t.Errorf("exit code %d, %v, ended: %v", r.ExitCode, err, h.ended)
	}
}

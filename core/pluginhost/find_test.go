package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// site makes a plugin directory with a file of this name, content and mode,
// and returns the file's path.
func site(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenVerified(t *testing.T) {
	sum := sha256.Sum256([]byte("program"))
	pin := hex.EncodeToString(sum[:])
	for _, test := range []struct {
		name   string
		pin    string
		change func(t *testing.T, path string)
		want   string // in the error; empty: it is let in
	}{
		{name: "good"},
		{name: "pinned", pin: strings.ToUpper(pin)},
		{name: "pinned otherwise", pin: strings.Repeat("0", 64), want: "has SHA-256 " + pin},
		{name: "file of the group", change: chmod("", 0o775), want: "chmod go-w"},
		{name: "file of all", change: chmod("", 0o757), want: "chmod go-w"},
		{name: "not executable", change: chmod("", 0o644), want: "chmod +x"},
		{name: "directory of all", change: chmod("..", 0o777), want: "chmod go-w"},
		{name: "sticky directory of all", change: chmod("..", 0o777|os.ModeSticky), want: "chmod go-w"},
		{name: "directory above of all", change: chmod("../..", 0o777), want: "chmod go-w"},
		{name: "sticky directory above of all", change: chmod("../..", 0o777|os.ModeSticky)},
		{name: "somebody's file", change: chown(""), want: "belongs neither to root nor to you"},
		{name: "somebody's directory", change: chown(".."), want: "belongs neither to root nor to you"},
		{name: "a directory", change: replace(func(p string) error { return os.Mkdir(p, 0o755) }), want: "no regular file"},
		{name: "a link to a good file", change: replace(func(p string) error {
			real := filepath.Join(filepath.Dir(p), "real")
			return errors.Join(os.WriteFile(real, []byte("program"), 0o755), os.Symlink(real, p))
		})},
		{name: "a link out of a bad directory", change: replace(func(p string) error {
			bad := filepath.Join(filepath.Dir(p), "bad")
			return errors.Join(os.Mkdir(bad, 0o755), os.WriteFile(bad+"/real", []byte("program"), 0o755),
				os.Chmod(bad, 0o777), os.Symlink(bad+"/real", p))
		}), want: "chmod go-w"},
		{name: "a link to nothing", change: replace(func(p string) error { return os.Symlink("/nonexistent", p) }), want: "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := site(t, "transferpy-executor-x", "program", 0o755)
			if test.change != nil {
				test.change(t, path)
			}
			file, err := openVerified(path, test.pin)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				file.Close()
				return
			}
			if !errors.Is(err, sdk.ErrPermission) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func chmod(rel string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		at := filepath.Join(path, rel)
		if err := os.Chmod(at, mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(at, 0o755) })
	}
}

func chown(rel string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a file away")
		}
		if err := os.Chown(filepath.Join(path, rel), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
}

func replace(with func(path string) error) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		if err := errors.Join(os.Remove(path), with(path)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestScript starts a plugin that is a script: its interpreter opens it by the
// descriptor that was verified.
func TestScript(t *testing.T) {
	real := filepath.Join(misbehave(t, "executor", "bad", "none"), "transferpy-executor-bad")
	path := site(t, "transferpy-executor-bad", "#!/bin/sh\nexec "+real+"\n", 0o755)
	h := newHost(t, filepath.Dir(path))
	if _, _, err := h.Executor(t.Context(), "bad"); err != nil {
		t.Fatal(err)
	}
}

// TestNoProgram starts files that are none.
func TestNoProgram(t *testing.T) {
	for content, want := range map[string]string{
		"":                            "exec format error",
		"#!/nonexistent/interpreter":  "no such file",
		"#!/bin/sh\nexit 7":           "exit status 7",
		"#!/bin/sh\necho no; sleep 9": `printed "no"`,
	} {
		path := site(t, "transferpy-executor-bad", content, 0o755)
		_, _, err := newHost(t, filepath.Dir(path)).Executor(t.Context(), "bad")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
}

// TestLongTmpdir starts a plugin where the temporary directory is too long for
// the address of a socket.
func TestLongTmpdir(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "none")
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 200))
	if err := os.Mkdir(long, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	t.Setenv("XDG_RUNTIME_DIR", long)
	if _, _, err := newHost(t, dir).Executor(t.Context(), "bad"); err != nil {
		t.Fatal(err)
	}
}

// bundling makes the misbehaving plugin at path the bundled executor/bad.
func bundling(path string) func(*Options) {
	return func(o *Options) {
		o.Program = path
		o.Bundled = func(kind sdk.Kind, name string) []string {
			if kind == sdk.KindExecutor && name == "bad" {
				return []string{"__plugin", "executor", "bad"}
			}
			return nil
		}
		o.BundledNames = []string{"executor/bad"}
	}
}

func TestShadow(t *testing.T) {
	bundled := bundling(filepath.Join(misbehave(t, "executor", "bad", "none"), "transferpy-executor-bad"))
	broken := misbehave(t, "executor", "bad", "crash-on-start")
	if _, _, err := newHost(t, broken, bundled).Executor(t.Context(), "bad"); err != nil {
		t.Errorf("a site's plugin shadows the bundled one unasked: %v", err)
	}
	shadow := func(o *Options) { o.Shadow = true }
	if _, _, err := newHost(t, broken, bundled, shadow).Executor(t.Context(), "bad"); !errors.Is(err, sdk.ErrCrashed) {
		t.Errorf("with Shadow: %v", err)
	}
	found, err := newHost(t, broken, bundled).List(t.Context())
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	if f := found[0]; f.Path != "bundled" || f.Err != nil || f.Description.Version != "0.1" {
		t.Errorf("the bundled one: %+v", f)
	}
	if f := found[1]; f.Err == nil || !strings.Contains(f.Err.Error(), "is not used: a bundled plugin has its name") {
		t.Errorf("the shadowed one: %+v", f)
	}
}

func TestList(t *testing.T) {
	good := misbehave(t, "executor", "bad", "none")
	crashes := misbehave(t, "executor", "bad", "crash-on-start")
	for _, name := range []string{"README", "transferpy-executor-", "transferpy-executor-Bad", "transferpy-helper-x", "transferpy-mode"} {
		if err := os.WriteFile(filepath.Join(good, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(good, "transferpy-mode-open"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(good, "transferpy-mode-open"), 0o666); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, good, func(o *Options) { o.Dirs = append(o.Dirs, "/nonexistent", crashes) })
	found, err := h.List(t.Context())
	if err != nil || len(found) != 3 {
		t.Fatalf("%+v, %v", found, err)
	}
	for i, want := range []string{"", "is refused", "comes first"} {
		if f := found[i]; (want == "") != (f.Err == nil) || f.Err != nil && !strings.Contains(f.Err.Error(), want) {
			t.Errorf("%s: %v, want %q", f.Path, f.Err, want)
		}
	}
	f, err := h.Describe(t.Context(), sdk.KindExecutor, "bad")
	if err != nil || f.Path != filepath.Join(good, "transferpy-executor-bad") || len(f.Description.Fields) != 3 {
		t.Errorf("Describe: %+v, %v", f, err)
	}
	noneLeft(t, good)
}

func TestMissing(t *testing.T) {
	dir := misbehave(t, "executor", "bad", "none")
	h := newHost(t, dir, func(o *Options) { o.BundledNames = []string{"executor/ssh", "mode/file"} })
	for name, want := range map[string]string{"shh": "did you mean ssh?", "bat": "did you mean bad?", "kubernetes": "there are bad, ssh"} {
		_, _, err := h.Executor(t.Context(), name)
		if !errors.Is(err, sdk.ErrNotFound) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for _, name := range []string{"", "../x", "Bad", "a/b", "-x", "x\x00"} {
		if _, _, err := h.Executor(t.Context(), name); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}

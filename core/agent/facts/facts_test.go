package facts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

func TestHost(t *testing.T) {
	a, err := Host("/state")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Host("/state")
	if err != nil {
		t.Fatal(err)
	}
	other, err := Host("/other")
	if err != nil {
		t.Fatal(err)
	}
	if a.Instance != b.Instance || a.Instance == other.Instance {
		t.Errorf("instances %s, %s, %s", a.Instance, b.Instance, other.Instance)
	}
	if !control.ValidID(a.Instance) || a.BootID == "" || a.NetNS == "" || strings.ContainsAny(a.NetNS, "[]") || a.Kernel == "" || a.Arch == "" {
		t.Errorf("%+v", a)
	}
	if _, err := control.EncodeReply(&control.Reply{Facts: a}); err != nil {
		t.Error(err)
	}
}

// makeTree makes one of each kind of path.
func makeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "empty"), 0o750))
	must(os.MkdirAll(filepath.Join(dir, "full", "sub"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "full", "a\xff"), make([]byte, 1000), 0o640))
	must(os.Link(filepath.Join(dir, "full", "a\xff"), filepath.Join(dir, "full", "sub", "hard")))
	must(os.Symlink("a\xff", filepath.Join(dir, "full", "soft")))
	must(os.Symlink("/", filepath.Join(dir, "full", "sub", "root")))
	must(syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(os.MkdirAll(filepath.Join(dir, "fresh", "lost+found"), 0o700))
	must(os.MkdirAll(filepath.Join(dir, "used", "lost+found", "#1"), 0o700))
	return dir
}

func TestPath(t *testing.T) {
	dir := makeTree(t)
	root := os.Getuid() == 0
	tests := []struct {
		path string
		want sdk.PathFacts
	}{
		{"missing", sdk.PathFacts{}},
		{"full/a\xff/below", sdk.PathFacts{}},
		{"full/a\xff", sdk.PathFacts{Exists: true, Type: sdk.FileRegular, Size: 1000, Mode: 0o640, Readable: true, Writable: true, Entries: 1, Bytes: 1000}},
		{"empty", sdk.PathFacts{Exists: true, Type: sdk.FileDirectory, Mode: 0o750, Empty: true, Readable: true, Writable: true, Entries: 1}},
		{"full", sdk.PathFacts{Exists: true, Type: sdk.FileDirectory, Mode: 0o755, Readable: true, Writable: true, Entries: 6, Bytes: 1000}},
		{"full/soft", sdk.PathFacts{Exists: true, Type: sdk.FileSymlink, Mode: 0o777, Readable: true, Entries: 1}},
		{"fifo", sdk.PathFacts{Exists: true, Type: sdk.FileFifo, Mode: 0o600, Readable: true, Writable: true, Entries: 1}},
		{"fresh", sdk.PathFacts{Exists: true, Type: sdk.FileDirectory, Mode: 0o700, Empty: root, Readable: true, Writable: true, Entries: 2}},
		{"used", sdk.PathFacts{Exists: true, Type: sdk.FileDirectory, Mode: 0o700, Readable: true, Writable: true, Entries: 3}},
	}
	for _, tt := range tests {
		got := Path(t.Context(), sdk.PathQuestion{Path: sdk.Raw(filepath.Join(dir, tt.path)), Count: true}, "")
		if got.Exists && (got.FileSystem == "" || got.FreeBytes <= 0) {
			t.Errorf("%q: file system %q, %d bytes free", tt.path, got.FileSystem, got.FreeBytes)
		}
		got.FileSystem, got.FreeBytes, got.FreeInodes, got.Took, got.UID, got.GID = "", 0, 0, 0, 0, 0
		if got != tt.want {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.path, got, tt.want)
		}
	}
}

// TestStaged: what the transfer that is to be resumed has staged counts as
// free, and does not keep a directory from being empty; nothing else does.
func TestStaged(t *testing.T) {
	const mine = "20261123-153042-k3mq7xwa"
	dir := t.TempDir()
	stage := filepath.Join(dir, ".transferpy-"+mine+"-target-1", "data")
	if err := os.MkdirAll(stage, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stage, "file"), make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(transfer string) sdk.PathFacts {
		f := Path(t.Context(), sdk.PathQuestion{Path: sdk.Raw(dir)}, transfer)
		if f.Err != nil {
			t.Fatal(f.Err)
		}
		return f
	}
	plain, resumed, other := ask(""), ask(mine), ask("20261123-153042-aaaaaaaa")
	if plain.Empty || other.Empty || !resumed.Empty {
		t.Errorf("empty: %v, another's %v, resumed %v", plain.Empty, other.Empty, resumed.Empty)
	}
	const slack = 1 << 20 // others use the file system too
	if more := resumed.FreeBytes - plain.FreeBytes; more < 3<<20-slack || more > 3<<20+slack {
		t.Errorf("%d bytes more are free", more)
	}
	if more := other.FreeBytes - plain.FreeBytes; more < -slack || more > slack {
		t.Errorf("another's: %d bytes more are free", more)
	}
	if more := resumed.FreeInodes - plain.FreeInodes; plain.FreeInodes >= 0 && (more < 0 || more > 100) {
		t.Errorf("%d inodes more are free", more)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ask(mine).Empty {
		t.Error("empty, with a file in it")
	}
	os.Remove(filepath.Join(dir, "x"))
	if os.Getuid() == 0 {
		if err := os.Chown(filepath.Dir(stage), 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if f := ask(mine); f.Empty || f.FreeBytes-plain.FreeBytes > slack {
			t.Errorf("another user's directory counts: %+v", f)
		}
	}
}

func TestPathErrors(t *testing.T) {
	long := "/" + strings.Repeat("x", 300)
	if f := Path(t.Context(), sdk.PathQuestion{Path: sdk.Raw(long)}, ""); !errors.Is(f.Err, sdk.ErrConfig) {
		t.Errorf("%+v", f)
	}
}

func TestCountIsALowerBoundWhenCutShort(t *testing.T) {
	dir := makeTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := Path(ctx, sdk.PathQuestion{Path: sdk.Raw(dir), Count: true}, "")
	if !f.Partial || f.Entries < 1 || f.Err != nil {
		t.Errorf("%+v", f)
	}
}

func TestCountBoundsItsDepth(t *testing.T) {
	dir := t.TempDir()
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 50 {
		if err := syscall.Mkdirat(int(fd.Fd()), "d", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := openDir(int(fd.Fd()), "d")
		if err != nil {
			t.Fatal(err)
		}
		fd.Close()
		fd = next
	}
	fd.Close()
	f := Path(t.Context(), sdk.PathQuestion{Path: sdk.Raw(dir), Count: true}, "")
	if !f.Partial || f.Entries < maxDepth {
		t.Errorf("%+v", f)
	}
}

func TestAnswer(t *testing.T) {
	f := &control.Facts{}
	p := &control.Probe{Resolve: []string{"localhost", "no-such-host.invalid"}}
	for i := range 20 {
		p.Paths = append(p.Paths, sdk.PathQuestion{ID: fmt.Sprint(i), Path: "/"})
		p.Commands = append(p.Commands, sdk.CommandQuestion{ID: fmt.Sprint(i), Command: sdk.Command{Argv: []sdk.Raw{"sh", "-c", "head -c 20000 /dev/zero; exit 7"}}})
	}
	Answer(t.Context(), f, p)
	if len(f.Paths) != 20 || len(f.Commands) != 20 || len(f.Resolved) != 1 {
		t.Fatalf("%d, %d, %v", len(f.Paths), len(f.Commands), f.Resolved)
	}
	total := 0
	for _, r := range f.Commands {
		total += len(r.Stdout)
		if r.ExitCode != 7 || !r.Truncated && len(r.Stdout) != 20000 {
			t.Errorf("%d, %d bytes, %v", r.ExitCode, len(r.Stdout), r.Truncated)
		}
	}
	if total > maxAnswers {
		t.Errorf("%d bytes of output", total)
	}
}

func TestAnswerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	f := &control.Facts{}
	began := time.Now()
	Answer(ctx, f, &control.Probe{Commands: []sdk.CommandQuestion{{ID: "c", Command: sdk.Command{Argv: []sdk.Raw{"sleep", "100"}}}}})
	if took := time.Since(began); took > 5*time.Second || !errors.Is(f.Commands["c"].Err, sdk.ErrCancelled) {
		t.Errorf("took %v: %+v", took, f.Commands["c"])
	}
}

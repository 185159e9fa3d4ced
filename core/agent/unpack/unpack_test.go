package unpack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lukechampine.com/blake3"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// room is a directory to unpack into, in one that must stay as it is.
type room struct {
	around, dir string
	*Unpacker
}

func newRoom(t testing.TB, o Options) *room {
	t.Helper()
	r := &room{around: t.TempDir()}
	r.dir = filepath.Join(r.around, "data")
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	o.Sink.Root = os.Geteuid() == 0
	if r.Unpacker, err = New(d, t.TempDir(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// tar unpacks and finishes.
func (r *room) tar(ctx context.Context, archive []byte) error {
	if err := r.Tar(ctx, io.NopCloser(bytes.NewReader(archive))); err != nil {
		return err
	}
	return r.Finish(ctx)
}

// xbstream unpacks and finishes.
func (r *room) xbstream(ctx context.Context, stream []byte) error {
	if err := r.Xbstream(ctx, bytes.NewReader(stream)); err != nil {
		return err
	}
	return r.Finish(ctx)
}

// confined fails the test where something was written beside the directory.
func (r *room) confined(t testing.TB) {
	t.Helper()
	names, err := os.ReadDir(r.around)
	if err != nil || len(names) != 1 {
		t.Errorf("beside the directory lies %v, %v", names, err)
	}
}

// holds fails the test where what Each tells is not what lies there.
func (r *room) holds(t testing.TB) {
	t.Helper()
	err := r.Each(context.Background(), func(e *manifest.Entry, sum [32]byte) error {
		content, err := os.ReadFile(filepath.Join(r.dir, string(e.Path)))
		if err != nil {
			return err
		}
		if int64(len(content)) != e.Size || blake3.Sum256(content) != sum {
			t.Errorf("%q: %d bytes that are not those that were told", e.Path, len(content))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func run(t testing.TB, dir, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
	var stderr bytes.Buffer
	c := exec.Command(name, args...)
	c.Dir, c.Stderr = dir, &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	return out
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listing is everything below dir with what tar keeps of it.
func listing(t testing.TB, dir string) string {
	t.Helper()
	return string(run(t, dir, "find", ".", "-mindepth", "1", "-printf", "%p %y %m %U %G %T@ %l %n ", "-type", "f", "-printf", "%s", "-o", "-printf", "\n"))
}

// sorted puts lines into an order.
func sorted(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines { // few
		for j := i + 1; j < len(lines); j++ {
			if lines[j] < lines[i] {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	return strings.Join(lines, "\n")
}

// kindIs fails the test unless err is of the kind and says the words.
func kindIs(t testing.TB, err error, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got %v, want %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in %q", w, err)
		}
	}
}

var endTime = regexp.MustCompile(`^end_time = ..`)

func proofOptions() Options {
	return Options{Digests: true, Proof: []string{"xtrabackup_info", "mariadb_backup_info"}, ProofLine: endTime}
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ name, want, why string }{
		{"a/b", "a/b", ""}, {"./a//b/", "a/b", ""}, {"./", "", ""}, {".", "", ""}, {"a/./b", "a/b", ""},
		{"/a", "", "absolute"}, {"a/../b", "", ".."}, {"..", "", ".."}, {"./..", "", ".."},
		{"a/" + strings.Repeat("x", 256), "", "component"}, {"a\x00b", "", "component"}, {".transferpy-x/y", "", "staging"},
		{"..a/b..", "..a/b..", ""},
	} {
		got, why := clean(tt.name)
		if got != tt.want || (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
			t.Errorf("clean(%q) = %q, %q", tt.name, got, why)
		}
	}
}

func TestLedgerKeepsTheLastOfAPath(t *testing.T) {
	l, err := newLedger(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	add := func(path sdk.Raw, sum byte) {
		t.Helper()
		if err := l.add(&written{entry: manifest.Entry{Path: path, Type: sdk.FileRegular}, sum: [32]byte{sum}}); err != nil {
			t.Fatal(err)
		}
	}
	add("a", 1)
	add("b", 2)
	if err := l.replace("a"); err != nil {
		t.Fatal(err)
	}
	add("a", 3)
	for range 2 {
		var got []byte
		if err := l.each(t.Context(), func(w *written) error { got = append(got, w.entry.Path[0], '0'+w.sum[0]); return nil }); err != nil || string(got) != "b2a3" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// Directories that shut their owner out get their mode when all below them is
// done; it matters to whoever is not root.
func TestDirectoriesThatShutOut(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "top/closed/inner/f"), "content")
	for _, d := range []string{"top/closed/inner", "top/closed"} {
		if err := os.Chmod(filepath.Join(src, d), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(src, "top/closed"), 0o700) })
	archive := run(t, src, "tar", "-cf", "-", "top")
	r := newRoom(t, Options{Strip: true, Sink: tree.SinkOptions{}})
	if err := r.tar(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"closed", "closed/inner"} {
		if info, err := os.Stat(filepath.Join(r.dir, d)); err != nil || info.Mode() != fs.ModeDir|0o500 {
			t.Errorf("%s: %v, %v", d, info, err)
		}
	}
}

package audit

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

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/listing"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// hostile are names that may not lead astray.
var hostile = []string{"new\nline", "\xff\xfe", " blank ", "-rf", "*", `\`, "\x1b[31m", strings.Repeat("x", 255)}

// build makes a tree named t with one of everything below dir.
func build(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	top := filepath.Join(dir, "t")
	must(os.MkdirAll(filepath.Join(top, "sub/deep"), 0o755))
	for i, name := range hostile {
		must(os.WriteFile(filepath.Join(top, name), fmt.Appendf(nil, "content %d", i), 0o640))
	}
	must(os.WriteFile(filepath.Join(top, "empty"), nil, 0o600))
	must(os.WriteFile(filepath.Join(top, "sub/large"), bytes.Repeat([]byte("0123456789abcdef"), 700_000), 0o600))
	must(os.WriteFile(filepath.Join(top, "sub/a"), []byte("linked"), 0o600))
	must(os.Link(filepath.Join(top, "sub/a"), filepath.Join(top, "sub/deep/b")))
	must(os.WriteFile(filepath.Join(top, "sub/alone"), []byte("linked"), 0o600))
	must(os.Symlink("../nowhere", filepath.Join(top, "sub/link")))
	must(unix.Mkfifo(filepath.Join(top, "sub/fifo"), 0o600))
}

// list writes the listing of dir/t, as a source's agent would.
func list(t *testing.T, dir string) []byte {
	t.Helper()
	src, err := tree.OpenSource(sdk.Raw(filepath.Join(dir, "t")))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	type item struct {
		e manifest.Entry
		d manifest.Digest
	}
	var items []item
	root := manifest.NewRoot(manifest.RuleBLAKE3)
	err = src.Walk(t.Context(), func(e manifest.Entry, _ manifest.Ident) error {
		var d manifest.Digest
		if e.Type == sdk.FileRegular && e.HardLink == 0 {
			data, err := os.ReadFile(filepath.Join(dir, string(e.Path)))
			if err != nil {
				return err
			}
			d = manifest.Digest{Size: e.Size, Sum: digest.Of(data), State: manifest.DigestOK}
		}
		items = append(items, item{e, d})
		return root.Add(&e, &d)
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := listing.NewWriter(&out, listing.Header{Rule: manifest.RuleBLAKE3, Root: root.Sum(), Entries: uint64(len(items)), Time: time.Now()})
	for i := 0; i < len(items) && err == nil; i++ {
		err = w.Add(items[i].e, items[i].d)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func check(t *testing.T, dir string, text []byte, ignore ...string) *control.Verified {
	t.Helper()
	v, err := Run(t.Context(), Config{Dir: sdk.Raw(dir), Listing: bytes.NewReader(text), Scratch: t.TempDir(), Ignore: ignore})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// some is a number above 0 that depends on the order of a directory's names.
const some = -1

// counts are missing, differing, attributes, additional.
func counts(v *control.Verified) [4]int64 {
	return [4]int64{v.Missing, v.Differing, v.Attributes, v.Additional}
}

func TestRun(t *testing.T) {
	long := "/t/sub/large"
	tests := []struct {
		name   string
		change func(dir string) error
		want   [4]int64 // with mtime ignored
		path   string   // of one finding
		what   string
	}{
		{"nothing", func(string) error { return nil }, [4]int64{}, "", ""},
		{"a byte of a large file", func(dir string) error {
			f, err := os.OpenFile(dir+long, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("X"), 9<<20)
				f.Close()
			}
			return err
		}, [4]int64{1: 1}, "t/sub/large", "other content"},
		{"a byte of a hostile file", func(dir string) error { return os.WriteFile(dir+"/t/new\nline", []byte("content 9"), 0) },
			[4]int64{1: 1}, "t/new\nline", "other content"},
		{"a size", func(dir string) error { return os.Truncate(dir+long, 5) }, [4]int64{1: 1}, "t/sub/large", "5 bytes"},
		{"a file removed", func(dir string) error { return os.Remove(dir + "/t/\xff\xfe") }, [4]int64{0: 1}, "t/\xff\xfe", "file"},
		{"all removed", func(dir string) error { return os.RemoveAll(dir + "/t") }, [4]int64{0: 18}, "t", "directory"},
		{"a mode", func(dir string) error { return os.Chmod(dir+"/t/-rf", os.ModeSetuid|0o640) }, [4]int64{2: 1}, "t/-rf", "mode 4640 instead of 0640"},
		{"an added tree", func(dir string) error { return os.MkdirAll(dir+"/t/new/er", 0o755) }, [4]int64{3: 2}, "t/new/er", "directory"},
		{"beside the top", func(dir string) error { return os.Mkdir(dir+"/other", 0o755) }, [4]int64{}, "", ""},
		{"a link", func(dir string) error {
			return errors.Join(os.Remove(dir+"/t/sub/link"), os.Symlink("../elsewhere", dir+"/t/sub/link"))
		}, [4]int64{1: 1}, "t/sub/link", "leads to ../elsewhere"},
		{"a type", func(dir string) error { return errors.Join(os.Remove(dir+"/t/empty"), os.Mkdir(dir+"/t/empty", 0o755)) },
			[4]int64{1: 1}, "t/empty", "a directory instead of a"},
		{"the top a link", func(dir string) error {
			return errors.Join(os.Rename(dir+"/t", dir+"/u"), os.Symlink("u", dir+"/t"))
		}, [4]int64{0: 17, 1: 1}, "t", "neither"},
		{"hard links apart", func(dir string) error {
			return errors.Join(os.Remove(dir+"/t/sub/deep/b"), os.WriteFile(dir+"/t/sub/deep/b", []byte("linked"), 0o600))
		}, [4]int64{2: 1}, "", "no hard link any more"},
		{"hard links apart, and one differs", func(dir string) error {
			return errors.Join(os.Remove(dir+"/t/sub/deep/b"), os.WriteFile(dir+"/t/sub/deep/b", []byte("linkEd"), 0o600))
		}, [4]int64{1: 1, 2: 1}, "t/sub/deep/b", "other content"},
		{"another file linked", func(dir string) error {
			return errors.Join(os.Remove(dir+"/t/sub/alone"), os.Link(dir+"/t/sub/a", dir+"/t/sub/alone"))
		}, [4]int64{2: some}, "", "hard link of another"},
		{"both linked differ", func(dir string) error { return os.WriteFile(dir+"/t/sub/a", []byte("linkEd"), 0) }, [4]int64{1: 1}, "", "other content"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			build(t, dir)
			text := list(t, dir)
			if err := tt.change(dir); err != nil {
				t.Fatal(err)
			}
			v := check(t, dir, text, "mtime")
			got := counts(v)
			if tt.want[2] == some && got[2] > 0 {
				got[2] = some
			}
			if got != tt.want {
				t.Errorf("missing, differing, attributes, additional: %v, want %v\n%+v", got, tt.want, v.Findings)
			}
			found := tt.path == "" && tt.what == ""
			for _, f := range v.Findings {
				found = found || (tt.path == "" || string(f.Path) == tt.path) && strings.Contains(f.What, tt.what)
			}
			if !found {
				t.Errorf("%q %q is not among the findings: %+v", tt.path, tt.what, v.Findings)
			}
			if v.Entries != 18 || tt.want == [4]int64{} && v.Checked != v.Bytes {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestIgnore: each aspect is compared, and is not where it is ignored.
func TestIgnore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: owners cannot be changed")
	}
	for aspect, change := range map[string]func(p string) error{
		"mode":       func(p string) error { return os.Chmod(p, 0o751) },
		"owner":      func(p string) error { return os.Chown(p, 12345, 0) },
		"mtime":      func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 1)) },
		"xattrs":     func(p string) error { return unix.Removexattr(p, "user.x") },
		"additional": func(p string) error { return os.WriteFile(p+"/new", nil, 0o600) },
		"hardlinks": func(p string) error {
			return errors.Join(os.Remove(p+"/deep/b"), os.WriteFile(p+"/deep/b", []byte("linked"), 0o600))
		},
	} {
		dir := t.TempDir()
		build(t, dir)
		sub := filepath.Join(dir, "t/sub")
		if err := unix.Setxattr(sub, "user.x", []byte("v"), 0); err != nil {
			t.Logf("no extended attributes here: %v", err)
			if aspect == "xattrs" {
				continue
			}
		}
		text := list(t, dir)
		if err := change(sub); err != nil {
			t.Fatal(err)
		}
		if v := check(t, dir, text); v.Attributes+v.Additional == 0 || v.Missing+v.Differing != 0 {
			t.Errorf("%s was changed: %+v", aspect, v)
		}
		// What is made anew also has another time.
		if v := check(t, dir, text, aspect, "mtime"); counts(v) != [4]int64{} {
			t.Errorf("%s is to be ignored: %+v", aspect, v)
		}
	}
}

func TestManyFindings(t *testing.T) {
	dir := t.TempDir()
	build(t, dir)
	text := list(t, dir)
	for i := range 3 * control.MaxFindings {
		if err := os.WriteFile(fmt.Sprintf("%s/t/sub/%0250d", dir, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v := check(t, dir, text, "mtime")
	if v.Additional != 3*control.MaxFindings || len(v.Findings) != control.MaxFindings {
		t.Errorf("%d additional, %d named", v.Additional, len(v.Findings))
	}
	if _, err := control.EncodeReply(&control.Reply{Agents: []control.Answer{{Agent: "a", Verified: v}}}); err != nil {
		t.Error(err)
	}
}

// TestRefused: what cannot be checked is an error and no result.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	build(t, dir)
	text := list(t, dir)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for name, c := range map[string]struct {
		ctx  context.Context
		dir  string
		text []byte
		want error
	}{
		"a changed manifest": {t.Context(), dir, bytes.Replace(text, []byte("0640"), []byte("0641"), 1), sdk.ErrConfig},
		"half a manifest":    {t.Context(), dir, text[:len(text)/2], sdk.ErrConfig},
		"no directory":       {t.Context(), dir + "/nothing", text, sdk.ErrNotFound},
		"a file":             {t.Context(), dir + "/t/empty", text, sdk.ErrConfig},
		"an end":             {stopped, dir, text, context.Canceled},
	} {
		_, err := Run(c.ctx, Config{Dir: sdk.Raw(c.dir), Listing: bytes.NewReader(c.text), Scratch: t.TempDir()})
		if !errorIs(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func errorIs(err, want error) bool {
	return err != nil && (strings.Contains(err.Error(), want.Error()) || sdk.AsError(err).Is(want))
}

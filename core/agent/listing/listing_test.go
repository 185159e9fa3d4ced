package listing

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

type item struct {
	E manifest.Entry
	D manifest.Digest
}

func known(content string) manifest.Digest {
	return manifest.Digest{Size: int64(len(content)), Sum: digest.Of([]byte(content)), State: manifest.DigestOK}
}

// items have one of everything.
func items() []item {
	long := strings.Repeat("\xfe", 255)
	return []item{
		{E: manifest.Entry{Path: "d", Type: sdk.FileDirectory, Mode: 0o7755, Owner: "root", Group: "-", MTimeSec: -7, MTimeNsec: 5}},
		{E: manifest.Entry{Path: "d/f", Type: sdk.FileRegular, Mode: 0o4, UID: 1<<32 - 1, Size: 3, MTimeSec: 1 << 33, MTimeNsec: 999999999,
			Xattrs:   []manifest.Xattr{{Name: "user.a=b\n", Value: "\x00\t="}, {Name: "user.empty"}},
			ACLNames: []manifest.ACLName{{ID: 7, Name: "a:b"}, {Group: true, ID: 8, Name: "\t"}}}, D: known("abc")},
		{E: manifest.Entry{Path: "d/new\nline\ttab\\\r\x1b", Type: sdk.FileRegular}, D: known("")},
		{E: manifest.Entry{Path: "d/größe \xff\u202e\ufffd", Type: sdk.FileSymlink, Link: "a\tb\n -> \xc3"}},
		{E: manifest.Entry{Path: sdk.Raw("d/" + long), Type: sdk.FileRegular, HardLink: 2, Size: 3}},
		{E: manifest.Entry{Path: "d/p", Type: sdk.FileFifo}},
		{E: manifest.Entry{Path: "d/c", Type: sdk.FileCharDev, Rdev: 1<<63 | 0x12345678}},
		{E: manifest.Entry{Path: "d/b", Type: sdk.FileBlockDev, Rdev: 0x801}},
		{E: manifest.Entry{Path: "d/ # two  blanks ", Type: sdk.FileRegular, Size: 9}},
	}
}

func write(t testing.TB, list []item) []byte {
	t.Helper()
	root := manifest.NewRoot(manifest.RuleBLAKE3)
	for i := range list {
		if err := root.Add(&list[i].E, &list[i].D); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, Header{Rule: manifest.RuleBLAKE3, Root: root.Sum(), Entries: uint64(len(list)),
		Transfer: "20261123-abc", Source: "db1:/srv/new\nline", Time: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if err := w.Add(i.E, i.D); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(data []byte) (list []item, h Header, err error) {
	h, err = Read(bytes.NewReader(data), func(e manifest.Entry, d manifest.Digest) error {
		list = append(list, item{e, d})
		return nil
	})
	return list, h, err
}

func TestRoundTrip(t *testing.T) {
	want := items()
	text := write(t, want)
	for i, b := range text {
		if b < ' ' && b != '\n' && b != '\t' || b == 0x7f {
			t.Errorf("byte %d is %#x", i, b)
		}
	}
	if lines := bytes.Count(text, []byte("\n")); lines != 8+len(want) {
		t.Errorf("%d lines for %d entries:\n%s", lines, len(want), text)
	}
	got, h, err := read(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if h.Source != "db1:/srv/new\nline" || h.Transfer != "20261123-abc" || !h.Time.Equal(time.Unix(1e9, 0)) {
		t.Errorf("%+v", h)
	}
	if !bytes.Contains(text, []byte(digest.Of([]byte("abc")).String()+"\td/f\t")) {
		t.Errorf("the digest that b3sum prints is not there:\n%s", text)
	}
}

// TestChanged: whatever is changed in a listing is found.
func TestChanged(t *testing.T) {
	text := string(write(t, items()))
	for _, c := range []struct{ name, old, new string }{
		{"a path", "\td/p", "\td/q"},
		{"a digest", digest.Of([]byte("abc")).String(), digest.Of([]byte("abd")).String()},
		{"a mode", "\t7755\t", "\t0755\t"},
		{"the root", "# root: ", "# root: 0"},
		{"the rule", "# digest: blake3", "# digest: none"},
		{"the version", "manifest 1", "manifest 2"},
		{"the count", "# entries: 9", "# entries: 8"},
		{"an unknown field", "\td/p\n", "\td/p\tcolour=red\n"},
		{"a line", "p\t0000\t-\t0.000000000\t0\t0\t-\t-\t-\td/p\n", ""},
		{"the end", "d/ # two  blanks \n", "d/ # two  blanks "},
		{"all", text, ""},
	} {
		changed := strings.Replace(text, c.old, c.new, 1)
		if changed == text {
			t.Errorf("%s: nothing was changed", c.name)
		}
		if _, _, err := read([]byte(changed)); err == nil {
			t.Errorf("%s was changed, and nobody saw it", c.name)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	h := Header{Rule: manifest.RuleBLAKE3, Entries: 1}
	file := manifest.Entry{Path: "f", Type: sdk.FileRegular, Size: 1}
	for name, c := range map[string]func(*Writer) error{
		"too few":      func(w *Writer) error { return w.Close() },
		"too many":     func(w *Writer) error { _ = w.Add(file, manifest.Digest{}); return w.Add(file, manifest.Digest{}) },
		"another root": func(w *Writer) error { _ = w.Add(file, manifest.Digest{}); return w.Close() },
		"a digest of another size": func(w *Writer) error {
			return w.Add(file, manifest.Digest{State: manifest.DigestOK})
		},
		"a failed digest": func(w *Writer) error { return w.Add(file, manifest.Digest{State: manifest.DigestFailed}) },
		"a stream": func(w *Writer) error {
			return w.Add(manifest.Entry{Path: "f", Type: sdk.FileRegular, Stream: true}, manifest.Digest{})
		},
	} {
		w, err := NewWriter(&bytes.Buffer{}, h)
		if err != nil {
			t.Fatal(err)
		}
		if c(w) == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// FuzzLine: what a line says survives being written and read again.
func FuzzLine(f *testing.F) {
	for _, line := range strings.Split(string(write(f, items())), "\n") {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, d, err := parseLine(line)
		if err != nil {
			return
		}
		again, d2, err := parseLine(strings.TrimSuffix(string(appendLine(nil, &e, &d)), "\n"))
		if err != nil {
			t.Fatalf("%q was written so that it cannot be read: %v", line, err)
		}
		if diff := cmp.Diff(item{e, d}, item{again, d2}); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzRead: no listing makes Read fall over, and what it takes is an intact
// manifest: written again and read, it has the same entries.
func FuzzRead(f *testing.F) {
	f.Add(write(f, items()))
	f.Add(write(f, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, _, err := read(data)
		if err != nil {
			return
		}
		again, _, err := read(write(t, list))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(list, again); d != "" {
			t.Error(d)
		}
	})
}

// FuzzEscape: any bytes survive, and none of them divides a field or a line.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", `\`, "a\tb\n\r", "\xff\xc3", "\ufffd", "\u2028\u202e\u00a0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := escape(s, '=')
		if strings.ContainsAny(text, "\t\n\r=\x00") {
			t.Errorf("%q", text)
		}
		if back, err := unescape(text); err != nil || back != s {
			t.Errorf("%q came back as %q (%v)", s, back, err)
		}
	})
}

package unpack

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
)

// snapshot makes a directory as a backup's, of which tar keeps everything.
func snapshot(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	top := filepath.Join(dir, "snapshot.s1")
	for name, content := range map[string]string{
		"xtrabackup_info":                  "uuid = 1\nend_time = 2026-11-23 06:52:00\n",
		"enwiki/t.ibd":                     strings.Repeat("page of a table ", 100_000),
		"enwiki/empty":                     "",
		"a file \n with\xffbytes":          "x",
		strings.Repeat("long/", 60) + "er": "deep",
	} {
		write(t, filepath.Join(top, name), content)
	}
	if err := os.Link(filepath.Join(top, "enwiki/t.ibd"), filepath.Join(top, "zlink")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../xtrabackup_info", filepath.Join(top, "enwiki/sym")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(top, "fifo"), 0o611); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(top, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("island"), 20<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1_600_000_000, 0)
	for name, mode := range map[string]os.FileMode{"enwiki/t.ibd": 0o640, "enwiki": 0o750 | os.ModeSetgid, "sparse": 0o600 | os.ModeSetuid} {
		if err := os.Chmod(filepath.Join(top, name), mode); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 && name == "enwiki/t.ibd" {
			if err := os.Chown(filepath.Join(top, name), 1234, 4321); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(filepath.Join(top, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestAsGNUTar unpacks what GNU tar packs, in each of its formats, and finds
// what GNU tar would have made of it.
func TestAsGNUTar(t *testing.T) {
	src := snapshot(t)
	for _, format := range []string{"gnu", "oldgnu", "pax", "posix"} {
		t.Run(format, func(t *testing.T) {
			archive := run(t, src, "tar", "--format="+format, "--sparse", "-cf", "-", "snapshot.s1")
			theirs := t.TempDir()
			cmd := filepath.Join(theirs, "a.tar")
			if err := os.WriteFile(cmd, archive, 0o600); err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(theirs, "out")
			if err := os.Mkdir(out, 0o700); err != nil {
				t.Fatal(err)
			}
			run(t, out, "tar", "--strip-components=1", "-xpf", cmd)
			o := proofOptions()
			o.Strip = true
			r := newRoom(t, o)
			if err := r.tar(t.Context(), archive); err != nil {
				t.Fatal(err)
			}
			if got, want := sorted(listing(t, r.dir)), sorted(listing(t, out)); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			run(t, out, "diff", "-r", "--exclude=fifo", out, r.dir)
			r.holds(t)
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(r.dir, "sparse"), &st); err != nil || st.Blocks*512 > 1<<20 {
				t.Errorf("the holes became %d bytes, %v", st.Blocks*512, err)
			}
			if w := r.Warnings(); len(w) > 0 && os.Geteuid() == 0 {
				t.Errorf("warnings: %+v", w)
			}
		})
	}
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return z.EncodeAll(b, nil)
}

// member is one of a tar that no tar program would make.
type member struct {
	name, link, content string
	kind                byte
}

func archiveOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Linkname: m.link, Typeflag: m.kind, Mode: 0o644, Size: int64(len(m.content)), ModTime: time.Unix(1e9, 0)}
		if m.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeDir {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func info(content string) member { return member{name: "s/xtrabackup_info", content: content} }

func TestContentDecidesTheFormat(t *testing.T) {
	plain := archiveOf(t, info("end_time = now"), member{name: "s/big", content: strings.Repeat("0123456789", 200_000)})
	half := len(plain) / 2
	frames := zstandard(plain[:half])
	for name, archive := range map[string][]byte{
		"plain": plain, "gzip": gzipped(plain), "zstd": zstandard(plain),
		"members":       append(gzipped(plain[:half]), gzipped(plain[half:])...),
		"empty member":  append(gzipped(nil), gzipped(plain)...),
		"zeros behind":  append(gzipped(plain), make([]byte, 10_000)...),
		"zstd frames":   append(frames, zstandard(plain[half:])...),
		"padded":        append(bytes.Clone(plain), make([]byte, 20*512)...),
		"gzip's padded": gzipped(append(bytes.Clone(plain), make([]byte, 20*512)...)),
	} {
		o := proofOptions()
		o.Strip = true
		r := newRoom(t, o)
		if err := r.tar(t.Context(), archive); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Files() != 2 || r.Bytes() != 2_000_014 {
			t.Errorf("%s: %d files, %d bytes", name, r.Files(), r.Bytes())
		}
		r.holds(t)
	}
}

func TestDamagedTar(t *testing.T) {
	plain := archiveOf(t, info("end_time = now"), member{name: "s/big", content: strings.Repeat("0123456789", 20_000)})
	packed, squeezed := gzipped(plain), zstandard(plain)
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x55
		return b
	}
	for _, tt := range []struct {
		name    string
		archive []byte
		kind    error
		words   string
	}{
		{"empty", nil, sdk.ErrDamaged, "empty"},
		{"gzip of nothing", gzipped(nil), sdk.ErrDamaged, "cut"},
		{"no tar", []byte(strings.Repeat("no tar at all ", 100)), sdk.ErrDamaged, "no tar"},
		{"half", packed[:len(packed)/2], sdk.ErrDamaged, "cut"},
		{"without size", packed[:len(packed)-4], sdk.ErrDamaged, "cut"},
		{"without trailer", packed[:len(packed)-8], sdk.ErrDamaged, "cut"},
		{"within the header", packed[:5], sdk.ErrDamaged, "cut"},
		{"bad checksum", flip(packed, len(packed)-7), sdk.ErrDamaged, "checksum"},
		{"bad byte", flip(packed, len(packed)/2), sdk.ErrDamaged, ""},
		{"garbage behind", append(bytes.Clone(packed), "garbage"...), sdk.ErrDamaged, "follows the compressed data"},
		{"zeros and garbage", append(append(bytes.Clone(packed), 0, 0), "garbage"...), sdk.ErrDamaged, "follows the compressed data"},
		{"zstd half", squeezed[:len(squeezed)/2], sdk.ErrDamaged, ""},
		{"zstd without checksum", squeezed[:len(squeezed)-4], sdk.ErrDamaged, "cut"},
		{"zstd bad checksum", flip(squeezed, len(squeezed)-1), sdk.ErrDamaged, ""},
		{"zstd garbage", append(bytes.Clone(squeezed), "garbage"...), sdk.ErrDamaged, ""},
		{"cut between members", gzipped(plain[:1024]), sdk.ErrDamaged, "no end mark"},
		{"one end block", gzipped(plain[:len(plain)-512]), sdk.ErrDamaged, "no end mark"},
		{"cut within content", gzipped(plain[:4096]), sdk.ErrDamaged, "cut"},
		{"cut within a header", gzipped(plain[:1300]), sdk.ErrDamaged, "cut"},
		{"two archives", gzipped(append(bytes.Clone(plain), plain...)), sdk.ErrDamaged, "follows the archive's end"},
		{"xz", []byte("\xfd7zXZ\x00 and so on"), sdk.ErrUnsupported, "xz"},
		{"no proof", archiveOf(t, member{name: "s/other", content: "x"}), sdk.ErrDamaged, "no xtrabackup_info"},
		{"proof without its line", archiveOf(t, info("start_time = now")), sdk.ErrDamaged, "end_time"},
		{"proof below", archiveOf(t, member{name: "s/d/xtrabackup_info", content: "end_time = now"}), sdk.ErrDamaged, "no xtrabackup_info"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := proofOptions()
			o.Strip = true
			r := newRoom(t, o)
			kindIs(t, r.tar(t.Context(), tt.archive), tt.kind, tt.words)
			r.confined(t)
		})
	}
}

func TestHostileTar(t *testing.T) {
	dir := member{name: "s/d", kind: tar.TypeDir}
	for _, tt := range []struct {
		name    string
		members []member
		words   string
	}{
		{"upwards", []member{{name: "s/../../x", content: "x"}}, ".."},
		{"absolute", []member{{name: "/tmp/x", content: "x"}}, "absolute"},
		{"link out", []member{{name: "s/l", link: "/etc", kind: tar.TypeSymlink}}, "absolute"},
		{"link up", []member{{name: "s/d/l", link: "../../x", kind: tar.TypeSymlink}}, "out of the directory"},
		{"through a link", []member{dir, {name: "s/l", link: "d", kind: tar.TypeSymlink}, {name: "s/l/x", content: "x"}}, "through a link"},
		{"onto a link", []member{{name: "s/l", link: "x", kind: tar.TypeSymlink}, {name: "s/l", content: "x"}}, "twice"},
		{"dir onto a link", []member{dir, {name: "s/l", link: "d", kind: tar.TypeSymlink}, {name: "s/l", kind: tar.TypeDir}}, "twice"},
		{"hard link out", []member{{name: "s/h", link: "../../etc/passwd", kind: tar.TypeLink}}, ".."},
		{"hard link absolute", []member{{name: "s/h", link: "/etc/passwd", kind: tar.TypeLink}}, "absolute"},
		{"hard link to later", []member{{name: "s/h", link: "s/x", kind: tar.TypeLink}, {name: "s/x", content: "x"}}, "held before"},
		{"hard link to a link", []member{{name: "s/l", link: "x", kind: tar.TypeSymlink}, {name: "s/h", link: "s/l", kind: tar.TypeLink}}, "held before"},
		{"through a file", []member{{name: "s/f", content: "x"}, {name: "s/f/x", content: "x"}}, "through a file"},
		{"twice", []member{{name: "s/f", content: "x"}, {name: "s/f", content: "y"}}, "twice"},
		{"device", []member{{name: "s/mem", kind: tar.TypeChar}}, "device"},
		{"our name", []member{{name: "s/.transferpy-x/y"}}, ""},
		{"flat", []member{{name: "x", content: "x"}}, "single directory"},
		{"two tops", []member{{name: "s/x", content: "x"}, {name: "t/x", content: "x"}}, "single directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoom(t, Options{Strip: true})
			err := r.tar(t.Context(), archiveOf(t, tt.members...))
			if tt.words == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			kindIs(t, err, sdk.ErrUnsupported, tt.words)
			r.confined(t)
		})
	}
}

func TestLinksThatAreAllowed(t *testing.T) {
	archive := archiveOf(t, member{name: "s/l", link: "/etc/passwd", kind: tar.TypeSymlink})
	r := newRoom(t, Options{Strip: true, OutsideLinks: true})
	if err := r.tar(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(filepath.Join(r.dir, "l")); err != nil || to != "/etc/passwd" {
		t.Errorf("%q, %v", to, err)
	}
}

func TestNothingStripped(t *testing.T) {
	archive := archiveOf(t, member{name: "./", kind: tar.TypeDir}, member{name: "./f", content: "x"}, member{name: "d/e/f", content: "y"})
	r := newRoom(t, Options{})
	if err := r.tar(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"f": 0o644, "d/e/f": 0o644, "d": 0o755 | os.ModeDir, "d/e": 0o755 | os.ModeDir} {
		if st, err := os.Stat(filepath.Join(r.dir, name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}

// bomb is an archive of few bytes that claims a sparse file of size bytes.
func bomb(t testing.TB, size int64) []byte {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "f"))
	if err == nil {
		err = f.Truncate(size)
		f.Close()
	}
	if err != nil {
		t.Skipf("no file of %d bytes can be made here: %v", size, err)
	}
	return run(t, dir, "tar", "--sparse", "-cf", "-", "./f")
}

func TestBombs(t *testing.T) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "s/f", Mode: 0o644, Size: 1 << 52}); err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string][]byte{"claims": out.Bytes(), "sparse": bomb(t, 1<<50)} {
		r := newRoom(t, Options{})
		err := r.tar(t.Context(), archive)
		kindIs(t, err, sdk.ErrNoSpace, "there is room for")
		if r.Bytes() != 0 {
			t.Errorf("%s: %d bytes were written before it was refused", name, r.Bytes())
		}
	}
}

func TestTarXattrs(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "s/f"), "x")
	if err := unix.Setxattr(filepath.Join(dir, "s/f"), "user.note", []byte("a\x00b"), 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	archive := run(t, dir, "tar", "--xattrs", "-cf", "-", "s")
	r := newRoom(t, Options{Strip: true})
	if err := r.tar(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := unix.Getxattr(filepath.Join(r.dir, "f"), "user.note", b); err != nil || string(b[:n]) != "a\x00b" {
		t.Errorf("%q, %v", b, err)
	}
}

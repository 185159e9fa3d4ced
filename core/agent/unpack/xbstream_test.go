package unpack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// appendChunk is the mirror of readChunk.
func appendChunk(b []byte, c chunk) []byte {
	b = append(b, xbMagic...)
	b = append(b, c.flags, c.kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.path)))
	b = append(b, c.path...)
	if c.kind == xbEnd {
		return b
	}
	b = binary.LittleEndian.AppendUint64(b, c.length)
	b = binary.LittleEndian.AppendUint64(b, c.offset)
	return binary.LittleEndian.AppendUint32(b, c.sum)
}

// payload is a chunk with its content, end one without.
func payload(path, content string, offset int, flags byte) []byte {
	c := chunk{flags: flags, kind: xbPayload, path: path, length: uint64(len(content)), offset: uint64(offset), sum: crc32.ChecksumIEEE([]byte(content))}
	return append(appendChunk(nil, c), content...)
}

func end(path string, flags byte) []byte {
	return appendChunk(nil, chunk{flags: flags, kind: xbEnd, path: path})
}

const infoText = "start_time = 2026-11-23 06:51:59\nend_time = 2026-11-23 06:52:00\n"

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// infoFile is the file that ends a backup.
func infoFile(name string) []byte { return join(payload(name, infoText, 0, 0), end(name, 0)) }

// backup is a small stream as mariadb-backup makes it: two files at once, one
// of several chunks, an empty one, and the info file last.
func backup() []byte {
	return join(
		payload("d1/t1.ibd", strings.Repeat("a", 50), 0, 0), payload("d2/t.ibd", "bbb", 0, 0),
		payload("d1/t1.ibd", "cc", 50, 0), end("d1/t1.ibd", 0), end("d1/empty.CSV", 0), end("d2/t.ibd", 0),
		infoFile("xtrabackup_info"))
}

func TestXbstream(t *testing.T) {
	for _, name := range []string{"xtrabackup_info", "mariadb_backup_info"} {
		r := newRoom(t, proofOptions())
		stream := backup()
		if name != "xtrabackup_info" {
			stream = join(payload("x", "y", 0, 0), end("x", 0), infoFile(name))
		}
		if err := r.xbstream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
		r.holds(t)
		r.confined(t)
	}
}

func TestXbstreamRewrite(t *testing.T) {
	r := newRoom(t, proofOptions())
	stream := join(payload("d/t", "old and long", 0, 0), end("d/t", 0), payload("d/t", "new", 0, xbRewrite), end("d/t", xbRewrite), infoFile("xtrabackup_info"))
	if err := r.xbstream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(r.dir, "d/t")); string(b) != "new" || r.Files() != 2 {
		t.Errorf("%q, %v, %d files", b, err, r.Files())
	}
	r.holds(t)
}

func TestDamagedXbstream(t *testing.T) {
	whole := backup()
	for cutAt := range len(whole) {
		r := newRoom(t, proofOptions())
		if err := r.xbstream(t.Context(), whole[:cutAt]); err == nil {
			t.Fatalf("cut at %d of %d and nobody noticed", cutAt, len(whole))
		} else {
			kindIs(t, err, sdk.ErrDamaged)
		}
		r.Close()
		os.RemoveAll(r.around)
	}
	many := []byte(nil)
	for i := range maxXbFiles + 1 {
		many = append(many, payload(fmt.Sprint("f", i), "x", 0, 0)...)
	}
	bad := bytes.Clone(whole)
	bad[60] ^= 1
	for _, tt := range []struct {
		name   string
		stream []byte
		kind   error
		words  string
	}{
		{"flipped", bad, sdk.ErrDamaged, "checksum"},
		{"zeros behind", join(whole, make([]byte, 14)), sdk.ErrDamaged, "no xbstream"},
		{"garbage behind", join(whole, []byte("garbage")), sdk.ErrDamaged, "cut"},
		{"something after the info", join(whole, end("more", 0)), sdk.ErrDamaged, "last chunk"},
		{"a gap", join(payload("f", "x", 5, 0)), sdk.ErrDamaged, "offset 5"},
		{"again", join(end("f", 0), end("f", 0)), sdk.ErrUnsupported, "twice"},
		{"upwards", join(end("../f", 0)), sdk.ErrUnsupported, ".."},
		{"upwards within", join(end("d/../../f", 0)), sdk.ErrUnsupported, ".."},
		{"absolute", join(end("/f", 0)), sdk.ErrUnsupported, "absolute"},
		{"itself", join(end("./", 0)), sdk.ErrUnsupported, "no name"},
		{"a file as directory", join(end("f", 0), end("f/g", 0)), sdk.ErrUnsupported, "through a file"},
		{"a type", appendChunk(nil, chunk{kind: 'S', path: "f"}), sdk.ErrUnsupported, "not known"},
		{"no name", appendChunk(nil, chunk{kind: xbEnd}), sdk.ErrDamaged, "0 bytes"},
		{"a long name", appendChunk(nil, chunk{kind: xbEnd, path: strings.Repeat("x", 5000)}), sdk.ErrDamaged, "5000"},
		{"a claim", appendChunk(nil, chunk{kind: xbPayload, path: "f", length: 1 << 63}), sdk.ErrDamaged, "claims"},
		{"overflow", appendChunk(nil, chunk{kind: xbPayload, path: "f", length: 1 << 62, offset: 1<<63 - 1}), sdk.ErrDamaged, "claims"},
		{"too many at once", many, sdk.ErrDamaged, "at once"},
		{"not to its end", join(payload("xtrabackup_info", "start_time = 1\n", 0, 0), end("xtrabackup_info", 0)), sdk.ErrDamaged, "end_time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoom(t, proofOptions())
			kindIs(t, r.xbstream(t.Context(), tt.stream), tt.kind, tt.words)
			r.confined(t)
		})
	}
}

// TestAsMbstream unpacks what the real mbstream packs as it does itself, and
// has it unpack what this package's test writes.
func TestAsMbstream(t *testing.T) {
	src := t.TempDir()
	write(t, filepath.Join(src, "ibdata1"), strings.Repeat("page", 7<<20)) // more than one chunk
	write(t, filepath.Join(src, "d1/t 1.ibd"), "x")
	write(t, filepath.Join(src, "d1/empty"), "")
	write(t, filepath.Join(src, "xtrabackup_info"), infoText)
	stream := run(t, src, "mbstream", "-p", "1", "-c", "ibdata1", "d1/t 1.ibd", "d1/empty", "xtrabackup_info")
	for name, stream := range map[string][]byte{"theirs": stream, "ours": backup()} {
		theirs := t.TempDir()
		cmd := exec.Command("mbstream", "-x", "-C", theirs)
		cmd.Stdin = bytes.NewReader(stream)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s: mbstream: %v\n%s", name, err, out)
		}
		r := newRoom(t, proofOptions())
		if err := r.xbstream(t.Context(), stream); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		run(t, theirs, "diff", "-r", theirs, r.dir)
		modes := []string{".", "-mindepth", "1", "-printf", "%p %y %m %U %G\n"}
		if got, want := sorted(string(run(t, r.dir, "find", modes...))), sorted(string(run(t, theirs, "find", modes...))); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		r.holds(t)
	}
}

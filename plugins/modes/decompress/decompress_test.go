package decompress

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// site makes archives of one directory, and directories of targets.
func site(t *testing.T) (dir string, to func(source, target string) sdk.Transfer) {
	t.Helper()
	dir = t.TempDir()
	for _, d := range []string{"snap", "empty", "taken/x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plain := filepath.Join(dir, "s.tar")
	if out, err := exec.Command("tar", "-C", dir, "-cf", plain, "snap").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(content)
	_ = w.Close()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"s.tar.gz": z.Bytes(), "s o'u\nr\xff": enc.EncodeAll(content, nil), "s.xz": []byte("\xfd7zXZ\x00..."), "text": bytes.Repeat([]byte("text"), 500), "nothing": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, func(source, target string) sdk.Transfer {
		return sdk.Transfer{ID: "t-1", Source: sdk.Endpoint{Host: "db1", Path: sdk.Raw(filepath.Join(dir, source))},
			Targets: []sdk.Endpoint{{Host: "db2", Path: sdk.Raw(filepath.Join(dir, target))}}}
	}
}

func TestConformance(t *testing.T) {
	_, to := site(t)
	plugintest.Mode(t, New(), plugintest.ModeCase{
		Transfer: to("s o'u\nr\xff", "empty"),
		Refused: []sdk.Transfer{to("missing", "empty"), to("s.tar.gz", "taken"), to("s.tar.gz", "missing"), to("s.xz", "empty"),
			to("text", "empty"), to("nothing", "empty"), to("snap", "empty")},
	})
}

func TestPlan(t *testing.T) {
	dir, to := site(t)
	for _, tt := range []struct {
		source, format string
		atLeast        bool
		bytes          int64 // -1: as it lies there
	}{{"s.tar", "tar", false, 10240}, {"s.tar.gz", "gzip", true, -1}, {"s o'u\nr\xff", "zstd", true, 10240}} {
		m := New()
		values := sdk.Values{"require_info": {"true"}, "strip": {"true"}}
		if d, err := m.Configure(t.Context(), values); len(d) > 0 || err != nil {
			t.Fatal(d, err)
		}
		tr := to(tt.source, "empty")
		questions, err := m.Questions(t.Context(), tr)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, tt.source))
		if err != nil {
			t.Fatal(err)
		}
		if tt.bytes < 0 {
			tt.bytes = info.Size()
		}
		found, err := m.Inspect(t.Context(), tr, plugintest.Answer(t.Context(), questions), nil)
		if err != nil || len(found.Refusals) > 0 || found.Bytes != tt.bytes || found.AtLeast != tt.atLeast || found.Facts["format"] != tt.format {
			t.Fatalf("%s: %+v, %v", tt.source, found, err)
		}
		plan, err := m.Plan(t.Context(), tr, found)
		how := plan.Write.Unpack
		if err != nil || plan.Bytes != info.Size() || plan.Compressed != (tt.format != "tar") || !plan.Targets[0].MustEmpty ||
			!how.Strip || how.OutsideLinks || len(how.Proof) != 2 {
			t.Errorf("%s: %+v, %+v, %v", tt.source, plan, how, err)
		}
	}
}

func TestLookRefuses(t *testing.T) {
	for output, words := range map[string]string{
		"zz\n": "looked at", "1": "looked at", "": "empty",
		"fd 37 7a 58 5a 00\n": "xz", "00 01 02\n": "no archive",
	} {
		if _, err := look(output, 10); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v", output, err)
		}
	}
}

func FuzzLook(f *testing.F) {
	f.Add("28 b5 2f fd 24 00 01 02 03 04 05 06 07 08 09 0a 0b 0c\n", int64(20))
	f.Add("1f 8b\n", int64(20))
	f.Fuzz(func(t *testing.T, output string, size int64) {
		a, err := look(output, size)
		if err == nil && (a.format == "" || a.bytes < size && size > 0) {
			t.Errorf("%q of %d bytes: %+v", output, size, a)
		}
	})
}

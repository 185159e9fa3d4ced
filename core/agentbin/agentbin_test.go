package agentbin

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/transferpy/transferpy/sdk"
)

func TestRead(t *testing.T) {
	binary := bytes.Repeat([]byte("agent"), 1000)
	packed, err := pack(binary)
	if err != nil {
		t.Fatal(err)
	}
	index := func(s string) fstest.MapFS {
		return fstest.MapFS{
			"files/index.json":     {Data: []byte(s)},
			"files/linux-arm64.gz": {Data: packed},
		}
	}
	all, err := read(index(`{"arm64":"` + digest(binary) + `"}`))
	if err != nil || len(all) != 1 || all[0].Arch != "arm64" {
		t.Fatalf("%+v, %v", all, err)
	}
	if got, err := all[0].Binary(); err != nil || !bytes.Equal(got, binary) {
		t.Errorf("binary: %d bytes, %v", len(got), err)
	}
	if all, err := read(fstest.MapFS{}); err != nil || all != nil {
		t.Errorf("without an index: %v, %v", all, err)
	}
	wrong, err := read(index(`{"arm64":"` + digest([]byte("other")) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong[0].Binary(); err == nil {
		t.Error("a binary that is not what the index says was taken")
	}
	for _, bad := range []string{`{"arm64":"abc"}`, `{"../x":"` + digest(binary) + `"}`, `[]`} {
		if _, err := read(index(bad)); err == nil {
			t.Errorf("index %s was taken", bad)
		}
	}
}

func TestBeside(t *testing.T) {
	dir := t.TempDir()
	if _, err := Beside(filepath.Join(dir, "transferpy")); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("nothing beside: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "transferpy-agent"), []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	a, err := Beside(filepath.Join(dir, "transferpy"))
	if err != nil || a.Digest != digest([]byte("x")) {
		t.Fatalf("%+v, %v", a, err)
	}
	if got, err := a.Binary(); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

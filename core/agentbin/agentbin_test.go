package agentbin

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/transferpy/transferpy/sdk"
)

// unpack does what a host does with what it is sent.
func unpack(a Agent) ([]byte, error) {
	packed, err := a.Packed()
	if err != nil {
		return nil, err
	}
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

func TestRead(t *testing.T) {
	binary := bytes.Repeat([]byte("agent"), 1000)
	packed, err := Pack(binary, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	index := func(s string) fstest.MapFS {
		return fstest.MapFS{
			"files/index.json":     {Data: []byte(s)},
			"files/linux-arm64.gz": {Data: packed},
		}
	}
	all, err := read(index(`{"arm64":"` + Digest(binary) + `"}`))
	if err != nil || len(all) != 1 || all[0].Arch != "arm64" {
		t.Fatalf("%+v, %v", all, err)
	}
	if got, err := unpack(all[0]); err != nil || !bytes.Equal(got, binary) {
		t.Errorf("binary: %d bytes, %v", len(got), err)
	}
	if all, err := read(fstest.MapFS{}); err != nil || all != nil {
		t.Errorf("without an index: %v, %v", all, err)
	}
	for _, bad := range []string{`{"arm64":"abc"}`, `{"../x":"` + Digest(binary) + `"}`, `[]`} {
		if _, err := read(index(bad)); err == nil {
			t.Errorf("index %s was taken", bad)
		}
	}
}

// TestNoDebugInformation: it doubles what is sent to a host that has no agent
// yet, in up to a hundred pieces where an executor carries little. Profiles do
// without.
func TestNoDebugInformation(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Skip("no agents are built in: make build")
	}
	for _, a := range all {
		binary, err := unpack(a)
		if err != nil {
			t.Fatal(err)
		}
		file, err := elf.NewFile(bytes.NewReader(binary))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range file.Sections {
			if s.Name == ".symtab" || strings.HasPrefix(s.Name, ".debug") {
				t.Errorf("the agent for %s has a section %s: build it with -ldflags '-s -w'", a.Arch, s.Name)
			}
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
	if err != nil || a.Digest != Digest([]byte("x")) {
		t.Fatalf("%+v, %v", a, err)
	}
	if got, err := unpack(a); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

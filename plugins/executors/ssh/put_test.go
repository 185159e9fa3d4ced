package ssh

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

func putOne(t *testing.T, ctx context.Context, e sdk.Executor, f sdk.File) *sdk.Error {
	t.Helper()
	var results []sdk.Result
	if err := e.(sdk.Putter).Put(ctx, []string{"db1"}, f, func(r sdk.Result) { results = append(results, r) }); err != nil {
		return sdk.AsError(err)
	}
	if len(results) != 1 || results[0].Host != "db1" {
		t.Fatalf("results %+v", results)
	}
	return results[0].Err
}

func TestPut(t *testing.T) {
	e, dir := startSSHD(t).executor(t), t.TempDir()
	big := bytes.Repeat([]byte("\x00\xff\r\n"), 6<<18) // 6 MiB
	for name, f := range map[string]sdk.File{
		"a'b\n\xff": {Mode: 0o751, Content: []byte("a\x00b")},
		"-empty":    {Mode: 0o400},
		"big":       {Mode: 0o600, Content: big},
	} {
		path := filepath.Join(dir, name)
		f.Path = sdk.Raw(path)
		start := time.Now()
		if err := putOne(t, t.Context(), e, f); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		t.Logf("%d bytes: %v", len(f.Content), time.Since(start).Round(time.Millisecond))
		info, err := os.Stat(path)
		content, _ := os.ReadFile(path)
		if err != nil || uint32(info.Mode()) != f.Mode || !bytes.Equal(content, f.Content) {
			t.Errorf("%q: %v, mode %v, %d bytes", name, err, info.Mode(), len(content))
		}
	}
}

func TestPutRefuses(t *testing.T) {
	e, dir := startSSHD(t).executor(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "elsewhere", "null": "/dev/null"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]*sdk.Error{
		at("file"):      sdk.ErrExists,
		at("link"):      sdk.ErrExists,
		at("null"):      sdk.ErrExists,
		dir:             sdk.ErrExists,
		at("no/such"):   sdk.ErrNotFound,
		at("file/such"): sdk.ErrNotFound,
		"relative":      sdk.ErrConfig,
	} {
		err := putOne(t, t.Context(), e, sdk.File{Path: sdk.Raw(path), Mode: 0o600, Content: []byte("new")})
		if !errors.Is(err, want) {
			t.Errorf("%s: got %+v, want kind %s", path, err, want.Kind)
		}
	}
	if content, _ := os.ReadFile(at("file")); string(content) != "old" {
		t.Errorf("overwritten with %q", content)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestPutLeavesNothingBehind(t *testing.T) {
	// 1 MiB into a tmpfs of 64 KiB; only root can make one.
	if os.Getuid() == 0 {
		full := t.TempDir()
		if mount(full) == nil {
			defer unmount(full)
			e := startSSHD(t).executor(t)
			err := putOne(t, t.Context(), e, sdk.File{Path: sdk.Raw(full + "/big"), Mode: 0o600, Content: make([]byte, 1<<20)})
			if !errors.Is(err, sdk.ErrNoSpace) {
				t.Errorf("full disk: got %+v, want KindNoSpace", err)
			}
			if entries, _ := os.ReadDir(full); len(entries) != 0 {
				t.Errorf("left behind: %v", entries)
			}
		}
	}
	// A call that ends after the file was written and before it was counted,
	// as the wc of this host never ends.
	dir, bin := t.TempDir(), t.TempDir()
	if err := os.WriteFile(bin+"/wc", []byte("#!/bin/sh\nexec sleep 64.5\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	e := startSSHD(t, "SetEnv PATH="+bin+":/usr/bin:/bin").executor(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := putOne(t, ctx, e, sdk.File{Path: sdk.Raw(dir + "/cut"), Mode: 0o600, Content: []byte("x")})
	if !errors.Is(err, sdk.ErrCancelled) {
		t.Errorf("got %+v, want KindCancelled", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

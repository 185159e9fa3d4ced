package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/core/agent/unpack"
	"github.com/transferpy/transferpy/sdk"
)

// TestUnpackedIsReadBack: what the disk has made of an unpacked file is found,
// and only that.
func TestUnpackedIsReadBack(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, size := range map[string]int64{"small": 10, "large": 3<<20 + 5, "empty": 0} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, alter := range []struct {
		name string
		do   func(path string) error
	}{
		{"", nil},
		{"large", func(path string) error { return overwrite(path, 2<<20+7) }},
		{"small", func(path string) error { return overwrite(path, 9) }},
		{"large", func(path string) error { return os.Truncate(path, 3<<20) }},
	} {
		dir := t.TempDir()
		d, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		u, err := unpack.New(d, t.TempDir(), unpack.Options{Digests: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Tar(t.Context(), io.NopCloser(bytes.NewReader(b.Bytes()))); err != nil {
			t.Fatal(err)
		}
		if alter.do != nil {
			if err := alter.do(filepath.Join(dir, alter.name)); err != nil {
				t.Fatal(err)
			}
		}
		a := &archive{t: &target{meter: newMeter("target-1", func() {})}, u: u}
		err = a.readBack(t.Context())
		if alter.do == nil && (err != nil || a.t.meter.checked.Load() != 3<<20+15) {
			t.Errorf("what was not altered: %v, %d bytes", err, a.t.meter.checked.Load())
		} else if alter.do != nil && !errors.Is(err, sdk.ErrIntegrity) {
			t.Errorf("%s was altered: %v", alter.name, err)
		}
		u.Close()
		d.Close()
	}
}

func overwrite(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{1}, at)
	return err
}

// TestQueue: all that is written is read in its order, and neither side waits
// for one that has gone.
func TestQueue(t *testing.T) {
	q := newQueue(t.Context())
	var want []byte
	for i := range 100 {
		want = append(want, bytes.Repeat([]byte{byte(i)}, 1000*i)...)
	}
	written := make(chan error, 1)
	go func() {
		in := &archiveInput{queue: q}
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{bytes.NewReader(want)}, make([]byte, 10_000))
		in.Close()
		in.Close()
		written <- err
	}()
	got, err := io.ReadAll(q)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}

	closed := newQueue(t.Context())
	closed.Close()
	if _, err := closed.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed queue is read: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped, why := newQueue(ctx), errors.New("why")
	for range queuePieces {
		if _, err := stopped.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	cancel(why)
	if _, err := stopped.Write([]byte("x")); !errors.Is(err, why) {
		t.Errorf("a full queue that was stopped: %v", err)
	}
}

package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/pagecache"
)

// forgotten makes a file of n bytes of which nothing is cached; the test is
// skipped where no file system can forget.
func forgotten(t *testing.T, n int) *os.File {
	t.Helper()
	for _, dir := range []string{t.TempDir(), "/var/tmp"} {
		f, err := os.CreateTemp(dir, "content-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { f.Close(); os.Remove(f.Name()) })
		if _, err := f.Write(bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		pagecache.Drop(f, []pagecache.Range{{}})
		if cold := pagecache.Cold(f, 0, int64(n)); len(cold) == 1 && cold[0].Len == int64(n) {
			return f
		}
	}
	t.Skip("no file system whose cache can be dropped and asked, in the temporary directory or /var/tmp")
	return nil
}

// cachedPages counts the pages of f that are cached.
func cachedPages(t *testing.T, f *os.File) int64 {
	t.Helper()
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0); err != nil {
		t.Skipf("this kernel does not count cached pages: %v", err)
	}
	return int64(stat.Cache)
}

// TestReadingSparesTheCache: what was not cached before is not cached
// afterwards, and what was, is.
func TestReadingSparesTheCache(t *testing.T) {
	const size = 4*digest.PieceSize + 12345
	page := int64(os.Getpagesize())
	for _, hot := range [][]int64{nil, {0, 5, 300, 301}, {size / page}} {
		f := forgotten(t, size)
		pagecache.OwnReadahead(f)
		b := make([]byte, digest.PieceSize)
		for _, p := range hot {
			if _, err := f.ReadAt(b[:1], p*page); err != nil {
				t.Fatal(err)
			}
		}
		r := newContentReader(0)
		for off := int64(0); off < size; off += digest.PieceSize {
			n := min(size-off, digest.PieceSize)
			if err := r.at(t.Context(), f, 1, "f", b[:n], off); err != nil {
				t.Fatal(err)
			}
			if want := bytes.Repeat([]byte("0123456789abcdef"), digest.PieceSize/16)[:n]; !bytes.Equal(b[:n], want) {
				t.Fatal("not what is in the file")
			}
		}
		if got := cachedPages(t, f); got != int64(len(hot)) {
			t.Errorf("%d pages are cached, %d were before", got, len(hot))
		}
		for _, p := range hot {
			if cold := pagecache.Cold(f, p*page, 1); cold != nil {
				t.Errorf("page %d was cached and is not any more", p)
			}
		}
	}
}

// TestStreamSparesTheCache is the same for a file that is read as a stream,
// which may leave all behind only if none of it was cached before.
func TestStreamSparesTheCache(t *testing.T) {
	const size = 3*dropStep + 4567
	for _, hot := range []bool{false, true} {
		f := forgotten(t, size)
		if hot {
			if _, err := f.ReadAt(make([]byte, 1), 2*dropStep); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := io.Copy(io.Discard, io.MultiReader(sparedFile(f, size))); err != nil || n != size {
			t.Fatal(n, err)
		}
		if got := cachedPages(t, f); (got > 0) != hot {
			t.Errorf("%d pages are cached; some were before: %v", got, hot)
		}
	}
}

func TestFilesInMemoryAreKnown(t *testing.T) {
	r := newContentReader(0)
	for dir, want := range map[string]bool{"/dev/shm": true, "/proc": false} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || want != (st.Type == unix.TMPFS_MAGIC) {
			t.Logf("%s is not as it usually is: %v", dir, err)
			continue
		}
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for range 2 {
			if got := r.memory(f, st.Files); got != want {
				t.Errorf("%s is in memory: %v", dir, got)
			}
		}
	}
}

// TestLimitOfReading: files and streams keep to one rate together, from the
// first byte on, and end with their context.
func TestLimitOfReading(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const rate = 8 << 20
	r, began := newContentReader(rate), time.Now()
	for range 2 {
		if err := r.at(t.Context(), f, 1, "f", make([]byte, 1<<20), 0); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r.stream(t.Context(), io.NewSectionReader(f, 0, 1<<20))); n != 1<<20 || err != nil {
			t.Fatal(n, err)
		}
	}
	if took := time.Since(began); took < 490*time.Millisecond {
		t.Errorf("4 MiB took %v at 8 MiB a second", took)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := r.at(stopped, f, 1, "f", make([]byte, 1<<20), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a stopped read: %v", err)
	}
	if _, err := io.ReadAll(r.stream(stopped, f)); !errors.Is(err, context.Canceled) {
		t.Errorf("a stopped stream: %v", err)
	}
}

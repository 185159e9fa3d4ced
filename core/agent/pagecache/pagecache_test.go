package pagecache

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// onDisk makes a file of n bytes of which nothing is cached, on a file system
// that can forget; the test is skipped where there is none.
func onDisk(t testing.TB, n int) *os.File {
	t.Helper()
	for _, dir := range []string{os.TempDir(), "/var/tmp"} {
		f, err := os.CreateTemp(dir, "pagecache-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { f.Close(); os.Remove(f.Name()) })
		if _, err := f.Write(bytes.Repeat([]byte("x"), n)); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		Drop(f, []Range{{0, 0}})
		OwnReadahead(f)
		if cold := Cold(f, 0, int64(n)); len(cold) == 1 && cold[0].Len == int64(n) {
			return f
		}
	}
	t.Skip("no file system whose cache can be dropped and asked, in the temporary directory or /var/tmp")
	return nil
}

func read(t testing.TB, f *os.File, off, n int64) {
	t.Helper()
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, off, n)); err != nil {
		t.Fatal(err)
	}
}

// TestColdAndDrop holds both ways of asking: cachestat, and mincore as on
// kernels before 6.5.
func TestColdAndDrop(t *testing.T) {
	page := pageSize
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprint("without cachestat ", old), func(t *testing.T) {
			size := 64*page + 100
			f := onDisk(t, int(size))
			noCachestat.Store(old)
			defer noCachestat.Store(false)
			is := func(when string, want ...Range) {
				t.Helper()
				if diff := cmp.Diff(want, Cold(f, 0, size)); diff != "" {
					t.Errorf("%s: %s", when, diff)
				}
			}
			is("nothing was read", Range{0, size})
			read(t, f, 4*page, 2*page)
			read(t, f, 10*page, 1)
			is("three pages were read", Range{0, 4 * page}, Range{6 * page, 4 * page}, Range{11 * page, size - 11*page})
			cold := Cold(f, 0, size)
			read(t, f, 0, size)
			is("all was read")
			if got := Cold(f, 0, 32*page); got != nil {
				t.Errorf("what is cached, and large, is told as %v", got)
			}
			Drop(f, cold)
			is("what was not cached before was dropped", cold...)
			if got := Cold(f, 4*page, 2*page); got != nil {
				t.Errorf("what is cached is told as %v", got)
			}
		})
	}
}

func TestNothingIsDroppedInMemory(t *testing.T) {
	fd, err := unix.MemfdCreate("memory", 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memory")
	defer f.Close()
	content := bytes.Repeat([]byte("y"), 1<<20)
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if got := Cold(f, 0, 1<<20); got != nil {
		t.Errorf("a file in memory is told as not cached: %v", got)
	}
}

func TestWhatCannotBeAsked(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	dir, err := os.Open(filepath.Dir(os.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, f := range []*os.File{r, dir} {
		for _, old := range []bool{false, true} {
			noCachestat.Store(old)
			if got := Cold(f, 0, 1<<20); len(got) > 1 { // one that holds nothing may be told as a whole
				t.Errorf("%s: %v", f.Name(), got)
			}
		}
	}
	noCachestat.Store(false)
}

func BenchmarkCold(b *testing.B) {
	f := onDisk(b, 16<<20)
	for _, state := range []string{"cold", "cached"} {
		if state == "cached" {
			read(b, f, 0, 16<<20)
		}
		for _, n := range []int64{8 << 10, 1 << 20} {
			b.Run(fmt.Sprint(state, "/", n), func(b *testing.B) {
				b.SetBytes(n)
				for i := range b.N {
					Cold(f, int64(i)%((16<<20)/n)*n, n)
				}
			})
		}
	}
	noCachestat.Store(true)
	b.Run("cached, old kernel", func(b *testing.B) {
		b.SetBytes(1 << 20)
		for b.Loop() {
			Cold(f, 0, 1<<20)
		}
	})
	noCachestat.Store(false)
	Drop(f, []Range{{0, 512 << 10}})
	half := Cold(f, 0, 1<<20)
	b.Run("half cached", func(b *testing.B) {
		b.SetBytes(1 << 20)
		for b.Loop() {
			half = Cold(f, 0, 1<<20)
		}
	})
	_ = half
	buf := make([]byte, 1<<20)
	b.Run("reading", func(b *testing.B) {
		b.SetBytes(1 << 20)
		for b.Loop() {
			f.ReadAt(buf, 4<<20)
		}
	})
}

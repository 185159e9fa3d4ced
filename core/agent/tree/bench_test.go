package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// BenchmarkSmallFiles is the cost of metadata: a tree of 100,000 files.
func BenchmarkSmallFiles(b *testing.B) {
	const dirs, files = 100, 1000
	top := filepath.Join(b.TempDir(), "top")
	for d := range dirs {
		check(b, os.MkdirAll(fmt.Sprintf("%s/d%d", top, d), 0o755))
		for f := range files {
			check(b, os.WriteFile(fmt.Sprintf("%s/d%d/f%d", top, d, f), nil, 0o644))
		}
	}
	for b.Loop() {
		src, err := OpenSource(sdk.Raw(top))
		check(b, err)
		spool, err := manifest.Create(b.TempDir(), manifest.Header{DigestRule: manifest.RuleNone})
		check(b, err)
		sink := newSink(b, b.TempDir(), SinkOptions{})
		phase := func(name string, err error, start time.Time) {
			check(b, err)
			b.ReportMetric(time.Since(start).Seconds(), name+"-s")
		}
		ctx, start := context.Background(), time.Now()
		phase("walk", walkInto(src, spool), start)
		start = time.Now()
		phase("create", spool.Each(ctx, func(_ uint64, e manifest.Entry, _ manifest.Digest) error { return sink.Create(&e) }), start)
		start = time.Now()
		phase("open", spool.Each(ctx, func(_ uint64, e manifest.Entry, _ manifest.Digest) error {
			if e.Type != sdk.FileRegular {
				return nil
			}
			r, _, err := src.Open(&e)
			if err != nil {
				return err
			}
			w, err := sink.OpenWrite(&e)
			if err != nil {
				return err
			}
			return errors.Join(r.Close(), w.Close())
		}), start)
		start = time.Now()
		phase("finish", sink.Finish(ctx, spool), start)
		start = time.Now()
		_, err = sink.Check(ctx, spool)
		phase("check", err, start)
		check(b, errors.Join(src.Close(), sink.Close(), spool.Close()))
	}
}

// BenchmarkMillion is the cost of 1,000,000 entries: in one directory, in
// 1,000 of them, and as 500,000 files whose second names all come after the
// first ones, which is the worst for what the walk remembers. It takes
// minutes, and reports the peak of the heap, which hardly grows with the
// number of entries but for those names.
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	for name, path := range map[string]func(top string, i int) (path, of string){
		"directory": func(top string, i int) (string, string) { return fmt.Sprintf("%s/f%d", top, i), "" },
		"tree":      func(top string, i int) (string, string) { return fmt.Sprintf("%s/d%d/f%d", top, i/1000, i), "" },
		"links": func(top string, i int) (string, string) {
			p := fmt.Sprintf("%s/d%d/f%d", top, i/1000, i)
			if i < million/2 {
				return p, ""
			}
			return p, fmt.Sprintf("%s/d%d/f%d", top, (i-million/2)/1000, i-million/2)
		},
	} {
		b.Run(name, func(b *testing.B) {
			top := b.TempDir() + "/top"
			check(b, os.Mkdir(top, 0o755))
			for i := range million {
				p, of := path(top, i)
				if i%1000 == 0 {
					check(b, os.MkdirAll(p[:strings.LastIndexByte(p, '/')], 0o755))
				}
				if of != "" {
					check(b, os.Link(of, p))
				} else {
					check(b, os.WriteFile(p, nil, 0o644))
				}
			}
			for b.Loop() {
				peak := heapPeak()
				done := copyTree(b, top, SinkOptions{})
				b.ReportMetric(float64(peak())/(1<<20), "heap-MiB")
				check(b, done.checkErr)
				if n := done.spool.Len(); n < million {
					b.Fatalf("%d entries", n)
				}
			}
		})
	}
}

// heapPeak watches the heap until the returned function tells its peak.
func heapPeak() func() uint64 {
	debug.FreeOSMemory()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		most := uint64(0)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse+m.StackInuse)
			select {
			case <-tick.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return func() uint64 { close(stop); return <-peak }
}

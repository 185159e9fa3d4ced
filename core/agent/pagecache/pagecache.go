// Package pagecache lets a host's page cache be as it was while its files are
// read: it tells which bytes of a file are not cached, and drops these once
// they were read. What somebody else had cached, a database's hot pages say,
// stays.
package pagecache

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Range is a range of a file's bytes.
type Range struct{ Off, Len int64 }

// OwnReadahead tells the kernel to read no more of f than is asked for, and in
// no other order: what Cold says is then not blurred by what the kernel has
// read ahead for us. Whoever reads large pieces from several goroutines loses
// nothing by it.
func OwnReadahead(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM) }

// Asking takes some 0.3 µs for each page that is cached, which for all pages of
// what is cached would cost as much as to read it. So of larger ranges a few
// pages are asked for first.
const (
	largeRange = 64 << 10
	samples    = 4
)

// Cold returns the ranges within [off, off+n) of f that are not cached now,
// in order. A larger range of which a few pages are all cached is taken for
// cached as a whole. There are none where the kernel does not tell, as it does
// to nobody who may not write f: nothing is dropped then. off is a multiple of
// the page size, and n at most MaxRange.
func Cold(f *os.File, off, n int64) []Range {
	if n <= 0 || n > MaxRange {
		return nil
	}
	if noCachestat.Load() {
		return coldByMincore(f, off, n)
	}
	if n > largeRange {
		hot := true
		for i := int64(0); i < samples && hot; i++ {
			at := i * n / samples
			hot = count(f, off+at-at%pageSize, pageSize) > 0
		}
		if hot {
			return nil
		}
	}
	switch cached := count(f, off, n); {
	case cached == 0:
		return []Range{{off, n}}
	case cached >= pages(n):
		return nil
	}
	return coldByMincore(f, off, n)
}

// Drop drops the ranges of f from the cache, but for pages that were changed
// or are mapped.
func Drop(f *os.File, ranges []Range) {
	for _, r := range ranges {
		_ = unix.Fadvise(int(f.Fd()), r.Off, r.Len, unix.FADV_DONTNEED)
	}
}

// MaxRange bounds the range that Cold is asked for, in bytes.
const MaxRange = 64 << 20

var pageSize = int64(os.Getpagesize())

func pages(n int64) int64 { return (n + pageSize - 1) / pageSize }

// noCachestat remembers a kernel before Linux 6.5, which has only mincore.
var noCachestat atomic.Bool

// count asks how many pages of the range are cached; all, if the kernel does
// not tell.
func count(f *os.File, off, n int64) int64 {
	var stat unix.Cachestat_t
	err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0)
	if err == nil {
		return int64(stat.Cache)
	}
	if errors.Is(err, unix.ENOSYS) {
		noCachestat.Store(true)
	}
	return pages(n)
}

// coldByMincore asks for each page of the range whether it is cached.
func coldByMincore(f *os.File, off, n int64) []Range {
	mapped, err := unix.Mmap(int(f.Fd()), off, int(n), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	defer unix.Munmap(mapped)
	cached := make([]byte, pages(n))
	if n > largeRange {
		hot := true
		for i := int64(0); i < samples && hot; i++ {
			at := i * int64(len(cached)) / samples
			hot = mincore(mapped[at*pageSize:], cached[at:at+1]) && cached[at]&1 != 0
		}
		if hot {
			return nil
		}
	}
	if !mincore(mapped, cached) {
		return nil
	}
	return gaps(cached, off, n)
}

// mincore sets the lowest bit of each byte of cached whose page, counted from
// the beginning of mapped, is cached. The mapping is asked about and never
// read: a file that is cut short meanwhile does no harm.
func mincore(mapped, cached []byte) bool {
	length := min(int64(len(cached))*pageSize, int64(len(mapped)))
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(length), uintptr(unsafe.Pointer(&cached[0])))
	return errno == 0
}

// gaps returns the runs of pages whose lowest bit is not set.
func gaps(cached []byte, off, n int64) []Range {
	var out []Range
	for i, c := range cached {
		if c&1 != 0 {
			continue
		}
		at := off + int64(i)*pageSize
		size := min(pageSize, off+n-at)
		if last := len(out) - 1; last >= 0 && out[last].Off+out[last].Len == at {
			out[last].Len += size
		} else {
			out = append(out, Range{at, size})
		}
	}
	return out
}

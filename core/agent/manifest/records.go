package manifest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Pages of a records file. 64 pages of 256 records are at most 1 MiB of
// memory a file and spare a system call for nearly every record, as both
// readers and writers work near one another.
const (
	pageRecords = 256
	maxPages    = 64
)

// records is a file of fixed-size records behind a small write-back cache.
// Records that were never set are zero. Safe for concurrent use.
type records struct {
	mu    sync.Mutex
	f     *os.File
	size  int // bytes of one record
	pages map[uint64]*page
	clock uint64 // grows with each use, to find the page least recently used
	last  *page  // most recently used: the common case needs no lookup
}

type page struct {
	n     uint64
	data  []byte
	dirty bool
	used  uint64
}

func newRecords(f *os.File, size int) *records {
	return &records{f: f, size: size, pages: make(map[uint64]*page)}
}

// get copies record n to dst, which has the size of a record.
func (r *records) get(n uint64, dst []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.page(n / pageRecords)
	if err != nil {
		return err
	}
	copy(dst, p.data[int(n%pageRecords)*r.size:])
	return nil
}

// set makes src record n.
func (r *records) set(n uint64, src []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.page(n / pageRecords)
	if err != nil {
		return err
	}
	copy(p.data[int(n%pageRecords)*r.size:][:r.size], src)
	p.dirty = true
	return nil
}

// page returns a page from the cache, or reads it; what lies beyond the end
// of the file is zero.
func (r *records) page(n uint64) (*page, error) {
	r.clock++
	if r.last != nil && r.last.n == n {
		r.last.used = r.clock
		return r.last, nil
	}
	p := r.pages[n]
	if p == nil {
		var err error
		if p, err = r.load(n); err != nil {
			return nil, err
		}
		r.pages[n] = p
	}
	p.used = r.clock
	r.last = p
	return p, nil
}

// load reads page n into a new page or into the one that gives way to it.
func (r *records) load(n uint64) (*page, error) {
	p := &page{}
	if len(r.pages) >= maxPages {
		for _, q := range r.pages {
			if p.data == nil || q.used < p.used {
				p = q
			}
		}
		if err := r.write(p); err != nil {
			return nil, err
		}
		delete(r.pages, p.n)
	}
	if p.data == nil {
		p.data = make([]byte, pageRecords*r.size)
	}
	p.n, p.dirty = n, false
	got, err := r.f.ReadAt(p.data, r.offset(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("manifest spool: %w", err)
	}
	clear(p.data[got:])
	return p, nil
}

func (r *records) offset(page uint64) int64 { return int64(page) * int64(pageRecords*r.size) }

func (r *records) write(p *page) error {
	if !p.dirty {
		return nil
	}
	if _, err := r.f.WriteAt(p.data, r.offset(p.n)); err != nil {
		return fmt.Errorf("manifest spool: %w", err)
	}
	p.dirty = false
	return nil
}

// flush writes all that is only in memory.
func (r *records) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pages {
		if err := r.write(p); err != nil {
			return err
		}
	}
	return nil
}

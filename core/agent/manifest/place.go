package manifest

import (
	"fmt"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// place is where in the tree the walk is: the directory whose descendants
// may follow. It is one path, whatever the size of the tree, so it holds the
// rule that parents come before children at no cost in memory.
type place struct {
	dir string // "" before the first entry and beside top-level files
}

// step moves to e, if e may follow: it is a top-level name, or its parent is
// the last directory or one above it.
func (p *place) step(e *Entry) error {
	path := string(e.Path)
	parent := ""
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent = path[:i]
	}
	if parent != "" && !within(p.dir, parent) {
		return fmt.Errorf("entry %s does not follow its directory", e.Path.Display())
	}
	p.dir = parent
	if e.Type == sdk.FileDirectory {
		p.dir = path
	}
	return nil
}

// within reports whether dir is parent or lies below it.
func within(dir, parent string) bool {
	return strings.HasPrefix(dir, parent) && (len(dir) == len(parent) || dir[len(parent)] == '/')
}

// findPlace finds the place of a spool that was opened, from its last entry.
func (s *Spool) findPlace() error {
	count := s.count.Load()
	if count == 0 {
		return nil
	}
	last, err := s.Entry(count - 1)
	if err != nil {
		return err
	}
	s.place = place{}
	if i := strings.LastIndexByte(string(last.Path), '/'); i >= 0 {
		s.place.dir = string(last.Path[:i])
	}
	return s.place.step(&last)
}

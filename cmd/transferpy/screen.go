package main

import (
	"bytes"
	"io"
	"sync"
)

// screen is standard error, which several write to: a verb, its log, the watch
// over signals. While live lines are shown, what is written goes above them.
// Safe for concurrent use.
type screen struct {
	mu     sync.Mutex
	w      io.Writer
	above  io.Writer // where whole lines go while live lines are shown; else nil
	broken []byte    // a line of which no end has come yet, for above
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.above == nil {
		return s.w.Write(p)
	}
	s.broken = append(s.broken, p...)
	end := bytes.LastIndexByte(s.broken, '\n') + 1
	if end == 0 && len(s.broken) < maxBroken {
		return len(p), nil
	}
	if end == 0 {
		s.broken = append(s.broken, '\n')
		end = len(s.broken)
	}
	if _, err := s.above.Write(s.broken[:end]); err != nil { // the live lines have ended by themselves
		if _, err := s.w.Write(s.broken[:end]); err != nil {
			return 0, err
		}
	}
	s.broken = append([]byte(nil), s.broken[end:]...)
	return len(p), nil
}

// maxBroken bounds a line that is held back.
const maxBroken = 64 << 10

// divert sends what is written to above from now on; nil ends that.
func (s *screen) divert(above io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.above = above
	if above == nil && len(s.broken) > 0 {
		s.w.Write(s.broken)
		s.broken = nil
	}
}

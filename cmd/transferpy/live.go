package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/transferpy/transferpy/core/progress"
)

// live shows a line a target on a terminal and draws them anew as time goes
// by. mpb does the drawing: it moves the cursor, puts what is written
// meanwhile above, and its goroutines end with stop. What the lines say is
// board's. update and stop are for one goroutine.
type live struct {
	screen *screen
	bars   *mpb.Progress
	bar    *mpb.Bar
	size   func() (width, height int)

	mu      sync.Mutex
	targets []progress.Member
	drawn   []string // of the drawing under way
}

// startLive shows targets on the terminal that out is and fd belongs to.
func startLive(s *screen, fd int, targets []progress.Member) *live {
	l := &live{screen: s, targets: targets, size: func() (int, int) { return terminalSize(fd) }}
	l.bars = mpb.New(mpb.WithConsoleWriter(&console{out: s.w, size: l.size}), mpb.WithRefreshRate(everyTerminal))
	// One bar with as many rows as there are targets, so that all are laid
	// out together.
	first := mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error { return l.draw(w) })
	var others []mpb.BarFiller
	for i := range targets[1:] {
		others = append(others, mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error { return l.row(w, i+1) }))
	}
	l.bar, _ = l.bars.Add(0, first, mpb.BarFillerTrim(), mpb.BarBtmExtender(others...)) // it fails only after Wait
	s.divert(l.bars)
	return l
}

// update shows targets from the next drawing on; always as many as at the
// start.
func (l *live) update(targets []progress.Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.targets = targets
}

// draw makes all lines and writes the first; rows follow.
func (l *live) draw(w io.Writer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	width, height := l.size()
	l.drawn = board(l.targets, time.Now(), width, height)
	_, err := io.WriteString(w, l.drawn[0]) // mpb ends the first row
	return err
}

// row writes one more line, or nothing if there is none.
func (l *live) row(w io.Writer, i int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i >= len(l.drawn) {
		return nil
	}
	_, err := io.WriteString(w, l.drawn[i]+"\n")
	return err
}

// stop takes the lines away and leaves the cursor where the first was.
func (l *live) stop() {
	l.bar.Abort(true)
	l.bars.Wait()
	l.screen.divert(nil)
}

// terminalSize is what the terminal says, which may be nothing.
func terminalSize(fd int) (width, height int) {
	width, height, err := term.GetSize(fd)
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// console is the terminal for mpb: each drawing in one write, and the next one
// in its place.
type console struct {
	bytes.Buffer
	out  io.Writer
	size func() (width, height int)
}

// IsTerminal implements mpb.ConsoleWriter.
func (c *console) IsTerminal() bool { return true }

// GetTermSize implements mpb.ConsoleWriter. The height is no bound: board
// makes no more lines than there is room for.
func (c *console) GetTermSize() (width, height int, err error) {
	width, _ = c.size()
	return width, math.MaxInt32, nil
}

// Flush implements mpb.ConsoleWriter; lines is how many were drawn.
func (c *console) Flush(lines int) error {
	if _, err := c.WriteTo(c.out); err != nil {
		return err
	}
	if lines > 0 {
		fmt.Fprintf(&c.Buffer, "\x1b[%dA\x1b[J", lines) // goes out with the next drawing
	}
	return nil
}

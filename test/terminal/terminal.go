// Package terminal plays a terminal to a program under test: it gives it a
// pseudo-terminal, and knows afterwards what a person would see.
package terminal

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	"golang.org/x/sys/unix"
)

// Open makes a pseudo-terminal of so many rows and columns, and a Screen of
// what is written to it. The program gets the file, as any of its streams; the
// test closes it, and the test's end does the rest.
func Open(t testing.TB, rows, columns int) (*os.File, *Screen) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := NewScreen(rows, columns)
	s.done = make(chan struct{})
	s.keys = master
	go func() {
		defer close(s.done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.Write(buf[:n])
			if err != nil { // EIO: nobody has the other end open any more
				return
			}
		}
	}()
	t.Cleanup(func() {
		slave.Close()
		<-s.done
		master.Close()
	})
	return slave, s
}

// Screen is what a terminal shows, and what has left it at the top. It knows
// what a progress display may use and no more. Safe for concurrent use.
type Screen struct {
	done chan struct{} // closed when nothing more will be written
	keys *os.File      // what is typed goes there

	mu            sync.Mutex
	rows, columns int
	gone          []string // scrolled out
	lines         [][]rune // one rune a cell; 0: the second cell of a wide one
	row, column   int
	held          []byte // the beginning of a sequence or a character
	unknown       []string
}

// NewScreen makes an empty one.
func NewScreen(rows, columns int) *Screen {
	return &Screen{rows: rows, columns: columns, lines: make([][]rune, rows)}
}

// Wait returns when all programs have closed the terminal.
func (s *Screen) Wait() { <-s.done }

// Type types text at the keyboard, for the program to read; \x04 ends its
// input. It is for a Screen of Open.
func (s *Screen) Type(text string) error {
	_, err := s.keys.WriteString(text)
	return err
}

// Lines is what there is to be read, the oldest first, with what has scrolled
// out; without empty lines at the end.
func (s *Screen) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := append([]string(nil), s.gone...)
	for _, l := range s.lines {
		out = append(out, text(l))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// Cursor is where the next character goes: the number of its line in Lines,
// and its column.
func (s *Screen) Cursor() (line, column int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.gone) + s.row, s.column
}

// Unknown are the sequences that it did not understand.
func (s *Screen) Unknown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.unknown...)
}

func text(cells []rune) string {
	var b strings.Builder
	for _, r := range cells {
		if r != 0 {
			b.WriteRune(r)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// Write implements io.Writer.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, p...)
	for len(s.held) > 0 {
		n := s.take(s.held)
		if n == 0 {
			break // the rest is still to come
		}
		s.held = s.held[n:]
	}
	return len(p), nil
}

// take does what the first character or sequence of p asks for, and returns
// its length; 0 if it is not whole.
func (s *Screen) take(p []byte) int {
	switch p[0] {
	case '\r':
		s.column = 0
		return 1
	case '\n':
		s.down()
		return 1
	case 0x1b:
		return s.sequence(p)
	}
	if !utf8.FullRune(p) {
		return 0
	}
	r, n := utf8.DecodeRune(p)
	if r < ' ' || r == 0x7f || r == utf8.RuneError {
		s.unknown = append(s.unknown, fmt.Sprintf("%q", p[:n]))
		return n
	}
	s.put(r)
	return n
}

// sequence is ESC [ NUMBER LETTER.
func (s *Screen) sequence(p []byte) int {
	end := 2
	for end < len(p) && (p[end] < '@' || p[end] > '~') {
		end++
	}
	if end >= len(p) {
		return 0
	}
	n := 0
	fmt.Sscanf(string(p[2:end]), "%d", &n)
	switch code := string(p[1:2]) + string(p[end]); {
	case code == "[A":
		s.row = max(s.row-max(n, 1), 0)
	case code == "[J" && n == 0:
		s.cut()
		for i := s.row + 1; i < s.rows; i++ {
			s.lines[i] = nil
		}
	case code == "[K" && n == 0:
		s.cut()
	default:
		s.unknown = append(s.unknown, fmt.Sprintf("%q", p[:end+1]))
	}
	return end + 1
}

// cut clears the line from the cursor on.
func (s *Screen) cut() {
	if s.column < len(s.lines[s.row]) {
		s.lines[s.row] = s.lines[s.row][:s.column]
	}
}

// put writes one character; what does not fit goes to the next line.
func (s *Screen) put(r rune) {
	width := runewidth.RuneWidth(r)
	if s.column+width > s.columns {
		s.column = 0
		s.down()
	}
	for len(s.lines[s.row]) < s.column+width {
		s.lines[s.row] = append(s.lines[s.row], ' ')
	}
	for i := range width {
		s.lines[s.row][s.column+i] = 0
	}
	if width > 0 {
		s.lines[s.row][s.column] = r
	}
	s.column += width
}

// down goes to the next line, which scrolls at the bottom.
func (s *Screen) down() {
	if s.row++; s.row < s.rows {
		return
	}
	s.row = s.rows - 1
	s.gone = append(s.gone, text(s.lines[0]))
	s.lines = append(s.lines[1:], nil)
}

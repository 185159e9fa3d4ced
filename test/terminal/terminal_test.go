package terminal

import (
	"os/exec"
	"slices"
	"testing"
)

func TestScreen(t *testing.T) {
	cases := map[string]struct {
		write        string
		lines        []string
		line, column int
	}{
		"lines":              {"a\r\nb", []string{"a", "b"}, 1, 1},
		"drawn over":         {"log\r\none\r\ntwo\r\n\x1b[2A\x1b[Jthree\r\n", []string{"log", "three"}, 2, 0},
		"scrolled":           {"1\r\n2\r\n3\r\n4\r\n5", []string{"1", "2", "3", "4", "5"}, 4, 1},
		"wrapped":            {"0123456789ab", []string{"0123456789", "ab"}, 1, 2},
		"a wide character":   {"012345678備x", []string{"012345678", "備x"}, 1, 3},
		"rewritten":          {"long line\r\x1b[Kx", []string{"x"}, 0, 1},
		"up beyond the top":  {"1\r\n\x1b[9A\x1b[J2", []string{"2"}, 0, 1},
		"cut in two":         {"1\r\n\x1b", []string{"1"}, 1, 0},
		"overwritten by one": {"abc\rx", []string{"xbc"}, 0, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := NewScreen(4, 10)
			for i := range len(c.write) { // as small as writes get
				s.Write([]byte(c.write[i : i+1]))
			}
			line, column := s.Cursor()
			if !slices.Equal(s.Lines(), c.lines) || line != c.line || column != c.column || len(s.Unknown()) > 0 {
				t.Errorf("%q, cursor %d,%d, unknown %q; want %q, %d,%d", s.Lines(), line, column, s.Unknown(), c.lines, c.line, c.column)
			}
		})
	}
	s := NewScreen(4, 10)
	s.Write([]byte("\x1b[2Jx\a"))
	if want := []string{`"\x1b[2J"`, `"\a"`}; !slices.Equal(s.Unknown(), want) {
		t.Errorf("unknown: %q, want %q", s.Unknown(), want)
	}
}

func TestOpen(t *testing.T) {
	file, screen := Open(t, 7, 33)
	cmd := exec.Command("sh", "-c", "stty size; test -t 1 && test -t 2 && echo yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, file
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	file.Close()
	screen.Wait()
	if got := screen.Lines(); !slices.Equal(got, []string{"7 33", "yes"}) {
		t.Errorf("%q", got)
	}
}

package lines

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestNext(t *testing.T) {
	const most = 40 // two and a half of the reader's buffers
	whole, long := strings.Repeat("w", most-1), strings.Repeat("l", most)
	in := bufio.NewReaderSize(strings.NewReader("a\n\n"+whole+"\n"+long+"\nb\nto"), 16)
	for i, want := range []struct {
		line string
		err  error
	}{{"a", nil}, {"", nil}, {whole, nil}, {"", ErrLong}, {"b", nil}, {"to", io.ErrUnexpectedEOF}, {"", io.EOF}} {
		line, err := Next(in, most)
		if string(line) != want.line || !errors.Is(err, want.err) {
			t.Errorf("line %d: %q, %v", i, line, err)
		}
	}
	if _, err := Next(bufio.NewReader(strings.NewReader(long+"l")), most); !errors.Is(err, ErrLong) {
		t.Errorf("a long line without an end: %v", err)
	}
	broken := errors.New("broken disk")
	if _, err := Next(bufio.NewReader(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))), most); !errors.Is(err, broken) {
		t.Errorf("an error within a line: %v", err)
	}
}

// FuzzNext: the lines are those of the file, in order, none longer than allowed.
func FuzzNext(f *testing.F) {
	f.Add([]byte("a\nlonger than that\n\nc"), 4)
	f.Fuzz(func(t *testing.T, data []byte, most int) {
		most = 1 + (most&0xff+0x100)&0xff
		in := bufio.NewReaderSize(bytes.NewReader(data), 16)
		parts := bytes.SplitAfter(data, []byte("\n"))
		for _, part := range parts {
			line, err := Next(in, most)
			switch {
			case len(part) == 0:
				if err != io.EOF {
					t.Fatalf("at the end: %q, %v", line, err)
				}
			case len(part) > most:
				if err != ErrLong {
					t.Fatalf("%d bytes of at most %d: %v", len(part), most, err)
				}
			case part[len(part)-1] != '\n':
				if err != io.ErrUnexpectedEOF || !bytes.Equal(line, part) {
					t.Fatalf("torn: %q, %v", line, err)
				}
			case err != nil || !bytes.Equal(line, part[:len(part)-1]):
				t.Fatalf("%q, %v instead of %q", line, err, part)
			}
		}
	})
}

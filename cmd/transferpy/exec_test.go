package main

import (
	"bytes"
	"testing"
)

// TestAsIs: a terminal gets no escape sequence of a host; a file every byte.
func TestAsIs(t *testing.T) {
	const said = "a\tb\x1b[2J\r\nno end\u009b"
	for terminal, want := range map[bool]string{false: said, true: "a\tb\\x1b[2J\\r\nno end\\u009b\n"} {
		var got bytes.Buffer
		asIs(&got, terminal, []byte(said))
		if got.String() != want {
			t.Errorf("terminal %v: %q, want %q", terminal, got.String(), want)
		}
	}
}

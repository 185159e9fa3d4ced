package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

func TestPrintError(t *testing.T) {
	var out bytes.Buffer
	printError(&out, errors.Join(
		&sdk.Error{Kind: sdk.KindNotFound, Host: "db1", Message: "/srv/x\x1b does not exist", Hint: "make it", Stderr: "line 1\nline\x07 2\n"},
		errors.New("plain"),
	))
	want := "transferpy: db1: /srv/x\\x1b does not exist\n  make it\n  | line 1\n  | line\\a 2\ntransferpy: plain\n"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

func TestLineWriter(t *testing.T) {
	var out bytes.Buffer
	w := &lineWriter{w: &out}
	for _, part := range []string{"one\ntw", "o\x1b[2J\n", strings.Repeat("x", maxLogLine), "\nend\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "one\ntwo\\x1b[2J\n" + strings.Repeat("x", maxLogLine) + "\n\nend\n"; out.String() != want {
		t.Errorf("got %.40q...", out.String())
	}
}

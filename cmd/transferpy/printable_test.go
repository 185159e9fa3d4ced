package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/transferpy/transferpy/sdk"
)

func TestPrintable(t *testing.T) {
	tests := map[string]string{
		"":                      "",
		"plain größe 数据":        "plain größe 数据",
		"a\nb\tc":               `a\nb\tc`,
		"\x1b[2J":               `\x1b[2J`,
		"\x9b31m":               `\x9b31m`,
		"\u009b31m":             `\u009b31m`,
		"right\u202eto left":    `right\u202eto left`,
		"bad \xff\xfe":          `bad \xff\xfe`,
		"real \ufffd":           `real �`,
		"zero\u200bwidth":       `zero\u200bwidth`,
		"\U000e0001tag":         `\U000e0001tag`,
		"back\\slash \"quote\"": "back\\slash \"quote\"",
	}
	for in, want := range tests {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[0m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }) {
			t.Fatalf("%q became %q", s, got)
		}
		if printable(got) != got {
			t.Fatalf("%q is not printable yet", got)
		}
	})
}

// TestJSONLine holds that what is escaped for terminals is the same value.
func TestJSONLine(t *testing.T) {
	want := "a\u202eb\u009bc\U000e0001d\n\x1be"
	line, err := jsonLine(map[string]string{"s": want})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(line, []byte("\n")) != 1 || strings.ContainsAny(string(line), "\u202e\u009b\U000e0001\x1b") {
		t.Errorf("not safe: %q", line)
	}
	var got map[string]string
	if err := json.Unmarshal(line, &got); err != nil || got["s"] != want {
		t.Errorf("got %q, %v", got["s"], err)
	}
}

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

package printable

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	tests := map[string]string{
		"":                      "",
		"plain größe 数据":        "plain größe 数据",
		"a\nb\tc":               `a\nb\tc`,
		"\x1b[2J":               `\x1b[2J`,
		"\x9b31m":               `\x9b31m`,
		"\u009b31m":             `\u009b31m`,
		"rub\x7fout":            `rub\x7fout`,
		"right\u202eto left":    `right\u202eto left`,
		"bad \xff\xfe":          `bad \xff\xfe`,
		"real \ufffd":           `real �`,
		"zero\u200bwidth":       `zero\u200bwidth`,
		"\U000e0001tag":         `\U000e0001tag`,
		"back\\slash \"quote\"": "back\\slash \"quote\"",
	}
	for in, want := range tests {
		if got := Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// commanding finds what a terminal would take for a command.
func commanding(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\U000e0001'
}

// FuzzText: the result is printable, and printing it again changes nothing.
func FuzzText(f *testing.F) {
	f.Add("a\x1b[0m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, commanding) {
			t.Fatalf("%q became %q", s, got)
		}
		if Text(got) != got {
			t.Fatalf("%q is not printable yet", got)
		}
	})
}

// FuzzJSON: what is escaped for terminals is the same value.
func FuzzJSON(f *testing.F) {
	f.Add("a\u202eb\u009bc\U000e0001d\n\x1be\x7f")
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.ToValidUTF8(s, "\ufffd")
		line, err := JSON(map[string]string{"s": want})
		if err != nil {
			t.Fatal(err)
		}
		text, ended := bytes.CutSuffix(line, []byte("\n"))
		if !ended || bytes.ContainsFunc(text, commanding) {
			t.Fatalf("not safe: %q", line)
		}
		var got map[string]string
		if err := json.Unmarshal(line, &got); err != nil || got["s"] != want {
			t.Fatalf("got %q, want %q, %v", got["s"], want, err)
		}
	})
}

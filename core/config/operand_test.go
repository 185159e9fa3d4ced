package config

import (
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

func TestParseOperand(t *testing.T) {
	tests := []struct {
		text string
		host string
		path sdk.Raw
	}{
		{"db1:/srv/sqldata", "db1", "/srv/sqldata"},
		{"db1.example.org:/srv", "db1.example.org", "/srv"},
		{"root@db1:/srv", "root@db1", "/srv"},
		{"localhost:/", "localhost", "/"},
		{"[2001:db8::1]:/path", "2001:db8::1", "/path"},
		{"root@[2001:db8::1]:/path", "root@2001:db8::1", "/path"},
		{"2001:db8::1:/path", "2001:db8::1", "/path"},
		{"[fe80::1%eth0]:/path", "fe80::1%eth0", "/path"},
		{"db1:/a:/b", "db1", "/a:/b"},
		{"db1:/with blank\nand\x1bmore", "db1", "/with blank\nand\x1bmore"},
		{"db1:/\xff\xfe", "db1", "/\xff\xfe"},
		{"db1:/ends with blank ", "db1", "/ends with blank "},
		{"db1:/[x]:{y}", "db1", "/[x]:{y}"},
		{"db1:tank/data@snap", "db1", "tank/data@snap"},
		{"db1:relative", "db1", "relative"},
		{"D{db1}:/srv", "D{db1}", "/srv"},
		{"A{x:/y}:/srv", "A{x:/y}", "/srv"},
	}
	for _, tt := range tests {
		o, err := parseOperand(tt.text)
		if err != nil || o.Host != tt.host || o.Path != tt.path {
			t.Errorf("%q: got %q %q %v, want %q %q", tt.text, o.Host, o.Path, err, tt.host, tt.path)
		}
	}
}

func TestParseOperandRefusals(t *testing.T) {
	tests := map[string]string{
		"":                       "has no host and path",
		"db1":                    "has no host and path",
		"/srv/data":              "has no host and path",
		":/srv":                  "has no host before the colon",
		"db1:":                   "has no path",
		"-oProxyCommand=x:/srv":  "begins with a dash",
		"root@-x:/srv":           "begins with a dash",
		"db 1:/srv":              "holds a blank",
		"db1\n:/srv":             "cannot be printed",
		"d\x1bb:/srv":            "cannot be printed",
		"db1:a:/srv":             "holds a colon",
		"@db1:/srv":              "is empty",
		"root@:/srv":             "is empty",
		"[db1:/srv":              "has no host and path",
		"db1:/" + longText(4096): "more than 4095 bytes",
		longText(513) + ":/srv":  "longer than 512 bytes",
		"db1:/nul\x00byte":       "NUL",
	}
	for text, want := range tests {
		_, err := parseOperand(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%.40q: the message is not safe to print: %q", text, err)
		}
	}
}

func longText(n int) string { return strings.Repeat("x", n) }

func FuzzParseOperand(f *testing.F) {
	for _, text := range []string{"db1:/srv", "[::1]:/x", "u@[::1]:/x", "a{b:/c}:/d", "x:y:z", "::1:/x", ":", "[", "{:/}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOperand(text)
		if err != nil {
			return
		}
		// The path is the end of what was written, untouched, and what was
		// understood can be written so that it is understood again.
		if !strings.HasSuffix(text, ":"+string(o.Path)) {
			t.Fatalf("%q: path %q is not its end", text, o.Path)
		}
		if o.Host == "" || o.Path == "" || o.Host[0] == '-' || strings.ContainsAny(o.Host, " \t\n\x00\x1b") {
			t.Fatalf("%q: host %q, path %q", text, o.Host, o.Path)
		}
		again, err := parseOperand(o.Host + ":" + string(o.Path))
		if strings.HasPrefix(string(o.Path), "/") && (err != nil || again != o) {
			t.Fatalf("%q: %+v became %+v (%v)", text, o, again, err)
		}
	})
}

package config

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// samples are INI files that exercise every rule of configparser's that
// parseINI claims to follow; accepted or refused alike by Python.
var samples = map[string]string{
	"empty":                  "",
	"shipped":                "[DEFAULT]\nport = 0\ntransfer_type = file\ncompress = True\n",
	"colon and case":         "[DEFAULT]\nPort: 4400\nTransfer_Type=file\n",
	"value holds delimiters": "[a b]\nk = x=y:z\n",
	"colon first":            "[a]\nk: x=y\n",
	"no inline comments":     "[a]\nk = v # not a comment ; nor this\n",
	"full-line comments":     "# c\n[a]\n  ; c\nk = v\n   # c\n",
	"continued":              "[a]\nk = one\n  two\n\tthree\nl = x\n",
	"blank line in value":    "[a]\nk = one\n\n  two\n\n\nl = x\n",
	"comment in value":       "[a]\nk = one\n  # gone\n  two\n",
	"indented key":           "[a]\n  k = one\n  l = two\n    three\n",
	"indented header":        "  [a]\n  k = v\n",
	"continued header":       "[a]\nk = v\n  [b]\n",
	"empty value":            "[a]\nk =\nl = \n",
	"empty then continued":   "[a]\nk =\n  one\n  two\n",
	"header with rest":       "[a] rest\nk = v\n",
	"header with brackets":   "[a]b]\nk = v\n",
	"bare brackets":          "[]\n",
	"bare brackets, key":     "[a]\n[]=x\n",
	"two defaults":           "[DEFAULT]\na = 1\n[x]\nb = 2\n[DEFAULT]\nc = 3\n",
	"carriage returns":       "[a]\r\nk = v\r\nl = w\r",
	"quotes stay":            "[a]\nk = \"v\"\nl = 'w'\nm = `x`\n",
	"backslash stays":        "[a]\nk = v\\\nl = w\n",
	"percent":                "[a]\nk = 100%%\nl = %(k)s!\nm = %(K)s\n",
	"percent from default":   "[DEFAULT]\nbase = /srv\n[a]\nk = %(base)s/x\n",
	"unicode blanks":         "[a]\nk\u00a0=\u00a0v\u2003\n\u2003l = w\n",
	"separators":             "[a]\nk = \x1cv\x1f\n",
	"duplicate key":          "[a]\nk = 1\nK = 2\n",
	"duplicate section":      "[a]\nk = 1\n[a]\nl = 2\n",
	"no section":             "k = v\n",
	"no delimiter":           "[a]\nk\n",
	"no key":                 "[a]\n= v\n",
	"lone percent":           "[a]\nk = 50%\n",
	"bad reference":          "[a]\nk = %(x\n",
	"missing reference":      "[a]\nk = %(x)s\n",
	"loop":                   "[a]\nk = %(l)s\nl = %(k)s\n",
	"not UTF-8":              "[a]\nk = \xff\n",
}

// asMap reads data with parseINI and interpolate into the form that python
// prints; nil where it is refused.
func asMap(data []byte) map[string]map[string]string {
	sections, err := parseINI("test.conf", data)
	if err != nil {
		return nil
	}
	m := map[string]map[string]string{}
	for _, s := range sections {
		m[s.name] = map[string]string{}
		for _, o := range s.options {
			value, err := interpolate(o.value, s, sections[0])
			if err != nil {
				return nil
			}
			m[s.name][o.key] = value
		}
	}
	return m
}

const pythonReader = `
import configparser, json, sys
out = {}
for name, text in json.load(sys.stdin).items():
    c = configparser.ConfigParser()
    try:
        c.read_string(bytes(text).decode('utf-8'))
        m = {'DEFAULT': dict(c['DEFAULT'])}
        for s in c.sections():
            m[s] = {k: c.get(s, k) for k in c._sections[s]}
        out[name] = m
    except (configparser.Error, UnicodeDecodeError):
        out[name] = None
print(json.dumps(out))
`

// python reads files with configparser.
func python(t *testing.T, files map[string]string) map[string]map[string]map[string]string {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed: nothing to compare with")
	}
	input := map[string][]int{}
	for name, text := range files {
		input[name] = []int{}
		// Text files are read with universal newlines.
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
		for _, b := range []byte(text) {
			input[name] = append(input[name], int(b))
		}
	}
	data, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", pythonReader)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var read map[string]map[string]map[string]string
	if err := json.Unmarshal(out, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func TestINIAsPythonReadsIt(t *testing.T) {
	for name, want := range python(t, samples) {
		if diff := cmp.Diff(want, asMap([]byte(samples[name]))); diff != "" {
			t.Errorf("%s: python (-), parseINI (+):\n%s", name, diff)
		}
	}
}

func TestINIErrors(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"duplicate key":     {"[a]\nk = 1\nK = 2\n", "test.conf, line 3: key k is here a second time in [a] (first in line 2)"},
		"duplicate section": {"[a]\nk = 1\n[a]\n", "test.conf, line 3: section [a] is here a second time (first in line 1)"},
		"no section":        {"k = v\n", `test.conf, line 1: "k = v" stands before the first section; put a line [DEFAULT] above it`},
		"no delimiter":      {"[a]\nk\n", "test.conf, line 2: \"k\" is neither `key = value` nor a [section]"},
		"hostile":           {"[a]\n\x1b[2J\n", `test.conf, line 2: "\x1b[2J" is neither`},
		"NUL":               {"[a]\nk=\x00\n", "test.conf, line 2: holds a NUL byte"},
	}
	for name, tt := range tests {
		_, err := parseINI("test.conf", []byte(tt.text))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
	if _, err := parseINI("test.conf", make([]byte, maxFile+1)); err == nil {
		t.Error("a file over the limit was taken")
	}
}

func TestInterpolationIsBounded(t *testing.T) {
	text := "[a]\nk0 = 0123456789\n"
	for i := 1; i <= 8; i++ {
		ref := "%(k" + string(rune('0'+i-1)) + ")s"
		text += "k" + string(rune('0'+i)) + " = " + strings.Repeat(ref, 20) + "\n"
	}
	if asMap([]byte(text)) != nil {
		t.Error("gigabytes of references were resolved")
	}
}

func FuzzINI(f *testing.F) {
	for _, text := range samples {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sections, err := parseINI("fuzz.conf", data)
		if err != nil {
			return
		}
		// What was read is written in the plainest form and read again: the
		// same must come out.
		var b strings.Builder
		for _, s := range sections {
			b.WriteString("[" + s.name + "]\n")
			for _, o := range s.options {
				b.WriteString(o.key + " = " + strings.ReplaceAll(o.value, "\n", "\n\t") + "\n")
			}
		}
		again, err := parseINI("fuzz.conf", []byte(b.String()))
		if err != nil {
			t.Fatalf("%v in\n%q", err, b.String())
		}
		for i, s := range sections {
			for j, o := range s.options {
				if got := again[i].options[j]; got.key != o.key || got.value != o.value {
					t.Fatalf("%q = %q became %q = %q", o.key, o.value, got.key, got.value)
				}
			}
		}
	})
}

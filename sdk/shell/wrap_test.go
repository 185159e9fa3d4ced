package shell

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// runText hands text to a login shell as a backend would and returns its
// merged output.
func runText(t *testing.T, login, shDir, text string) []byte {
	t.Helper()
	return runFed(t, login, shDir, text, nil)
}

// runFed is runText with something on stdin.
func runFed(t *testing.T, login, shDir, text string, input []byte) []byte {
	t.Helper()
	cmd := exec.Command(login, "-c", text)
	cmd.Stdin = bytes.NewReader(input)
	if shDir != "" {
		cmd.Env = append(os.Environ(), "PATH="+shDir+":"+os.Getenv("PATH"))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s -c TEXT: %v; the wrapper must exit 0\n%s", login, err, out)
	}
	return out
}

func wrapAndRun(t *testing.T, login, shDir string, cmd sdk.Command) sdk.Result {
	t.Helper()
	return forms["a line"](t, Wrapper{}, login, shDir, cmd)
}

// forms are the ways in which a backend can be given a command.
var forms = map[string]func(t *testing.T, w Wrapper, login, shDir string, cmd sdk.Command) sdk.Result{
	"a line": func(t *testing.T, w Wrapper, login, shDir string, cmd sdk.Command) sdk.Result {
		nonce := NewNonce()
		text, err := w.Line(cmd, nonce)
		if err != nil {
			t.Fatal(err)
		}
		return parsed(t, w, runText(t, login, shDir, text), nonce)
	},
	"fed": func(t *testing.T, w Wrapper, login, shDir string, cmd sdk.Command) sdk.Result {
		nonce := NewNonce()
		text, input, err := w.Feed(cmd, nonce)
		if err != nil {
			t.Fatal(err)
		}
		return parsed(t, w, runFed(t, login, shDir, text, input), nonce)
	},
	"fed text": func(t *testing.T, w Wrapper, login, shDir string, cmd sdk.Command) sdk.Result {
		nonce := NewNonce()
		text, input, err := w.Feed(cmd, nonce)
		if err != nil {
			t.Fatal(err)
		}
		encoded := []byte(base64.StdEncoding.EncodeToString(input))
		return parsed(t, w, runFed(t, login, shDir, "base64 -d|"+text, encoded), nonce)
	},
}

func parsed(t *testing.T, w Wrapper, out []byte, nonce string) sdk.Result {
	t.Helper()
	r, err := w.Parse(out, nonce)
	if err != nil {
		t.Fatalf("Parse: %v\noutput: %q", err, out)
	}
	return r
}

func raws(args ...string) []sdk.Raw {
	argv := make([]sdk.Raw, len(args))
	for i, a := range args {
		argv[i] = sdk.Raw(a)
	}
	return argv
}

// eachShell calls f for every installed login shell, and for dash and bash as
// the sh that reads the script.
func eachShell(t *testing.T, f func(t *testing.T, login, shDir string)) {
	for _, login := range []string{"sh", "bash", "zsh", "tcsh", "fish"} {
		path, err := exec.LookPath(login)
		if err != nil {
			t.Logf("%s is not installed: not tried as a login shell", login)
			continue
		}
		t.Run(login, func(t *testing.T) { f(t, path, "") })
	}
	for _, name := range []string{"dash", "bash", "busybox"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Logf("%s is not installed: not tried as sh", name)
			continue
		}
		dir := t.TempDir()
		if err := os.Symlink(path, filepath.Join(dir, "sh")); err != nil {
			t.Fatal(err)
		}
		t.Run("sh is "+name, func(t *testing.T) { f(t, filepath.Join(dir, "sh"), dir) })
	}
}

func TestWrapIsExact(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	tests := []struct {
		name           string
		argv           []sdk.Raw
		stdin          []byte
		code           int
		stdout, stderr string
	}{
		{"nothing", raws("true"), nil, 0, "", ""},
		{"exit code", raws("sh", "-c", "exit 37"), nil, 37, "", ""},
		{"bytes", raws("printf", `\0\377\r\033a\n\n`), nil, 0, "\x00\xff\r\x1ba\n\n", ""},
		{"both", raws("sh", "-c", "printf 'out\n'; printf 'err\n12\n' >&2; exit 3"), nil, 3, "out\n", "err\n12\n"},
		{"stdin", raws("cat"), all, 0, string(all), ""},
		{"empty stdin", raws("cat"), []byte{}, 0, "", ""},
		{"no stdin", raws("cat"), nil, 0, "", ""},
		{"unread stdin", raws("true"), bytes.Repeat([]byte("x"), 60_000), 0, "", ""},
		{"killed", raws("sh", "-c", "printf a; kill -9 $$"), nil, 137, "a", ""},
		{"terminated", raws("sh", "-c", "kill -15 $$"), nil, 143, "", ""},
		{"kills its group", raws("sh", "-c", "printf a; kill -15 0; sleep 5"), nil, 143, "a", ""},
		{"program, not builtin", raws("sh", "-c", `exec "$@"`, "x", "printf", "%s", "-n"), nil, 0, "-n", ""},
		{"keyword", raws("env", "if=then", "sh", "-c", `printf %s "$0"`, "!"), nil, 0, "!", ""},
		{"hostile arguments", raws("printf", "%s|", "", "a'b", "$(id)`id`", "\n", "-x", "!!", "\\", "%h", "{a: b}", "\xff\xfe", "\x01\x7f\x81\x88"), nil, 0,
			"|a'b|$(id)`id`|\n|-x|!!|\\|%h|{a: b}|\xff\xfe|\x01\x7f\x81\x88|", ""},
		{"an answer in the output", raws("sh", "-c", `printf '%s ::0,0.\n' "$1" "$1" >&2; printf '%s ::0,0.\n' "$1"; exit 4`, "x", testNonce), nil, 4,
			testNonce + " ::0,0.\n", testNonce + " ::0,0.\n" + testNonce + " ::0,0.\n"},
		{"markers in the output", raws("printf", "%s", "_____FORMATTED_OUTPUT_____\n{\"db1\": 0}:AAAA.\n"), nil, 0, "_____FORMATTED_OUTPUT_____\n{\"db1\": 0}:AAAA.\n", ""},
	}
	eachShell(t, func(t *testing.T, login, shDir string) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				for form, run := range forms {
					if shDir == "" && form != "a line" && tt.name != "hostile arguments" {
						continue // what a login shell sees of the others is the same line
					}
					r := run(t, Wrapper{}, login, shDir, sdk.Command{Argv: tt.argv, Stdin: tt.stdin, Timeout: 10 * time.Second})
					if r.Err != nil || r.ExitCode != tt.code || string(r.Stdout) != tt.stdout || string(r.Stderr) != tt.stderr || r.Truncated {
						t.Errorf("%s: got code %d, stdout %q, stderr %q, truncated %v, err %v; want %d, %q, %q", form, r.ExitCode, r.Stdout, r.Stderr, r.Truncated, r.Err, tt.code, tt.stdout, tt.stderr)
					}
				}
			})
		}
	})
}

// TestWrapperCutsOutput holds that no more than the limit comes back, that it
// is the beginning, and that a command is not stopped by it.
func TestWrapperCutsOutput(t *testing.T) {
	const limit = 1000
	w := Wrapper{MaxOutput: limit}
	eachShell(t, func(t *testing.T, login, shDir string) {
		if shDir == "" {
			return // only the sh that reads the script matters
		}
		for _, form := range []string{"a line", "fed"} {
			run := forms[form]
			for _, tt := range []struct {
				out, err int
				cut      bool
			}{{limit, limit, false}, {limit + 1, 3, true}, {3, limit + 1, true}, {300_000, 300_000, true}} {
				r := run(t, w, login, shDir, sdk.Command{Argv: raws("sh", "-c",
					`head -c "$1" /dev/zero|tr '\0' o; head -c "$2" /dev/zero|tr '\0' e >&2; exit 5`, "x", fmt.Sprint(tt.out), fmt.Sprint(tt.err))})
				wantOut, wantErr := strings.Repeat("o", min(tt.out, limit)), strings.Repeat("e", min(tt.err, limit))
				if r.Err != nil || r.ExitCode != 5 || r.Truncated != tt.cut || string(r.Stdout) != wantOut || string(r.Stderr) != wantErr {
					t.Errorf("%s: %d and %d bytes: code %d, truncated %v, %d and %d bytes, err %v", form, tt.out, tt.err, r.ExitCode, r.Truncated, len(r.Stdout), len(r.Stderr), r.Err)
				}
			}
		}
	})
}

// FuzzWrapper holds that a real shell gives back any argument and any stdin.
func FuzzWrapper(f *testing.F) {
	f.Add("a b", []byte("in\x00\xff\n"), byte(3))
	f.Add("'\n$(id)", []byte{}, byte(255))
	f.Add("\xff{a: b}", []byte("\n\n"), byte(0))
	f.Fuzz(func(t *testing.T, arg string, stdin []byte, code byte) {
		if strings.Contains(arg, "\x00") || len(arg) > 10_000 || len(stdin) > 10_000 {
			return
		}
		cmd := sdk.Command{Argv: append(raws("sh", "-c", `printf %s "$1" >&2; cat; exit "$2"`, "x"), sdk.Raw(arg), sdk.Raw(fmt.Sprint(code))), Stdin: stdin}
		for form, run := range forms {
			r := run(t, Wrapper{MaxOutput: 20_000}, "/bin/sh", "", cmd)
			if r.Err != nil || r.ExitCode != int(code) || string(r.Stderr) != arg || !bytes.Equal(r.Stdout, stdin) || r.Truncated {
				t.Fatalf("%s: got %+v", form, r)
			}
		}
	})
}

// TestFeedTakesMuch holds that what is fed has no limit but the backend's.
func TestFeedTakesMuch(t *testing.T) {
	in := bytes.Repeat([]byte("\x00\xffab"), 1<<20)
	for _, form := range []string{"fed", "fed text"} {
		r := forms[form](t, Wrapper{}, "/bin/sh", "", sdk.Command{Argv: raws("sha256sum"), Stdin: in})
		if want := fmt.Sprintf("%x  -\n", sha256.Sum256(in)); string(r.Stdout) != want {
			t.Errorf("%s: %q, want %q", form, r.Stdout, want)
		}
	}
}

func TestWrapMissingCommand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "not-executable")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eachShell(t, func(t *testing.T, login, shDir string) {
		for arg, code := range map[string]int{"no-such-command": 127, "-x": 127, "": 127, file: 126} {
			r := wrapAndRun(t, login, shDir, sdk.Command{Argv: raws(arg)})
			if r.ExitCode != code && !(arg == "" && r.ExitCode == 126) || len(r.Stderr) == 0 {
				t.Errorf("%q: code %d, stderr %q; want %d and a reason", arg, r.ExitCode, r.Stderr, code)
			}
		}
	})
}

func TestWrapTimeoutKillsGrandchildren(t *testing.T) {
	eachShell(t, func(t *testing.T, login, shDir string) {
		// The grandchild ignores SIGTERM and would be there for a minute.
		start := time.Now()
		r := wrapAndRun(t, login, shDir, sdk.Command{
			Argv:    raws("sh", "-c", "echo begun; printf 'e\n7' >&2; (trap '' TERM; sleep 61.5) & echo $! ; wait"),
			Timeout: 500 * time.Millisecond,
		})
		if !errors.Is(r.Err, sdk.ErrTimeout) || string(r.Stderr) != "e\n7" {
			t.Fatalf("got %+v, want KindTimeout and the stderr so far", r)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		var pid int
		if _, err := fmt.Sscanf(string(r.Stdout), "begun\n%d\n", &pid); err != nil {
			t.Fatalf("stdout %q: %v", r.Stdout, err)
		}
		if alive(pid) {
			t.Errorf("process %d survived the time limit", pid)
		}
	})
}

// alive reports whether a process that is no zombie has this id, after giving
// a killed one a moment to go.
func alive(pid int) bool {
	for range 20 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return false
		}
		time.Sleep(25 * time.Millisecond)
	}
	return true
}

func TestWrapTextIsHarmless(t *testing.T) {
	text, err := Wrap(sdk.Command{Argv: raws("sh", "-c", "a: {b} %h\n'\"")}, NewNonce())
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^echo [A-Za-z0-9+/=]+\|base64 -d\|sh$`).MatchString(text) {
		t.Errorf("text %q", text)
	}
}

func TestWrapLimits(t *testing.T) {
	big := strings.Repeat("x", 90*1024)
	r := wrapAndRun(t, "/bin/sh", "", sdk.Command{Argv: raws("printf", "%s", big)})
	if string(r.Stdout) != big {
		t.Errorf("90 KiB of argument came back as %d bytes", len(r.Stdout))
	}
	in := bytes.Repeat([]byte("y"), 68*1024)
	if r := wrapAndRun(t, "/bin/sh", "", sdk.Command{Argv: raws("cat"), Stdin: in}); !bytes.Equal(r.Stdout, in) {
		t.Errorf("68 KiB of stdin came back as %d bytes", len(r.Stdout))
	}
	for name, cmd := range map[string]sdk.Command{
		"unsupported": {Argv: raws("true", strings.Repeat("x", MaxText))},
		"config":      {Argv: raws("true", "a\x00b")},
	} {
		if _, err := Wrap(cmd, NewNonce()); string(sdk.AsError(err).Kind) != name {
			t.Errorf("got %v, want kind %s", err, name)
		}
	}
	for _, cmd := range []sdk.Command{{}, {Argv: raws("true"), Timeout: -1}} {
		if _, err := Wrap(cmd, NewNonce()); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("Wrap(%+v): %v, want KindConfig", cmd, err)
		}
	}
}

func TestWrapSudo(t *testing.T) {
	if _, err := exec.LookPath("sudo"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and sudo")
	}
	nonce := NewNonce()
	text, err := WrapSudo(sdk.Command{Argv: raws("id", "-u")}, nonce)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Parse(runText(t, "/bin/sh", "", text), nonce); err != nil || string(r.Stdout) != "0\n" {
		t.Errorf("got %+v, %v", r, err)
	}
	r := forms["fed"](t, Wrapper{Sudo: true}, "/bin/sh", "", sdk.Command{Argv: raws("sh", "-c", "id -u; cat"), Stdin: []byte("in")})
	if string(r.Stdout) != "0\nin" {
		t.Errorf("fed: got %+v", r)
	}
}

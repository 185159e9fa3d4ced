package shell

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

const testNonce = "00112233445566778899aabbccddeeff"

// line is what the wrapper prints.
func line(stdout, stderr string, code int) string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s %s:%s:%d,0.\n", testNonce, b64([]byte(stdout)), b64([]byte(stderr)), code)
}

func TestParseFindsTheAnswer(t *testing.T) {
	line := line("out\n", "err\n", 3)
	for name, output := range map[string]string{
		"alone":          line,
		"no line end":    strings.TrimSpace(line),
		"carriage":       strings.TrimSpace(line) + "\r\n",
		"banner":         "Welcome to db1\n" + line + "Connection closed.\n",
		"no line before": "Welcome" + line,
		"cut one before": testNonce + " AAAA\n" + line,
		"echo of nonce":  testNonce + "\n" + testNonce + " " + line,
	} {
		r, err := Parse([]byte(output), testNonce)
		if err != nil || r.ExitCode != 3 || string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	whole := strings.TrimSpace(line("out\n", "err\n", 3))
	for i := range len(whole) {
		if _, err := Parse([]byte(whole[:i]), testNonce); !errors.Is(err, sdk.ErrUnreachable) {
			t.Fatalf("cut at %d: %v, want KindUnreachable", i, err)
		}
	}
	b64 := base64.StdEncoding.EncodeToString
	for name, tt := range map[string]struct {
		output string
		kind   *sdk.Error
	}{
		"empty":       {"", sdk.ErrUnreachable},
		"other nonce": {strings.Replace(whole, "00", "01", 1), sdk.ErrUnreachable},
		"trimmed":     {`VALUE_TRIMMED`, sdk.ErrUnreachable},
		"bad base64":  {testNonce + " A:AAAA:0,0.", sdk.ErrUnreachable},
		"no codes":    {testNonce + " ::.", sdk.ErrInternal},
		"no code":     {testNonce + " :" + b64([]byte("x")) + ":,0.", sdk.ErrInternal},
		"code 256":    {testNonce + " ::256,0.", sdk.ErrInternal},
		"long codes":  {testNonce + " ::" + strings.Repeat("0", 20) + ",0.", sdk.ErrUnreachable},
		"no timeout":  {testNonce + " ::,127.", sdk.ErrMissingTool},
		"sudo":        {"motd\nsudo: a password is required\n", sdk.ErrPermission},
	} {
		_, err := Parse([]byte(tt.output), testNonce)
		if !errors.Is(err, tt.kind) {
			t.Errorf("%s: got %v, want kind %s", name, err, tt.kind.Kind)
		}
	}
	if _, err := Parse([]byte(whole), "x"); err == nil {
		t.Error("a bad nonce was taken")
	}
}

// FuzzParse holds that what is found was there: an answer put into any noise
// comes back unless the noise itself holds the nonce, and no input panics.
func FuzzParse(f *testing.F) {
	f.Add([]byte("motd\n"), []byte("out"), []byte("err\n1"), byte(37))
	f.Add([]byte(testNonce+" AAAA:"), []byte{0}, []byte{}, byte(0))
	f.Add([]byte(testNonce+" ::0,0."), []byte{}, []byte("\n"), byte(255))
	f.Fuzz(func(t *testing.T, noise, stdout, stderr []byte, code byte) {
		if r, err := Parse(noise, testNonce); err == nil {
			if len(r.Stdout)+len(r.Stderr) > len(noise) {
				t.Fatalf("%d bytes of output out of %d", len(r.Stdout)+len(r.Stderr), len(noise))
			}
		} else if sdk.AsError(err).Message == "" {
			t.Fatal("an error without a message")
		}
		if bytes.Contains(noise, []byte(testNonce)) {
			return
		}
		out := append(bytes.Clone(noise), line(string(stdout), string(stderr), int(code))...)
		r, err := Parse(append(out, noise...), testNonce)
		if err != nil || r.ExitCode != int(code) || !bytes.Equal(r.Stdout, stdout) || !bytes.Equal(r.Stderr, stderr) {
			t.Fatalf("got %+v, %v", r, err)
		}
	})
}

// FuzzQuote runs the quoting through a real shell and compares bytes.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a b", "a'b", "''", "\n\n", "\xff\x81", "$(id)`id`\\", "-n", "a=b", "if", "~", "\x01\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		quoted, err := Quote(arg)
		if strings.Contains(arg, "\x00") {
			if !errors.Is(err, sdk.ErrConfig) {
				t.Fatalf("NUL: %v, want KindConfig", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh")
		cmd.Stdin = strings.NewReader("printf %s. " + quoted + " " + quoted)
		out, err := cmd.Output()
		if err != nil || string(out) != arg+"."+arg+"." {
			t.Fatalf("sh made %q of %q (%v)", out, arg, err)
		}
	})
}

func TestQuoteIsOneWord(t *testing.T) {
	text, err := Join(raws("if", "a b", "", "c=d", "*"))
	if err != nil || text != `'if' 'a b' '' 'c=d' '*'` {
		t.Errorf("got %s, %v", text, err)
	}
}

package shell

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// noiseShown is how much of an output without an answer an error carries.
const noiseShown = 2048

// killedStatus is what a shell calls the end by SIGKILL.
const killedStatus = 128 + 9

// Parse is Wrapper.Parse of the zero Wrapper.
func Parse(output []byte, nonce string) (sdk.Result, error) { return Wrapper{}.Parse(output, nonce) }

// Parse finds the answer of the call with this nonce in a backend's output,
// whatever stands before and behind it (login banners, warnings of ssh), and
// returns what the command did. Result.Host is left empty. w is what the
// command was wrapped by.
//
// A command that was killed at its time limit has Result.Err of KindTimeout
// and what it had written by then. The error, always an *sdk.Error with the
// end of the output in Stderr, means that the command may or may not have
// run: KindUnreachable if there is no whole answer, KindPermission if sudo
// refused.
//
// Parse is linear in the length of output and allocates no more than it.
func (w Wrapper) Parse(output []byte, nonce string) (sdk.Result, error) {
	if !validNonce(nonce) {
		return sdk.Result{}, &sdk.Error{Kind: sdk.KindInternal, Message: "Parse was given no nonce of NewNonce"}
	}
	mark := []byte(nonce + " ")
	found := false
	for rest := output; ; {
		i := bytes.Index(rest, mark)
		if i < 0 {
			break
		}
		found = true
		rest = rest[i+len(mark):]
		if a, ok := splitAnswer(rest); ok {
			return w.interpret(a)
		}
	}
	return sdk.Result{}, noAnswer(output, found)
}

// answer is what one line of the wrapper holds.
type answer struct {
	stdout, stderr []byte
	codes          string
}

// maxCodes bounds the two numbers with their comma.
const maxCodes = 16

// splitAnswer decodes BASE64:BASE64:CODES. at the start of b.
func splitAnswer(b []byte) (a answer, ok bool) {
	first := base64Len(b)
	if first == len(b) || b[first] != ':' {
		return a, false
	}
	rest := b[first+1:]
	second := base64Len(rest)
	if second == len(rest) || rest[second] != ':' {
		return a, false
	}
	codes := rest[second+1:]
	end := bytes.IndexByte(codes[:min(len(codes), maxCodes)], '.')
	if end < 0 {
		return a, false
	}
	stdout, err1 := base64.StdEncoding.DecodeString(string(b[:first]))
	stderr, err2 := base64.StdEncoding.DecodeString(string(rest[:second]))
	return answer{stdout, stderr, string(codes[:end])}, err1 == nil && err2 == nil
}

// base64Len returns how many characters of base64 b starts with.
func base64Len(b []byte) int {
	for i, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/', c == '=':
		default:
			return i
		}
	}
	return len(b)
}

// interpret makes a result of a whole answer.
func (w Wrapper) interpret(a answer) (sdk.Result, error) {
	codeText, statusText, _ := strings.Cut(a.codes, ",")
	status, err := strconv.ParseUint(statusText, 10, 8)
	if err != nil {
		return sdk.Result{}, malformed()
	}
	r := sdk.Result{ExitCode: int(status)}
	r.Stdout, r.Truncated = w.limit(a.stdout, false)
	r.Stderr, r.Truncated = w.limit(a.stderr, r.Truncated)
	switch {
	case status == 0:
		code, err := strconv.ParseUint(codeText, 10, 8)
		if err != nil {
			return sdk.Result{}, malformed()
		}
		r.ExitCode = int(code)
	case status == killedStatus:
		r.Err = &sdk.Error{
			Kind:    sdk.KindTimeout,
			Message: "the command was killed with its process group at its time limit",
			Stderr:  string(tail(r.Stderr, noiseShown)),
		}
	case status > 128:
		// The command sent a signal to its own process group, and the shell
		// that would have told its exit code is in it.
	default:
		return sdk.Result{}, &sdk.Error{
			Kind:    sdk.KindMissingTool,
			Message: fmt.Sprintf("timeout(1) did not run the command (status %d)", status),
			Hint:    "install coreutils on the host",
		}
	}
	return r, nil
}

// limit takes the byte off that says that there was more, and what a host
// should not have sent.
func (w Wrapper) limit(b []byte, cut bool) ([]byte, bool) {
	if w.MaxOutput > 0 && len(b) > w.MaxOutput {
		return b[:w.MaxOutput], true
	}
	return b, cut
}

func malformed() *sdk.Error {
	return &sdk.Error{
		Kind:    sdk.KindInternal,
		Message: "the command's answer came back whole but without an exit code",
		Hint:    "check that sh, base64 and timeout on the host are those of the system",
	}
}

// noAnswer says what an output without a whole answer tells of its reason.
func noAnswer(output []byte, begun bool) *sdk.Error {
	end := tail(bytes.TrimSpace(output), noiseShown)
	if refusal := SudoRefusal(output); refusal != nil && !begun {
		return refusal
	}
	e := &sdk.Error{Kind: sdk.KindUnreachable, Stderr: string(end)}
	switch {
	case begun:
		e.Message = "the command's answer was cut off on its way back"
		e.Hint = "the backend limits or changes output; its end is not known"
	default:
		e.Message = "no answer of the command came back"
		e.Hint = "the host may be down, its shell refuses commands, or sh and base64 are missing there"
	}
	return e
}

// SudoRefusal reads from what a backend has printed instead of an answer that
// sudo refused to run the command; nil if it says nothing of the kind. Parse
// does so with what it is given: this is for a backend that has a stderr apart.
func SudoRefusal(output []byte) *sdk.Error {
	end := tail(bytes.TrimSpace(output), noiseShown)
	if !bytes.HasPrefix(end, []byte("sudo: ")) && !bytes.Contains(end, []byte("\nsudo: ")) {
		return nil
	}
	return &sdk.Error{
		Kind: sdk.KindPermission, Stderr: string(end),
		Message: "sudo refused to run the command",
		Hint:    "allow the login user to run it without a password (NOPASSWD in sudoers), or log in as root",
	}
}

// tail returns at most the last n bytes of b.
func tail(b []byte, n int) []byte {
	return b[max(0, len(b)-n):]
}

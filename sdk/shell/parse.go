package shell

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/transferpy/transferpy/sdk"
)

// noiseShown is how much of an output without an answer an error carries.
const noiseShown = 2048

// killedStatus is what a shell calls the end by SIGKILL.
const killedStatus = 128 + 9

// Parse finds the answer of the call with this nonce in a backend's output,
// whatever stands before and behind it (login banners, warnings of ssh), and
// returns what the command did. Result.Host is left empty.
//
// A command that was killed at its time limit has Result.Err of KindTimeout
// and what it had written by then. The error, always an *sdk.Error with the
// end of the output in Stderr, means that the command may or may not have
// run: KindUnreachable if there is no whole answer, KindPermission if sudo
// refused.
//
// Parse is linear in the length of output and allocates no more than it.
func Parse(output []byte, nonce string) (sdk.Result, error) {
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
		if stdout, stderr, ok := splitAnswer(rest); ok {
			return interpret(stdout, stderr)
		}
	}
	return sdk.Result{}, noAnswer(output, found)
}

// splitAnswer decodes BASE64:BASE64. at the start of b.
func splitAnswer(b []byte) (stdout, stderr []byte, ok bool) {
	first := base64Len(b)
	if first == len(b) || b[first] != ':' {
		return nil, nil, false
	}
	second := base64Len(b[first+1:])
	end := first + 1 + second
	if end == len(b) || b[end] != '.' {
		return nil, nil, false
	}
	stdout, err1 := base64.StdEncoding.DecodeString(string(b[:first]))
	stderr, err2 := base64.StdEncoding.DecodeString(string(b[first+1 : end]))
	return stdout, stderr, err1 == nil && err2 == nil
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

// interpret takes the exit code and the status of timeout off stderr's end.
func interpret(stdout, stderr []byte) (sdk.Result, error) {
	stderr, status, ok := cutNumber(stderr)
	if !ok {
		return sdk.Result{}, malformed()
	}
	r := sdk.Result{Stdout: stdout, Stderr: stderr}
	switch {
	case status == 0:
		if r.Stderr, r.ExitCode, ok = cutNumber(stderr); !ok {
			return sdk.Result{}, malformed()
		}
	case status == killedStatus:
		r.ExitCode = status
		r.Err = &sdk.Error{
			Kind:    sdk.KindTimeout,
			Message: "the command was killed with its process group at its time limit",
			Stderr:  string(tail(stderr, noiseShown)),
		}
	case status > 128:
		// The command sent a signal to its own process group, and the shell
		// that would have told its exit code is in it.
		r.ExitCode = status
	default:
		return sdk.Result{}, &sdk.Error{
			Kind:    sdk.KindMissingTool,
			Message: fmt.Sprintf("timeout(1) did not run the command (status %d)", status),
			Hint:    "install coreutils on the host",
		}
	}
	return r, nil
}

// cutNumber takes "\nN" with N in 0..255 off b's end.
func cutNumber(b []byte) ([]byte, int, bool) {
	i := bytes.LastIndexByte(b, '\n')
	if i < 0 {
		return nil, 0, false
	}
	n, err := strconv.ParseUint(string(b[i+1:]), 10, 8)
	return b[:i], int(n), err == nil
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
	e := &sdk.Error{Kind: sdk.KindUnreachable, Stderr: string(end)}
	switch {
	case begun:
		e.Message = "the command's answer was cut off on its way back"
		e.Hint = "the backend limits or changes output; its end is not known"
	case bytes.HasPrefix(end, []byte("sudo: ")) || bytes.Contains(end, []byte("\nsudo: ")):
		e.Kind = sdk.KindPermission
		e.Message = "sudo refused to run the command"
		e.Hint = "allow the login user to run it without a password (NOPASSWD in sudoers), or log in as root"
	default:
		e.Message = "no answer of the command came back"
		e.Hint = "the host may be down, its shell refuses commands, or sh and base64 are missing there"
	}
	return e
}

// tail returns at most the last n bytes of b.
func tail(b []byte, n int) []byte {
	return b[max(0, len(b)-n):]
}

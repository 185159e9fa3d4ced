package shell

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

const (
	// MaxText is the longest text that Wrap returns, in bytes: Linux takes
	// no single argument above 131,071, and backends hand the text on as one.
	// Some bytes are left for what they put around it.
	MaxText = 130_000

	// DefaultTimeout is the time limit of a command that names none.
	DefaultTimeout = 30 * time.Second

	nonceLen = 32 // hex digits
)

// NewNonce returns a fresh random word by which Parse finds the answer of
// one call among other output.
func NewNonce() string {
	var b [nonceLen / 2]byte
	rand.Read(b[:]) // never fails: the runtime aborts rather than return less
	return hex.EncodeToString(b[:])
}

// Wrap returns one line of text that runs cmd and prints its exit code,
// stdout and stderr in a form that Parse reads back exactly.
//
// The text is "echo BASE64|base64 -d|sh": sh, bash, zsh, csh and fish
// understand it alike, it has no quote, no percent sign, no newline and is
// neither YAML nor name=value, so that neither salt nor cumin changes it. It
// is one word for sudo too (sudo -n sh -c TEXT); see WrapSudo.
//
// On the host it needs sh, base64 and timeout (coreutils). It exits 0
// whatever the command does, so that a backend's own exit code speaks of the
// backend alone. The command is executed, never interpreted by a shell, in a
// process group of its own, with the sbin directories at the end of PATH, and
// with /dev/null as stdin unless cmd.Stdin is set. At cmd.Timeout
// (DefaultTimeout if 0) its whole group gets SIGKILL: SIGTERM would let
// timeout end with the command and leave alone what ignores it. What has left
// the group (setsid) goes on.
//
// Limits: 4/3 of the quoted arguments and 16/9 of the stdin, together with
// 700 bytes, are at most MaxText; so 90 KiB of arguments or 68 KiB of stdin.
// More is an error of KindUnsupported. Stdout streams through; stderr is held
// in the memory of a shell and should stay below 1 MiB. Output grows by a
// third. A child that the command leaves behind holds the answer back as long
// as it keeps stdout or stderr open: such a one is started with both
// redirected.
//
// nonce comes from NewNonce, a new one for each call.
func Wrap(cmd sdk.Command, nonce string) (string, error) {
	return wrap(cmd, nonce, "sh")
}

// WrapSudo is Wrap with the command, and the shell around it that kills it in
// time, run by sudo -n. When sudo refuses, Parse says so with
// KindPermission.
func WrapSudo(cmd sdk.Command, nonce string) (string, error) {
	return wrap(cmd, nonce, "sudo -n sh")
}

func wrap(cmd sdk.Command, nonce, interpreter string) (string, error) {
	script, err := script(cmd, nonce)
	if err != nil {
		return "", err
	}
	text := "echo " + base64.StdEncoding.EncodeToString([]byte(script)) + "|base64 -d|" + interpreter
	if len(text) > MaxText {
		return "", &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: fmt.Sprintf("the command is too long for one call: %d bytes wrapped, at most %d", len(text), MaxText),
			Hint:    "send the data in pieces or as a file",
		}
	}
	return text, nil
}

// script returns what the remote sh reads. Its output is one line,
//
//	NONCE BASE64(stdout):BASE64(stderr LF code LF status).
//
// where code is the command's exit code, written by the inner shell, and
// status that of timeout: 0 if code was written. After a SIGKILL to the group
// there is no code and status is 137.
//
// The descriptors: 5 is the answer's stdout, 4 leads to the collector of
// stderr, 6 is the command's stderr while the shells' own messages ("Killed")
// go to /dev/null. The collector reads its end only after the encoder of
// stdout has ended, since that one holds 4 too: so the two parts of the line
// never mix.
func script(cmd sdk.Command, nonce string) (string, error) {
	if !validNonce(nonce) {
		return "", &sdk.Error{Kind: sdk.KindInternal, Message: fmt.Sprintf("%q is no nonce of NewNonce", cut(nonce, 80))}
	}
	argv, err := Join(cmd.Argv)
	if err != nil {
		return "", err
	}
	limit, err := Seconds(cmd.Timeout)
	if err != nil {
		return "", err
	}
	feed, null := "", "</dev/null"
	if cmd.Stdin != nil {
		feed, null = "printf %s "+base64.StdEncoding.EncodeToString(cmd.Stdin)+"|base64 -d|", ""
	}
	exec := "exec"
	if strings.HasPrefix(string(cmd.Argv[0]), "-") {
		exec = "exec --" // not always: old dash takes -- for the command
	}
	inner, _ := Quote("(" + exec + ` "$@" 2>&6 6>&-);printf "\n%s" $? >&6`)

	var b strings.Builder
	b.WriteString(ExtendPath)
	b.WriteString("printf '%s ' " + nonce + "\n")
	b.WriteString("{ { { { " + feed)
	b.WriteString("timeout -s KILL " + limit + " sh -c " + inner + " sh " + argv + " 4>&- 5>&- " + null)
	b.WriteString("; } 6>&2 2>/dev/null; printf '\\n%s' $? >&2; } 2>&4|base64 -w0 >&5; }")
	b.WriteString(" 4>&1|{ e=$(base64 -w0);printf ':%s.\\n' \"$e\"; }; } 5>&1\n")
	return b.String(), nil
}

// ExtendPath is a line of POSIX shell that adds the sbin directories to PATH,
// as sdk.Command promises.
const ExtendPath = "PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin;export PATH\n"

// Seconds returns d as timeout(1) takes it, to the millisecond, and
// DefaultTimeout for 0. Less than 0 is an error of KindConfig.
func Seconds(d time.Duration) (string, error) {
	if d == 0 {
		d = DefaultTimeout
	}
	if d < 0 {
		return "", &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("the time limit %v is negative", d)}
	}
	// 0 would switch the limit off.
	return strconv.FormatFloat(max(d, time.Millisecond).Seconds(), 'f', 3, 64), nil
}

func validNonce(s string) bool {
	return len(s) == nonceLen && strings.Trim(s, "0123456789abcdef") == ""
}

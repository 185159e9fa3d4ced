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

// Wrapper says how commands are wrapped. Its zero value is what Wrap uses. It
// may be used by several goroutines at once.
type Wrapper struct {
	// Sudo has the command, and the shell around it that kills it in time,
	// run by sudo -n. When sudo refuses, Parse says so with KindPermission.
	Sudo bool

	// MaxOutput is how many bytes of stdout, and of stderr, come back; 0:
	// all. The rest is read and dropped on the host, so that neither the
	// command blocks nor a backend gets more than it can carry; Parse then
	// sets Result.Truncated. With both at the limit the answer has 8/3 of it
	// and about 50 bytes.
	MaxOutput int
}

// Wrap is Line of the zero Wrapper.
func Wrap(cmd sdk.Command, nonce string) (string, error) { return Wrapper{}.Line(cmd, nonce) }

// WrapSudo is Line of a Wrapper with Sudo.
func WrapSudo(cmd sdk.Command, nonce string) (string, error) {
	return Wrapper{Sudo: true}.Line(cmd, nonce)
}

// Line returns one line of text that runs cmd and prints its exit code,
// stdout and stderr in a form that Parse reads back exactly.
//
// The text is "echo BASE64|base64 -d|sh": sh, bash, zsh, csh and fish
// understand it alike, it has no quote, no percent sign, no newline and is
// neither YAML nor name=value, so that neither salt nor cumin changes it. It
// is one word for sudo too (sudo -n sh -c TEXT); see Wrapper.Sudo.
//
// On the host it needs sh, base64 and timeout, and head where there is a
// limit (coreutils). It exits 0 whatever the command does, so that a
// backend's own exit code speaks of the backend alone. The command is
// executed, never interpreted by a shell, in a process group of its own, with
// the sbin directories at the end of PATH, and with /dev/null as stdin unless
// cmd.Stdin is set. At cmd.Timeout (DefaultTimeout if 0) its whole group gets
// SIGKILL: SIGTERM would let timeout end with the command and leave alone what
// ignores it. What has left the group (setsid) goes on.
//
// Limits: 4/3 of the quoted arguments and 16/9 of the stdin, together with
// 800 bytes, are at most MaxText; so 90 KiB of arguments or 68 KiB of stdin.
// More is an error of KindUnsupported; see Feed. Stdout streams through;
// stderr is held in the memory of a shell and should stay below 1 MiB. Output
// grows by a third. A child that the command leaves behind holds the answer
// back as long as it keeps stdout or stderr open: such a one is started with
// both redirected.
//
// nonce comes from NewNonce, a new one for each call.
func (w Wrapper) Line(cmd sdk.Command, nonce string) (string, error) {
	feed := ""
	if cmd.Stdin != nil {
		feed = "printf %s " + base64.StdEncoding.EncodeToString(cmd.Stdin) + "|base64 -d|"
	}
	script, err := w.script(cmd, nonce, feed)
	if err != nil {
		return "", err
	}
	text := "echo " + base64.StdEncoding.EncodeToString([]byte(script)) + "|base64 -d|" + w.sudo() + "sh"
	if len(text) > MaxText {
		return "", &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: fmt.Sprintf("the command is too long for one call: %d bytes wrapped, at most %d", len(text), MaxText),
			Hint:    "send the data in pieces or as a file",
		}
	}
	return text, nil
}

// Feed is Line for a backend that can feed a command's stdin: line runs what
// comes on its stdin, which is to be input, byte by byte, and then its end.
// What bounds it is the backend, and the kernel's 128 KiB for one argument of
// the command.
//
// line is short and the same for all commands but for a number. It has single
// and double quotes and a dollar sign, which sh, bash, zsh, csh and fish
// understand alike. A backend whose stdin bears text alone is given
// "base64 -d|" + line and input in base64.
func (w Wrapper) Feed(cmd sdk.Command, nonce string) (line string, input []byte, err error) {
	script, err := w.script(cmd, nonce, "")
	if err != nil {
		return "", nil, err
	}
	// head takes from a pipe what it was told and no more, other than a shell
	// that reads its script from there; so the rest is the command's.
	line = w.sudo() + `sh -c 'eval "$(head -c ` + strconv.Itoa(len(script)) + `)"'`
	return line, append([]byte(script), cmd.Stdin...), nil
}

func (w Wrapper) sudo() string {
	if w.Sudo {
		return "sudo -n "
	}
	return ""
}

// script returns what the remote sh reads; feed stands before the command.
// Its output is one line,
//
//	NONCE BASE64(stdout):BASE64(stderr):CODE,STATUS.
//
// where CODE is the command's exit code, written by the inner shell, and
// STATUS that of timeout: 0 if CODE was written. After a SIGKILL to the group
// there is no CODE and STATUS is 137.
//
// The descriptors: 5 is the answer's stdout, 4 leads to the collector of
// stderr, 8 to that of the codes, 6 is the command's stderr while the shells'
// own messages ("Killed") go to /dev/null. A collector reads its end only
// after the part before it has been written, since who writes that holds the
// collector's pipe too: so the parts of the line never mix.
func (w Wrapper) script(cmd sdk.Command, nonce, feed string) (string, error) {
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
	null := ""
	if cmd.Stdin == nil {
		null = "</dev/null"
	}
	exec := "exec"
	if strings.HasPrefix(string(cmd.Argv[0]), "-") {
		exec = "exec --" // not always: old dash takes -- for the command
	}
	inner, _ := Quote("(" + exec + ` "$@" 2>&6 6>&- 8>&-);printf %s $? >&8`)

	var b strings.Builder
	b.WriteString(ExtendPath)
	b.WriteString("printf '%s ' " + nonce + "\n")
	b.WriteString("{ { { { { " + feed)
	b.WriteString("timeout -s KILL " + limit + " sh -c " + inner + " sh " + argv + " 4>&- 5>&- " + null)
	b.WriteString("; } 6>&2 2>/dev/null; printf ,%s $? >&8; } 2>&4|" + w.cut() + "base64 -w0 >&5; }")
	b.WriteString(" 4>&1|{ e=$(" + w.cut() + "base64 -w0);printf ':%s' \"$e\" >&5; }; }")
	b.WriteString(" 8>&1|{ c=$(cat);printf ':%s.\\n' \"$c\" >&5; }; } 5>&1\n")
	return b.String(), nil
}

// cut is the part of a pipeline that drops what is beyond the limit: but for
// one byte, by which Parse sees that there was more.
func (w Wrapper) cut() string {
	if w.MaxOutput <= 0 {
		return ""
	}
	return "{ head -c " + strconv.Itoa(w.MaxOutput+1) + ";cat >/dev/null; }|"
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

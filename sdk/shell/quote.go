// Package shell carries commands through shells unharmed: POSIX quoting, and
// a one-line wrapper that brings back the exact exit code, stdout and stderr
// of a command through any backend that can run a line of shell text and
// return its output. Authors of executors need nothing else.
package shell

import (
	"fmt"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// Quote returns arg as one word for a POSIX shell: whatever bytes it holds,
// sh makes arg of it again. NUL, which no argument can hold, is an error of
// KindConfig.
//
// Every word is quoted, also a harmless one, so that no keyword ("if"),
// assignment ("a=b") or alias comes of it. csh and fish read some quoted
// bytes differently (!, newline, backslash): what goes through a login shell
// of unknown kind must be quoted by other means, as Wrap does.
func Quote(arg string) (string, error) {
	if i := strings.IndexByte(arg, 0); i >= 0 {
		return "", &sdk.Error{
			Kind:    sdk.KindConfig,
			Message: fmt.Sprintf("the argument %s holds a NUL byte at offset %d", sdk.Raw(cut(arg, 80)).Display(), i),
			Hint:    "no argument of a command can hold one; pass such bytes on stdin",
		}
	}
	// Inside single quotes nothing is special but the quote itself.
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'", nil
}

// Join quotes each argument and joins them with blanks. An empty argv, or a
// NUL in it, is an error of KindConfig.
//
// A shell that runs the joined text prefers its builtins and functions to
// programs of the same name (echo, test, kill); put exec before it, or
// something that executes its arguments, where that matters.
func Join(argv []sdk.Raw) (string, error) {
	if len(argv) == 0 {
		return "", &sdk.Error{Kind: sdk.KindConfig, Message: "an empty argument list names no command"}
	}
	words := make([]string, len(argv))
	for i, arg := range argv {
		word, err := Quote(string(arg))
		if err != nil {
			return "", err
		}
		words[i] = word
	}
	return strings.Join(words, " "), nil
}

// cut returns at most n bytes of s.
func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/transferpy/transferpy/sdk"
)

// printable returns s with everything escaped that a terminal or a log could
// take for more than text: control characters, line ends, what reverses the
// direction of writing, bytes that are no UTF-8. Whatever comes from a host
// passes through it before it is shown.
func printable(s string) string {
	clean := func(r rune) bool { return r != utf8.RuneError && strconv.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if clean(r) {
			b.WriteString(s[:n])
		} else {
			quoted := strconv.Quote(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// jsonLine is v as one line of JSON in which no character is left that
// printable would escape; it is the same value to any reader of JSON.
func jsonLine(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, r := range string(data) {
		switch {
		case r < utf8.RuneSelf || strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// printError tells what happened and, on a line of its own, what to do about
// it; joined errors one after the other.
func printError(w io.Writer, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			printError(w, e)
		}
		return
	}
	var typed *sdk.Error
	if !errors.As(err, &typed) {
		fmt.Fprintf(w, "transferpy: %s\n", printable(err.Error()))
		return
	}
	fmt.Fprintf(w, "transferpy: %s\n", errorLine(typed))
	printAdvice(w, "  ", typed)
}

// errorLine is an error's host and message.
func errorLine(e *sdk.Error) string {
	if e.Host != "" {
		return printable(e.Host) + ": " + printable(e.Message)
	}
	return printable(e.Message)
}

// printAdvice prints an error's hint and the stderr that came with it.
func printAdvice(w io.Writer, indent string, e *sdk.Error) {
	if e.Hint != "" {
		fmt.Fprintf(w, "%s%s\n", indent, printable(e.Hint))
	}
	for line := range strings.Lines(e.Stderr) {
		fmt.Fprintf(w, "%s| %s\n", indent, printable(strings.TrimRight(line, "\n")))
	}
}

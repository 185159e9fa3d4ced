package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	safe "github.com/transferpy/transferpy/core/printable"
	"github.com/transferpy/transferpy/sdk"
)

// printable makes text safe to show: all that the verbs print of what came from
// elsewhere passes through it.
func printable(s string) string { return safe.Text(s) }

// jsonLine is v as one line of JSON that is safe on a terminal.
func jsonLine(v any) ([]byte, error) { return safe.JSON(v) }

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

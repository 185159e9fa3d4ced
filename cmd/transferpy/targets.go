package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// verifiedText says how a target was verified, in words.
var verifiedText = map[control.VerifyLevel]string{
	control.VerifyReadBack: "read back from disk",
	control.VerifyReceived: "digests of what was received",
	control.VerifySigned:   "signed segments",
}

// printTargets tells how the targets ended: several in a table, then what
// failed; whole is what ended the whole run and has been told already.
func printTargets(w io.Writer, targets []transfer.TargetReport, whole *sdk.Error) {
	if len(targets) == 1 && ended(&targets[0]) {
		printTarget(w, &targets[0])
		return
	}
	rows, some := [][]string{{"target", "state", "bytes", "files", "time", "rate", "on the wire", "to", "verified", "digest"}}, false
	for i := range targets {
		rows, some = append(rows, targetRow(&targets[i])), some || ended(&targets[i])
	}
	if some {
		printRows(w, rows)
	}
	for i := range targets {
		t := &targets[i]
		switch {
		case ended(t):
		case t.Err != nil && (whole == nil || *t.Err != *whole):
			printFailure(w, t)
		case !some:
			fmt.Fprintf(w, "  %s: %s\n", targetName(t), noCopy(t))
		}
	}
}

// ended reports whether a target has its copy.
func ended(t *transfer.TargetReport) bool { return t.Err == nil && t.ExitCode == transfer.ExitOK }

// state is what became of a target: the same for people and for programs.
func state(t *transfer.TargetReport) string {
	switch {
	case ended(t):
		return "copied"
	case t.Err != nil && t.ExitCode != transfer.ExitControlLost:
		return "failed"
	}
	return noCopy(t)
}

// noCopy says that a target has no copy, or that nobody knows.
func noCopy(t *transfer.TargetReport) string {
	if t.ExitCode == transfer.ExitControlLost {
		return "not known yet"
	}
	return "not copied"
}

func targetName(t *transfer.TargetReport) string {
	return printable(t.Host) + ":" + printable(string(t.Path))
}

func verifiedBy(t *transfer.TargetReport) string {
	if how, ok := verifiedText[t.Verified]; ok {
		return how
	}
	return printable(string(t.Verified))
}

// printTarget tells of the only target.
func printTarget(w io.Writer, t *transfer.TargetReport) {
	fmt.Fprintf(w, "  %s: %s in %d files, %s, %s, %s on the wire%s\n", targetName(t),
		bytesText(t.Bytes), t.Files, secondsText(t.Seconds), rateText(t.Bytes, t.Seconds), bytesText(t.Wire),
		onlyIf(t.Address != "", ", to "+printable(t.Address)))
	fmt.Fprintf(w, "    verified: %s%s\n", verifiedBy(t), onlyIf(t.Digest != "", ", digest "+printable(t.Digest)))
}

func printFailure(w io.Writer, t *transfer.TargetReport) {
	why := *t.Err
	if why.Host == t.Host {
		why.Host = "" // the line begins with it
	}
	fmt.Fprintf(w, "  %s: FAILED (%d): %s\n", targetName(t), t.ExitCode, errorLine(&why))
	printAdvice(w, "    ", &why)
}

// targetRow is a target in the table. What a failed one has received is not
// its copy.
func targetRow(t *transfer.TargetReport) []string {
	row := []string{targetName(t), state(t)}
	if !ended(t) {
		if row[1] == "failed" {
			row[1] = fmt.Sprintf("FAILED (%d)", t.ExitCode)
		}
		return append(row, "-", "-", secondsText(t.Seconds), "-", "-", orDash(printable(t.Address)), "-", "-")
	}
	return append(row, bytesText(t.Bytes), fmt.Sprint(t.Files), secondsText(t.Seconds), rateText(t.Bytes, t.Seconds), bytesText(t.Wire),
		orDash(printable(t.Address)), verifiedBy(t), orDash(printable(t.Digest)))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printRows prints rows of equally many fields as a table.
func printRows(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], runewidth.StringWidth(text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, text := range row {
			b.WriteString(gap + runewidth.FillRight(text, widths[i]))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

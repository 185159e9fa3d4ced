package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// zeroTime stands for "now" in a logger's line.
var zeroTime time.Time

// logger writes lines for people, each with its time and safe to print.
type logger struct{ w io.Writer }

// line writes one line.
func (l *logger) line(at time.Time, format string, args ...any) {
	if at.IsZero() {
		at = time.Now()
	}
	fmt.Fprintf(l.w, "%s %s\n", at.Local().Format(time.TimeOnly), printable(fmt.Sprintf(format, args...)))
}

// bytesText is a number of bytes in units of 1000, with three digits.
func bytesText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), -1
	for value >= 999.5 && unit < len(units)-1 {
		value /= 1000
		unit++
	}
	digits := 2
	switch {
	case value >= 99.95:
		digits = 0
	case value >= 9.995:
		digits = 1
	}
	return fmt.Sprintf("%.*f %cB", digits, value, units[unit])
}

// secondsText is a time in seconds in a form to be read.
func secondsText(s float64) string {
	if s < 120 {
		return fmt.Sprintf("%.1f s", s)
	}
	text := time.Duration(s * float64(time.Second)).Round(time.Second).String()
	if minutes, whole := strings.CutSuffix(text, "m0s"); whole {
		return minutes + "m"
	}
	return text
}

// rateText is bytes in seconds as a rate.
func rateText(n int64, seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return bytesText(int64(float64(n)/seconds)) + "/s"
}

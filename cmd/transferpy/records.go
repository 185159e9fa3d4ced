package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/record"
	"github.com/transferpy/transferpy/core/runlog"
)

// maxRecorded bounds how many transfers list --all shows of those that have no
// journal any more: the newest.
const maxRecorded = 10000

// recorded are the last attempts of the transfers in the list of all, by id.
func (a *app) recorded(dir string) (map[string]record.Line, error) {
	last := map[string]record.Line{}
	var order []string // oldest first
	skipped, err := record.Read(dir, func(l record.Line) error {
		if _, known := last[l.Transfer]; !known {
			order = append(order, l.Transfer)
		}
		last[l.Transfer] = l
		if len(order) > maxRecorded {
			delete(last, order[0])
			order = order[1:]
		}
		return nil
	})
	a.tellSkipped(skipped)
	return last, err
}

// attempts are all lines of one transfer, oldest first.
func (a *app) attempts(dir, id string) ([]record.Line, error) {
	var list []record.Line
	skipped, err := record.Read(dir, func(l record.Line) error {
		if l.Transfer == id && len(list) < maxRecorded {
			list = append(list, l)
		}
		return nil
	})
	a.tellSkipped(skipped)
	return list, err
}

// tellSkipped says what of the list of all transfers was not read.
func (a *app) tellSkipped(s record.Skipped) {
	if s.Lines > 0 {
		a.say("warning: %d lines of %s are damaged or of a later version, and were passed over", s.Lines, record.Name)
	}
	if s.Bytes > 0 {
		a.say("warning: %s is so long that its first %s were not read; rename it, a new one is begun", record.Name, bytesText(s.Bytes))
	}
}

// withRecorded adds to the journals' transfers those that have no journal: the
// refused ones, and those whose journal has gone.
func withRecorded(entries []journal.Summary, last map[string]record.Line) []journal.Summary {
	known := map[string]bool{}
	for _, e := range entries {
		known[e.Transfer] = true
	}
	for id, l := range last {
		if !known[id] {
			entries = append(entries, journal.Summary{Transfer: id, Created: l.Began, Ended: true, Outcome: &journal.Outcome{ExitCode: l.ExitCode, Error: l.Error}})
		}
	}
	slices.SortFunc(entries, func(a, b journal.Summary) int { return strings.Compare(a.Transfer, b.Transfer) })
	return entries
}

// recordEnds is who copied what where, of a line.
func recordEnds(l *record.Line) (from, to string) {
	for _, t := range l.Targets {
		to += " " + recordEnd(t.End)
	}
	return recordEnd(l.Source), to
}

func recordEnd(e record.End) string { return printable(e.Host) + ":" + printable(string(e.Path)) }

// who is a user as show tells it.
func who(u record.User) string {
	text := userText(u.Name, u.UID)
	if u.LoginUID != nil && *u.LoginUID != u.UID {
		text += ", logged in as " + userText(u.LoginName, *u.LoginUID)
	}
	if u.Sudo != "" {
		text += ", sudo says " + u.Sudo
	}
	return text
}

func userText(name string, uid int) string {
	if name == "" {
		return "uid " + strconv.Itoa(uid)
	}
	return fmt.Sprintf("%s (uid %d)", name, uid)
}

// showAttempts tells people of each attempt at a transfer and where its log
// lies.
func showAttempts(w io.Writer, dir, id string, list []record.Line) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	for _, l := range list {
		line("attempt", "%s, %s, by %s on %s (%s): exit code %d%s", l.Began.Local().Format(time.DateTime), secondsText(l.Seconds), who(l.User), l.Host, l.EndedBy,
			l.ExitCode, onlyIf(l.Error != nil, ": "+errorText(l)))
		for _, t := range l.Targets {
			line("", "%s: exit code %d, %s, digest %s", recordEnd(t.End), t.ExitCode, bytesText(t.Bytes), orDash(t.Digest))
		}
		line("", "%s", versionsText(l.Versions))
	}
	if path := logPath(dir, id); path != "" {
		line("log", "%s", path)
	}
	return table.Flush()
}

// logPath is where a transfer's log lies; empty: it has none.
func logPath(dir, id string) string {
	path := runlog.Path(dir, id)
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

func errorText(l record.Line) string {
	if l.Error == nil {
		return ""
	}
	return errorLine(l.Error)
}

func versionsText(versions map[string]string) string {
	var list []string
	for name, v := range versions {
		list = append(list, name+" "+v)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// showRecorded tells people of a transfer that has no journal.
func showRecorded(w io.Writer, dir, id string, list []record.Line) error {
	last := list[len(list)-1]
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, text string) { fmt.Fprintf(table, "%s\t%s\n", name, printable(text)) }
	line("transfer", id)
	line("state", "ended, exit code "+strconv.Itoa(last.ExitCode)+", no journal")
	line("source", recordEnd(last.Source)+" (executor "+last.Source.Executor+")")
	for _, t := range last.Targets {
		line("target", recordEnd(t.End)+" (executor "+t.Executor+")")
	}
	line("option", "type "+last.Mode)
	if last.Reason != "" {
		line("option", "reason "+last.Reason)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return showAttempts(w, dir, id, list)
}

// recordedJSON is `show --output json` of a transfer that has no journal.
type recordedJSON struct {
	V        int           `json:"v"`
	Transfer string        `json:"transfer_id"`
	Ended    bool          `json:"ended"`
	ExitCode int           `json:"exit_code"`
	Attempts []record.Line `json:"attempts"`
	Log      string        `json:"log,omitempty"`
}

func recordedLine(dir, id string, list []record.Line) recordedJSON {
	return recordedJSON{V: 1, Transfer: id, Ended: true, ExitCode: list[len(list)-1].ExitCode, Attempts: list, Log: logPath(dir, id)}
}

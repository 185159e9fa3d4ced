package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/record"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// newList is `transferpy list`.
func newList(a *app) *cobra.Command {
	var all bool
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List this user's transfers that run, or that left something to clean up",
		Long: `List this user's transfers on this host that run, or that left something to
clean up. With --all also those that have ended, and from transfers.jsonl in the
state directory those that were refused or whose journal has gone (30 days).`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usageError("--output is text or json", "")
			}
			dir, err := journal.Dir()
			if err != nil {
				return err
			}
			entries, err := journal.List(dir)
			if err != nil {
				return err
			}
			var last map[string]record.Line
			if all {
				if last, err = a.recorded(dir); err != nil {
					return err
				}
				entries = withRecorded(entries, last)
			} else {
				entries = slices.DeleteFunc(entries, func(e journal.Summary) bool { return e.Ended })
			}
			if output == "json" {
				return listJSON(a.stdout, entries, last)
			}
			return listText(a.stdout, entries, last)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that have ended or were refused")
	cmd.Flags().StringVar(&output, "output", "text", "`FORM`: text or json")
	return cmd
}

// listState says in a word how a transfer stands, and what to do about it.
func listState(e journal.Summary) string {
	switch {
	case e.Err != nil:
		return "unreadable: " + e.Err.Error()
	case e.Ended && e.Outcome != nil:
		return "ended, exit code " + strconv.Itoa(e.Outcome.ExitCode)
	case e.Ended:
		return "ended"
	case e.Held:
		return fmt.Sprintf("running, pid %d of %s since %s", e.PID, userName(e.UID), e.Since.Local().Format(time.DateTime))
	case e.Kept != nil:
		return fmt.Sprintf("partial: failed, kept since %s: transferpy resume %s", e.Kept.Time.Local().Format(time.DateTime), e.Transfer)
	case e.Planned && e.Outcome == nil:
		return leftTo(e)
	case keepsPartial(e):
		return fmt.Sprintf("left behind: transferpy resume %s, or transferpy cleanup %s", e.Transfer, e.Transfer)
	}
	return "left behind: transferpy cleanup " + e.Transfer
}

// leftTo tells of a transfer whose agents may go on alone.
func leftTo(e journal.Summary) string {
	why := fmt.Sprintf("pid %d of %s, who had it since %s, has died", e.PID, userName(e.UID), e.Since.Local().Format(time.DateTime))
	if e.Detached != nil {
		why = fmt.Sprintf("detached by %s at %s", userName(e.UID), e.Detached.Time.Local().Format(time.DateTime))
	}
	advice := fmt.Sprintf("transferpy attach %s, or transferpy cleanup %s", e.Transfer, e.Transfer)
	if keepsPartial(e) {
		advice = fmt.Sprintf("transferpy attach %s, transferpy resume %s, or transferpy cleanup %s", e.Transfer, e.Transfer, e.Transfer)
	}
	return fmt.Sprintf("left to its agents (%s): %s", why, advice)
}

// userName is a user's name, or the number where it has none here.
func userName(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return "uid " + number
}

// keepsPartial reports whether a transfer can be resumed though its process
// has died.
func keepsPartial(e journal.Summary) bool {
	req, err := transfer.DecodeRequest(e.Request)
	return err == nil && req.KeepPartial
}

func listText(w io.Writer, entries []journal.Summary, last map[string]record.Line) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range entries {
		from, to := "?", ""
		if req, err := transfer.DecodeRequest(e.Request); e.Err == nil && err == nil {
			from, to = endpoint(req.Source), ""
			for _, t := range req.Targets {
				to += " " + endpoint(t)
			}
		} else if l, ok := last[e.Transfer]; ok {
			from, to = recordEnds(&l)
		}
		fmt.Fprintf(table, "%s\t%s\t%s ->%s\t%s\n", e.Transfer, e.Created.Local().Format(time.DateTime), from, to, printable(listState(e)))
	}
	return table.Flush()
}

func listJSON(w io.Writer, entries []journal.Summary, last map[string]record.Line) error {
	for _, e := range entries {
		var code *int
		if e.Outcome != nil {
			code = &e.Outcome.ExitCode
		}
		var newest *record.Line
		if l, ok := last[e.Transfer]; ok {
			newest = &l
		}
		line, err := jsonLine(struct {
			V        int             `json:"v"`
			Transfer string          `json:"transfer_id"`
			Created  time.Time       `json:"created"`
			Running  bool            `json:"running"`
			PID      int             `json:"pid,omitempty"`
			User     string          `json:"user"`
			Since    time.Time       `json:"since"`              // that process has it
			Detached *time.Time      `json:"detached,omitempty"` // it has left it to the agents
			CanTake  bool            `json:"attachable"`         // another process can take it over
			Phase    string          `json:"phase,omitempty"`
			Ended    bool            `json:"ended"`
			Kept     *time.Time      `json:"kept_since,omitempty"` // it can be resumed
			ExitCode *int            `json:"exit_code,omitempty"`
			Request  json.RawMessage `json:"request,omitempty"`
			Error    *sdk.Error      `json:"error,omitempty"`
			Record   *record.Line    `json:"record,omitempty"` // of the last attempt, with --all
		}{1, e.Transfer, e.Created, e.Held, e.PID, userName(e.UID), e.Since, detachedAt(e.Detached), leftBehind(e) && e.Planned, e.Phase, e.Ended, keptSince(e.Kept), code, e.Request, sdk.AsError(e.Err), newest})
		if err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// detachedAt is when a transfer was left to its agents; nil: it was not.
func detachedAt(d *journal.Detached) *time.Time {
	if d == nil {
		return nil
	}
	return &d.Time
}

// keptSince is when a failed transfer left what it had; nil: it did not.
func keptSince(k *journal.Kept) *time.Time {
	if k == nil {
		return nil
	}
	return &k.Time
}

// endpoint is HOST:PATH in a form that is safe to print.
func endpoint(e transfer.Endpoint) string {
	return printable(e.Host) + ":" + printable(string(e.Path))
}

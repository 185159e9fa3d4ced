package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/record"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// newShow is `transferpy show`.
func newShow(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show [options] ID",
		Short: "Tell all that is known here of one transfer",
		Long: `Tell what the journal on this host knows of one of this user's transfers: what
was asked for, how it stands, its hosts and agents, each undo and whether it has
run, and how the last attempt ended; and from transfers.jsonl who made each attempt,
and how it went; of a transfer without a journal that alone. It says where the log
lies, which has everything at level debug. No host is asked, and nothing is changed.`,
		ValidArgsFunction: completeIDs(anyTransfer),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("show takes one ID", "transferpy list --all shows them")
			}
			if output != "text" && output != "json" {
				return usageError("--output is text or json", "")
			}
			return a.show(args[0], output == "json")
		},
	}
	cmd.Flags().StringVar(&output, "output", "text", "`FORM`: text or json")
	return cmd
}

// show tells what is known of a transfer.
func (a *app) show(id string, asJSON bool) error {
	dir, err := journal.Dir()
	if err != nil {
		return err
	}
	h, err := transfer.Show(dir, id)
	if err != nil && !errors.Is(err, sdk.ErrNotFound) {
		return err
	}
	attempts, unread := a.attempts(dir, id)
	if unread != nil {
		a.say("warning: who made the attempts is not known: %s", unread)
	}
	switch {
	case err != nil && len(attempts) == 0:
		return err
	case err != nil && asJSON:
		return writeJSON(a.stdout, recordedLine(dir, id, attempts))
	case err != nil:
		return showRecorded(a.stdout, dir, id, attempts)
	case asJSON:
		return showJSON(a.stdout, h, attempts, logPath(dir, id))
	}
	if err := showText(a.stdout, h); err != nil {
		return err
	}
	return showAttempts(a.stdout, dir, id, attempts)
}

// writeJSON writes one line.
func writeJSON(w io.Writer, v any) error {
	line, err := jsonLine(v)
	if err == nil {
		_, err = w.Write(line)
	}
	return err
}

// summary is a history as list shows it.
func summary(h *transfer.History) journal.Summary {
	return journal.Summary{Transfer: h.Header.Transfer, Created: h.Header.Created, Held: h.Held, PID: h.Owner.PID, UID: h.Header.UID, Since: h.Owner.Time,
		Detached: h.Detached, Planned: len(h.Plan) > 0, Phase: h.Phase,
		Ended: h.Ended, Kept: h.Kept, Outcome: h.Outcome, Request: h.Header.Request}
}

// showText tells it to people.
func showText(w io.Writer, h *transfer.History) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("transfer", "%s", h.Header.Transfer)
	line("state", "%s", listState(summary(h)))
	if h.Phase != "" && !h.Ended && h.Kept == nil {
		line("phase", "%s", h.Phase)
	}
	line("created", "%s by uid %d, transferpy %s", h.Header.Created.Local().Format(time.DateTime), h.Header.UID, h.Header.Program)
	line("last run by", "pid %d since %s, generation %d, resumed %d times", h.Owner.PID, h.Owner.Time.Local().Format(time.DateTime), h.Generation(), h.Resumes)
	line("source", "%s (executor %s)", rawEndpoint(h.Request.Source), h.Request.Source.Executor)
	for i, t := range h.Request.Targets {
		line("target", "%s (executor %s)%s", rawEndpoint(t), t.Executor, onlyIf(h.Published(i), ", has its copy"))
	}
	for _, o := range options(&h.Request) {
		line("option", "%s", o)
	}
	for _, host := range h.Hosts {
		line("host", "%s, agent %s, program %s", host.Host, agentText(host.Agent), host.Program.Display())
	}
	for _, u := range h.Undos {
		line("undo", "%s: %s: %s", u.Host, u.Undo.What, undoState(h, u))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if h.Report != nil {
		fmt.Fprintf(w, "\nThe last attempt, of %s:\n", h.Report.Began.Local().Format(time.DateTime))
		printReport(w, h.Report, false)
	}
	return nil
}

// undoState says whether an undo has run, as far as is known here.
func undoState(h *transfer.History, u journal.Undo) string {
	switch {
	case u.Done:
		return "done"
	case h.Ended:
		return "done, as its agent said at the end"
	}
	return "not done yet, or not heard of; due at " + string(u.Undo.When)
}

// options are the settings of a request that are not what stands for nothing.
func options(q *transfer.Request) []string {
	list := []string{"type " + q.Mode, "firewall " + q.Firewall, "codec " + q.Codec, "checksum " + string(q.Verify), "owner " + q.Owner}
	add := func(given bool, text string) {
		if given {
			list = append(list, text)
		}
	}
	add(!q.Encrypt, "no-encrypt")
	add(q.Port != 0, "port "+strconv.Itoa(q.Port))
	add(q.CodecLevel != 0, "compress-level "+strconv.Itoa(q.CodecLevel))
	add(q.LimitRate != 0, "limit-rate "+strconv.FormatInt(q.LimitRate, 10))
	add(q.LimitRead != 0, "limit-read "+strconv.FormatInt(q.LimitRead, 10))
	add(q.SlowTarget != "", "slow-target "+q.SlowTarget)
	add(q.Nice != 0, "nice "+strconv.Itoa(q.Nice))
	add(q.StopSlave, "stop-slave")
	add(q.KeepPartial, "keep-partial")
	add(q.ForceLive, "force-live")
	add(len(q.DataNetworks) > 0, "data-network "+strings.Join(q.DataNetworks, ","))
	for host, address := range q.DataAddresses {
		list = append(list, "data-address "+host+"="+address)
	}
	add(q.Manifest != "", "manifest "+q.Manifest)
	add(q.Reason != "", "reason "+q.Reason)
	for plugin, values := range q.PluginConfig {
		for key, texts := range values {
			list = append(list, plugin+"."+key+"="+strings.Join(texts, ","))
		}
	}
	slices.Sort(list[5:])
	return list
}

// rawEndpoint is HOST:PATH, to be made printable with its line.
func rawEndpoint(e transfer.Endpoint) string { return e.Host + ":" + string(e.Path) }

// historyJSON is `show --output json`.
type historyJSON struct {
	V          int             `json:"v"`
	Transfer   string          `json:"transfer_id"`
	Created    time.Time       `json:"created"`
	UID        int             `json:"uid"`
	Program    string          `json:"program,omitempty"`
	Running    bool            `json:"running"`
	PID        int             `json:"pid"`
	Generation uint64          `json:"generation"`
	Resumes    int             `json:"resumes"`
	Phase      string          `json:"phase,omitempty"`
	Ended      bool            `json:"ended"`
	KeptSince  *time.Time      `json:"kept_since,omitempty"`
	Source     endJSON         `json:"source"`
	Targets    []showTarget    `json:"targets"`
	Hosts      []journal.Host  `json:"hosts"`
	Undos      []showUndo      `json:"undos"`
	Request    json.RawMessage `json:"request"`
	ExitCode   *int            `json:"exit_code,omitempty"`
	Error      *sdk.Error      `json:"error,omitempty"`
	Report     *doneJSON       `json:"report,omitempty"` // of the last attempt
	Attempts   []record.Line   `json:"attempts"`         // oldest first
	Log        string          `json:"log,omitempty"`
}

// showTarget is a target as far as the journal knows.
type showTarget struct {
	endJSON
	Published bool `json:"published"`
}

// showUndo is an undo as far as the journal knows.
type showUndo struct {
	Host  string   `json:"host"`
	Agent string   `json:"agent"`
	ID    string   `json:"id"`
	What  string   `json:"what"`
	When  sdk.When `json:"when"`
	Done  bool     `json:"done"`
}

// showJSON tells it to programs.
func showJSON(w io.Writer, h *transfer.History, attempts []record.Line, log string) error {
	out := historyJSON{V: 1, Transfer: h.Header.Transfer, Created: h.Header.Created, UID: h.Header.UID, Program: h.Header.Program,
		Running: h.Held, PID: h.Owner.PID, Generation: h.Generation(), Resumes: h.Resumes, Phase: h.Phase, Ended: h.Ended,
		KeptSince: keptSince(h.Kept), Source: endJSON{h.Request.Source.Host, h.Request.Source.Path}, Targets: []showTarget{},
		Hosts: h.Hosts, Undos: []showUndo{}, Request: h.Header.Request, Attempts: append([]record.Line{}, attempts...), Log: log}
	for i, t := range h.Request.Targets {
		out.Targets = append(out.Targets, showTarget{endJSON{t.Host, t.Path}, h.Published(i)})
	}
	for _, u := range h.Undos {
		out.Undos = append(out.Undos, showUndo{u.Host, u.Agent, u.Undo.ID, u.Undo.What, u.Undo.When, u.Done || h.Ended})
	}
	if h.Outcome != nil {
		out.ExitCode, out.Error = &h.Outcome.ExitCode, h.Outcome.Error
	}
	if h.Report != nil {
		done := doneLine(h.Report)
		done.Time = h.Report.Began.Add(time.Duration(h.Report.Seconds * float64(time.Second)))
		out.Report = &done
	}
	return writeJSON(w, out)
}

func agentText(id string) string {
	if id == "" {
		return "not prepared"
	}
	return id
}

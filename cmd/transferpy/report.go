package main

import (
	"fmt"
	"io"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// printReport tells people how a transfer ended.
func printReport(w io.Writer, r *transfer.Report, dryRun bool) {
	switch {
	case r.Err != nil:
		fmt.Fprintf(w, "transfer %s %s: %s\n", r.Transfer, ending(r), errorLine(r.Err))
		printAdvice(w, "  ", r.Err)
	case dryRun:
		fmt.Fprintf(w, "dry run: nothing was changed\n")
		return
	default:
		fmt.Fprintf(w, "transfer %s of %s: %s, %d executor calls\n", r.Transfer, endpoint(r.Source), secondsText(r.Seconds), r.Calls)
	}
	printTargets(w, r.Targets, r.Err)
	for _, d := range r.Detours {
		fmt.Fprintf(w, "  %s\n", printable(d.Line()))
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(w, "  warning: %s (%d times, first %s)\n", printable(warning.What), warning.Count, warning.Example.Display())
	}
	if r.Manifest != "" {
		fmt.Fprintf(w, "  manifest: %s\n", printable(r.Manifest))
	}
	if r.Kept {
		fmt.Fprintf(w, "  what was received is kept; to go on with it: transferpy resume %s; to remove it: transferpy cleanup %s\n", r.Transfer, r.Transfer)
	}
	if r.ExitCode != transfer.ExitOK {
		fmt.Fprintf(w, "exit code %d\n", r.ExitCode)
	}
}

// ending is a word for how a transfer failed as a whole.
func ending(r *transfer.Report) string {
	switch r.ExitCode {
	case transfer.ExitRefused:
		return "refused"
	case transfer.ExitSIGINT, transfer.ExitSIGTERM:
		return "stopped"
	case transfer.ExitControlLost:
		return "unfinished"
	}
	return "failed"
}

// doneJSON is the last line of --output json.
type doneJSON struct {
	V        int                   `json:"v"`
	Event    string                `json:"event"`
	Time     time.Time             `json:"time"`
	Transfer string                `json:"transfer_id"`
	ExitCode int                   `json:"exit_code"`
	Seconds  float64               `json:"seconds"`
	Calls    int                   `json:"executor_calls"`
	Phases   []transfer.PhaseCalls `json:"calls_by_phase,omitempty"`
	Source   endJSON               `json:"source"`
	Targets  []targetJSON          `json:"targets"`
	Warnings []control.Warning     `json:"warnings,omitempty"`
	Detours  []detourJSON          `json:"detours,omitempty"`
	Manifest sdk.Raw               `json:"manifest,omitempty"`
	Kept     bool                  `json:"kept,omitempty"` // it can be resumed
	Error    *sdk.Error            `json:"error,omitempty"`
}

// endJSON is one end of the transfer.
type endJSON struct {
	Host string  `json:"host"`
	Path sdk.Raw `json:"path"`
}

// targetJSON is one target's outcome.
type targetJSON struct {
	endJSON
	State    string              `json:"state"`
	ExitCode int                 `json:"exit_code"`
	Bytes    int64               `json:"bytes"`
	Files    int64               `json:"files"`
	Wire     int64               `json:"wire_bytes"`
	Seconds  float64             `json:"seconds"`
	Rate     *float64            `json:"rate"` // bytes a second; null without a copy
	Digest   string              `json:"digest"`
	Address  string              `json:"address,omitempty"`
	Verified control.VerifyLevel `json:"verified,omitempty"`
	Error    *sdk.Error          `json:"error,omitempty"`
}

// detourJSON tells which targets were bypassed while data flowed.
type detourJSON struct {
	Bypassed []string   `json:"bypassed"`
	By       string     `json:"by"`
	To       string     `json:"to,omitempty"`
	Error    *sdk.Error `json:"error,omitempty"`
}

func detourLine(d *transfer.Detour) *detourJSON {
	return &detourJSON{Bypassed: d.Bypassed, By: d.By, To: d.To, Error: d.Err}
}

// doneLine is the report as the last JSON line.
func doneLine(r *transfer.Report) doneJSON {
	d := doneJSON{V: 1, Event: string(transfer.EventDone), Time: time.Now(), Transfer: r.Transfer, ExitCode: r.ExitCode,
		Seconds: r.Seconds, Calls: r.Calls, Phases: r.PhaseCalls, Source: endJSON{r.Source.Host, r.Source.Path},
		Targets: []targetJSON{}, Warnings: r.Warnings, Manifest: sdk.Raw(r.Manifest), Kept: r.Kept, Error: r.Err}
	for _, t := range r.Targets {
		d.Targets = append(d.Targets, targetLine(&t))
	}
	for _, x := range r.Detours {
		d.Detours = append(d.Detours, *detourLine(&x))
	}
	return d
}

func targetLine(t *transfer.TargetReport) targetJSON {
	line := targetJSON{endJSON: endJSON{t.Host, t.Path}, State: state(t), ExitCode: t.ExitCode, Bytes: t.Bytes, Files: t.Files,
		Wire: t.Wire, Seconds: t.Seconds, Digest: t.Digest, Address: t.Address, Verified: t.Verified, Error: t.Err}
	if ended(t) && t.Seconds > 0 {
		rate := float64(t.Bytes) / t.Seconds
		line.Rate = &rate
	}
	return line
}

// eventJSON is any other line of --output json.
type eventJSON struct {
	V           int                `json:"v"`
	Event       transfer.EventType `json:"event"`
	Time        time.Time          `json:"time"`
	Transfer    string             `json:"transfer_id"`
	Host        string             `json:"host,omitempty"`
	Phase       string             `json:"phase,omitempty"`
	Message     string             `json:"message,omitempty"`
	*extentJSON                    // of progress and preflight
	Members     []memberJSON       `json:"members,omitempty"`
	Plan        *planJSON          `json:"plan,omitempty"`
	Detour      *detourJSON        `json:"detour,omitempty"`
	Rule        *ruleJSON          `json:"rule,omitempty"`
	Error       *sdk.Error         `json:"error,omitempty"`
}

// ruleJSON is a firewall's rule.
type ruleJSON struct {
	Firewall string    `json:"firewall"`
	Text     string    `json:"text"`
	Port     int       `json:"port,omitempty"`
	Sources  []string  `json:"sources,omitempty"`
	Expiry   time.Time `json:"expiry"` // by the host's clock
}

// planJSON is the plan.
type planJSON struct {
	Bytes   int64          `json:"bytes"`   // -1: unknown
	Entries int64          `json:"entries"` // -1: unknown
	AtLeast bool           `json:"at_least,omitempty"`
	Hosts   []hostPlanJSON `json:"hosts"`
}

// hostPlanJSON is what would be done on one host.
type hostPlanJSON struct {
	Host  string   `json:"host"`
	Lines []string `json:"lines"`
}

// eventLine is an event as a JSON line.
func eventLine(e transfer.Event) eventJSON {
	line := eventJSON{V: 1, Event: e.Type, Time: e.Time, Transfer: e.Transfer, Host: e.Host, Phase: e.Phase,
		Message: e.Message, Error: e.Err}
	if e.Type == transfer.EventProgress || e.Type == transfer.EventPreflight {
		line.extentJSON = &extentJSON{}
		line.set(e.Total, e.AtLeast)
	}
	for i := range e.Members {
		line.Members = append(line.Members, memberLine(&e.Members[i], e.Time))
	}
	if e.Detour != nil {
		line.Detour = detourLine(e.Detour)
	}
	if e.Rule != nil {
		line.Rule = &ruleJSON{Firewall: e.Rule.Firewall, Text: e.Rule.Text, Port: e.Rule.Port, Sources: e.Rule.Sources, Expiry: e.Rule.Expiry}
	}
	if e.Plan != nil {
		line.Plan = &planJSON{Bytes: e.Plan.Bytes, Entries: e.Plan.Entries, AtLeast: e.Plan.AtLeast, Hosts: []hostPlanJSON{}}
		for _, h := range e.Plan.Hosts {
			line.Plan.Hosts = append(line.Plan.Hosts, hostPlanJSON(h))
		}
	}
	return line
}

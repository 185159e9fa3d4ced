package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// view shows one transfer: what happens on standard error as it happens, the
// outcome on standard output; with --output json every event goes to standard
// output too. Its methods are called one
// at a time, close the last.
type view struct {
	stdout  io.Writer
	log     *logger
	meter   *meter
	kept    *logged // nil: there is no log
	verbose bool
	dryRun  bool
	json    bool
}

// newView makes the view that settings ask for.
func (a *app) newView(settings *config.Settings) *view {
	log := &logger{w: a.stderr}
	v := &view{
		stdout:  a.stdout,
		log:     log,
		meter:   a.newMeter(log, settings),
		verbose: settings.Verbose,
		dryRun:  settings.Request.DryRun,
		json:    settings.JSON,
	}
	if a.log != nil {
		v.kept = &logged{log: a.log, warn: a.say}
	}
	return v
}

// event takes one event of the transfer.
func (v *view) event(e transfer.Event) {
	if v.kept != nil && !v.dryRun {
		v.kept.event(e)
	}
	if e.Type == transfer.EventDone {
		return // finish tells the outcome, once
	}
	if v.json {
		v.write(eventLine(e))
	}
	switch e.Type {
	case transfer.EventStarted:
		v.log.line(e.Time, "%s", e.Message)
	case transfer.EventProgress:
		v.meter.show(e)
	case transfer.EventPlanned:
		v.plan(e)
	case transfer.EventPhase:
		v.meter.enter(e)
	case transfer.EventSlow:
		v.log.line(e.Time, "slow: %s", e.Message)
	case transfer.EventWarning, transfer.EventDetour:
		v.log.line(e.Time, "warning: %s", withHost(e.Host, e.Message))
	case transfer.EventError:
		v.failure(e)
	case transfer.EventAgent, transfer.EventPreflight: // the plan tells the size too
		if v.verbose {
			v.log.line(e.Time, "%s", withHost(e.Host, e.Message))
		}
	default:
		v.log.line(e.Time, "%s", withHost(e.Host, e.Message))
	}
}

// failure shows an error as it happens; the report tells it with its advice.
func (v *view) failure(e transfer.Event) {
	if e.Err == nil {
		v.log.line(e.Time, "error: %s", withHost(e.Host, e.Message))
		return
	}
	v.log.line(e.Time, "error: %s", errorLine(e.Err))
	printAdvice(v.log.w, "         ", e.Err)
}

// plan shows the plan: all of it with --verbose, its size otherwise. A dry
// run's plan is the run's result and goes to standard output.
func (v *view) plan(e transfer.Event) {
	if e.Plan == nil {
		return
	}
	v.log.line(e.Time, "plan: %s, %d host%s", expected(e.Plan), len(e.Plan.Hosts), onlyIf(len(e.Plan.Hosts) != 1, "s"))
	w := v.log.w
	if v.dryRun {
		w = v.stdout
	}
	if v.json && v.dryRun || !v.dryRun && !v.verbose {
		return
	}
	for _, h := range e.Plan.Hosts {
		fmt.Fprintf(w, "%s:\n", printable(h.Host))
		for _, line := range h.Lines {
			fmt.Fprintf(w, "  %s\n", printable(line))
		}
	}
}

// finish shows the outcome.
func (v *view) finish(r *transfer.Report) {
	v.close()
	if v.kept != nil {
		printReport(logTextWriter{v.kept.log, hclog.Info}, r, v.dryRun)
	}
	if v.json {
		v.write(doneLine(r))
		return
	}
	if v.verbose && len(r.PhaseCalls) > 0 {
		v.log.line(time.Now(), "%s", callsText(r.PhaseCalls))
	}
	printReport(v.stdout, r, v.dryRun)
}

// callsText says how many executor calls each phase has made.
func callsText(phases []transfer.PhaseCalls) string {
	words := make([]string, len(phases))
	for i, p := range phases {
		words[i] = fmt.Sprintf("%s %d", p.Phase, p.Calls)
	}
	return "executor calls: " + strings.Join(words, ", ")
}

// close takes live lines away. What is printed afterwards need not go through
// the log.
func (v *view) close() { v.meter.stop() }

// refused tells a program that reads JSON of a run that did not begin; people
// get the error from execute.
func (v *view) refused(ctx context.Context, req *transfer.Request, err error) {
	if !v.json {
		return
	}
	r := &transfer.Report{ExitCode: exitCode(ctx, err), Source: req.Source, Err: sdk.AsError(err)}
	for _, t := range req.Targets {
		r.Targets = append(r.Targets, transfer.TargetReport{Host: t.Host, Path: t.Path, ExitCode: r.ExitCode, Err: r.Err})
	}
	v.write(doneLine(r))
}

// write puts one line of JSON on standard output. A reader that has gone is
// no reason to stop a transfer.
func (v *view) write(event any) {
	line, err := jsonLine(event)
	if err != nil {
		v.log.line(zeroTime, "an event could not be written as JSON: %s", err)
		return
	}
	v.stdout.Write(line)
}

// expected says how much is to be moved.
func expected(p *transfer.PlanView) string {
	switch {
	case p.Bytes < 0:
		return "an unknown number of bytes"
	case p.Entries < 0:
		return onlyIf(p.AtLeast, "at least ") + bytesText(p.Bytes)
	}
	return fmt.Sprintf("%s%s in %d entries", onlyIf(p.AtLeast, "at least "), bytesText(p.Bytes), p.Entries)
}

// withHost puts the host before a message that concerns one.
func withHost(host, message string) string {
	if host == "" {
		return message
	}
	return host + ": " + message
}

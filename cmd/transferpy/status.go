package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/monitor"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// newStatus is `transferpy status`.
func newStatus(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "status [options] [ID]",
		Short: "Show how far a transfer is, from another terminal",
		Long: `Show how far a transfer is: of one that runs its process is asked, of one whose
process has died or detached its agents are, which changes nothing and does not
keep them waiting any longer. Without an ID all of this user's transfers that have
not ended are shown. Secrets of the executor are read again from where they were.

With --follow one transfer is shown until it has ended, and the exit code is its
own. If its process dies meanwhile, its agents are asked from then on.`,
		ValidArgsFunction: completeIDs(notEnded),
	}
	flags := a.addSettings(cmd, "verbose", "output", "progress", "plugin_dir", "plugin_debug")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on until the transfer has ended")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError("status takes one ID or none", "")
		}
		ids := args
		if len(ids) == 0 {
			var err error
			if ids, err = idsOf(notEnded); err != nil {
				return err
			}
		}
		if follow && len(ids) != 1 {
			return usageError(fmt.Sprintf("--follow shows one transfer, and %d have not ended", len(ids)), "name one of those that transferpy list shows")
		}
		return a.status(cmd.Context(), flags, ids, follow)
	}
	return cmd
}

// status shows transfers one after the other. One that cannot be asked keeps no
// other from being shown.
func (a *app) status(ctx context.Context, flags *settingsFlags, ids []string, follow bool) error {
	var failed []error
	for _, id := range ids {
		err := a.statusOf(ctx, flags, id, follow)
		var exit *exitError
		if errors.As(err, &exit) && exit.err == nil || ctx.Err() != nil {
			return err
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (a *app) statusOf(ctx context.Context, flags *settingsFlags, id string, follow bool) error {
	settings, err := flags.restored(id)
	if err != nil {
		return err
	}
	h, err := transfer.Show("", id)
	if err != nil {
		return err
	}
	view := a.newView(settings)
	view.kept = nil // who only looks leaves nothing in the transfer's log
	defer view.close()
	s := &standing{app: a, view: view, json: settings.JSON, id: id}
	for {
		switch {
		case h.Held && follow:
			err = s.followLiving(ctx)
		case h.Held:
			err = s.showLiving(ctx, h)
		case h.Ended || h.Kept != nil:
			return s.showEnded(h, follow)
		default:
			err = s.showHeld(ctx, settings, h, follow)
		}
		if err != nil || !follow {
			return err
		}
		if h, err = transfer.Show("", id); err != nil {
			return err
		}
	}
}

// standing shows how one transfer stands.
type standing struct {
	app  *app
	view *view
	json bool
	id   string
}

// showLiving asks the process that runs the transfer.
func (s *standing) showLiving(ctx context.Context, h *transfer.History) error {
	dir, err := journal.Dir()
	if err != nil {
		return err
	}
	snapshot, err := monitor.Status(ctx, dir, s.id)
	if err != nil {
		return err
	}
	line := statusJSON{State: "running", PID: snapshot.PID, Phase: snapshot.Phase, Since: &h.Owner.Time}
	return s.show(line, transfer.Event{Members: snapshot.Members, Total: snapshot.Total, AtLeast: snapshot.AtLeast},
		fmt.Sprintf("running: %s, pid %d since %s", snapshot.Phase, snapshot.PID, h.Owner.Time.Local().Format(time.DateTime)))
}

// followLiving shows what that process tells until it ends.
func (s *standing) followLiving(ctx context.Context) error {
	dir, err := journal.Dir()
	if err != nil {
		return err
	}
	err = monitor.Follow(ctx, dir, s.id, snapshotEvents(s.view.event))
	s.view.meter.stop()
	if ctx.Err() != nil || err != nil && !errors.Is(err, sdk.ErrNotFound) && !errors.Is(err, sdk.ErrUnreachable) {
		return err
	}
	_, err = waitEnd(ctx, s.id) // it says its last word before it gives up the journal
	return err
}

// showHeld asks the agents.
func (s *standing) showHeld(ctx context.Context, settings *config.Settings, h *transfer.History, follow bool) error {
	plugins, err := s.app.openPlugins(settings)
	if err != nil {
		return err
	}
	defer plugins.Close()
	var last transfer.Event
	events := s.view.event
	if !follow {
		events = func(e transfer.Event) {
			switch e.Type {
			case transfer.EventProgress:
				last.Members, last.Total, last.AtLeast = e.Members, e.Total, e.AtLeast
			case transfer.EventPhase:
				last.Message = e.Message
			default:
				s.view.event(e)
			}
		}
	}
	if err := transfer.Observe(ctx, s.id, follow, s.app.deps(plugins, settings), events); err != nil {
		return err
	}
	if follow {
		if now, err := transfer.Show("", s.id); err != nil || now.Held || now.Ended || now.Kept != nil {
			return err // somebody has taken it over
		}
		return &exitError{code: transfer.ExitControlLost} // no agent is left to change anything
	}
	return s.show(statusJSON{State: "held", PID: h.Owner.PID, Phase: h.Phase, Message: last.Message}, last, listState(summary(h))+"\n  "+last.Message)
}

// showEnded shows a transfer that nobody moves on.
func (s *standing) showEnded(h *transfer.History, follow bool) error {
	if follow && h.Report != nil {
		s.view.finish(h.Report)
		return &exitError{code: h.Report.ExitCode}
	}
	line := statusJSON{State: "ended"}
	if h.Kept != nil {
		line.State = "partial"
	}
	if h.Outcome != nil {
		line.ExitCode = &h.Outcome.ExitCode
	}
	return s.show(line, transfer.Event{}, listState(summary(h)))
}

// statusJSON is a line of `status --output json`.
type statusJSON struct {
	V        int        `json:"v"`
	Event    string     `json:"event"`
	Time     time.Time  `json:"time"`
	Transfer string     `json:"transfer_id"`
	State    string     `json:"state"` // running, held, partial, ended
	PID      int        `json:"pid,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Phase    string     `json:"phase,omitempty"`
	Message  string     `json:"message,omitempty"`
	ExitCode *int       `json:"exit_code,omitempty"`
	extentJSON
	Members []memberJSON `json:"members"`
}

// show prints the state, and a line for each target.
func (s *standing) show(line statusJSON, e transfer.Event, text string) error {
	now := time.Now()
	if s.json {
		line.V, line.Event, line.Time, line.Transfer, line.Members = 1, "status", now, s.id, []memberJSON{}
		line.set(e.Total, e.AtLeast || len(e.Members) == 0)
		if len(e.Members) == 0 {
			line.extentJSON = extentJSON{}
		}
		for i := range e.Members {
			line.Members = append(line.Members, memberLine(&e.Members[i], now))
		}
		out, err := jsonLine(line)
		if err != nil {
			return err
		}
		_, err = s.app.stdout.Write(out)
		return err
	}
	fmt.Fprintf(s.app.stdout, "%s  %s\n", s.id, printableLines(text))
	for _, row := range table(statusLines(targetsOf(e.Members), now), 1<<10) {
		fmt.Fprintf(s.app.stdout, "  %s\n", row)
	}
	return nil
}

func statusLines(targets []progress.Member, now time.Time) []line {
	var lines []line
	for i := range targets {
		l := lineOf(&targets[i], now)
		if e := targets[i].Status.Error; e != nil && targets[i].Status.Phase == control.PhaseFailed {
			l.amount = printable(e.Message)
		}
		lines = append(lines, l)
	}
	return lines
}

// printableLines is printable for text of several lines of ours.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/monitor"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// newCancel is `transferpy cancel`.
func newCancel(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel [options] ID",
		Short: "End a transfer and undo what it changed, from another terminal",
		Long: `End a transfer. The process that runs it is asked to, and stops and undoes as
after SIGINT; cancel waits for it and shows its report. If that process has died or
detached, cancel does what transferpy cleanup ID does.

The exit code is 0 when the transfer is over and nothing of it is left but for
what --keep-partial keeps; 1 when something may be left, or when it came too late:
a transfer that is publishing already is finished.`,
		ValidArgsFunction: completeIDs(notEnded),
	}
	flags := a.addSettings(cmd, append([]string{"progress", "output"}, common...)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError("cancel takes one ID", "transferpy list shows what can be cancelled")
		}
		settings, err := flags.resolve()
		if err != nil {
			return err
		}
		return a.cancel(cmd.Context(), settings, args[0])
	}
	return cmd
}

// cancel ends one transfer, whoever runs it.
func (a *app) cancel(ctx context.Context, settings *config.Settings, id string) error {
	h, err := transfer.Show("", id)
	if err != nil {
		return err
	}
	switch {
	case h.Held:
		return a.cancelLiving(ctx, settings, id, h.Owner.PID)
	case h.Ended:
		a.say("transfer %s has ended already", id)
		return nil
	}
	return a.cleanupOne(ctx, settings, id)
}

// cancelLiving asks the process that runs the transfer to end it.
func (a *app) cancelLiving(ctx context.Context, settings *config.Settings, id string, pid int) error {
	dir, err := journal.Dir()
	if err != nil {
		return err
	}
	if err := monitor.Cancel(ctx, dir, id); err != nil {
		if h, e := transfer.Show("", id); e == nil && !h.Held {
			return a.cancel(ctx, settings, id) // it has ended, or died, in this moment
		}
		return err
	}
	a.say("process %d was asked to end transfer %s, waiting for it", pid, id)
	h, err := waitEnd(ctx, id)
	if err != nil {
		return err
	}
	if h.Report == nil { // it died in doing so
		return a.cancel(ctx, settings, id)
	}
	view := a.newView(settings)
	view.kept = nil // its own process has logged that
	view.finish(h.Report)
	switch {
	case h.Report.ExitCode == transfer.ExitOK:
		return &exitError{code: transfer.ExitFailed, err: &sdk.Error{Kind: sdk.KindExists, Message: fmt.Sprintf("transfer %s was published before it could be cancelled", id)}}
	case h.Ended || h.Kept != nil:
		return nil
	}
	return &exitError{code: transfer.ExitFailed, err: &sdk.Error{Kind: sdk.KindUnreachable, Message: fmt.Sprintf("something of transfer %s may be left", id), Hint: "transferpy cleanup " + id}}
}

// waitEnd waits until no process runs a transfer any more.
func waitEnd(ctx context.Context, id string) (*transfer.History, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		h, err := transfer.Show("", id)
		if err != nil || !h.Held {
			return h, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/pluginhost"
	"github.com/transferpy/transferpy/core/transfer"
)

// newAttach is `transferpy attach`.
func newAttach(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach [options] ID",
		Short: "Take over a transfer whose process has died or detached",
		Long: `Take over a transfer whose process has died, be it with its host, or that SIGHUP
has detached. Its agents go on by themselves meanwhile, and hold what they have
copied, unpublished, for --control-lost-for. attach shows its progress, publishes,
undoes and reports as that process would have, with its exit code. Settings come
from the journal, secrets are read again from where they were, plugins start anew.

Where nothing had moved yet, or the mode was in the middle of its changes, there
may be nothing to go on with: then all is undone, and attach says so. What was
being undone is undone to its end. Of a transfer that has ended the report is
shown again. While its process lives attach is refused (exit code 255): see
transferpy status and transferpy cancel.`,
		Example: `  transferpy list
  transferpy attach 20261123-153042-k3mq7xwa`,
		ValidArgsFunction: completeIDs(leftBehind),
	}
	flags := a.addSettings(cmd, "verbose", "output", "progress", "plugin_dir", "plugin_debug")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError("attach takes one ID", "transferpy list shows what can be attached to")
		}
		return a.goOn(cmd.Context(), flags, args[0], func(ctx context.Context, deps transfer.Deps, events transfer.Events) *transfer.Report {
			report, _ := transfer.Attach(ctx, args[0], deps, events)
			return report
		})
	}
	return cmd
}

// goOn goes on with a transfer of the journal, with its plugins configured as
// they were.
func (a *app) goOn(ctx context.Context, flags *settingsFlags, id string, run func(context.Context, transfer.Deps, transfer.Events) *transfer.Report) error {
	settings, err := flags.restored(id)
	if settings == nil {
		return err
	}
	view := a.newView(settings)
	defer view.close()
	var plugins *pluginhost.Host
	if err == nil {
		if plugins, err = a.openPlugins(settings); err == nil {
			defer plugins.Close()
			err = startPlugins(ctx, plugins, &settings.Request)
		}
	}
	if err != nil {
		view.refused(ctx, &settings.Request, err)
		return err
	}
	deps, events, release := a.transferDeps(plugins, settings, view.event)
	defer release()
	report := run(ctx, deps, events)
	view.finish(report)
	return &exitError{code: report.ExitCode}
}

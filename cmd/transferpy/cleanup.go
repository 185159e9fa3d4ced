package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/transfer"
)

// newCleanup is `transferpy cleanup`.
func newCleanup(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cleanup [options] [ID]",
		Short: "End transfers whose process has died, and undo what they changed",
		Long: `End transfers whose process has died: what was committed is finished, all else
is undone on every host. Without an ID, all of this user's transfers, but for
those whose agents still hold data and for what --keep-partial has kept: it says
how to take over, end or resume them. With an ID, that one in any case, and what is kept of
it is removed. A transfer that a living process runs is left alone. It may be run
again until it says 0.`,
		ValidArgsFunction: completeIDs(notEnded),
	}
	flags := a.addSettings(cmd, append([]string{"progress", "output"}, common...)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError("cleanup takes one ID or none", "")
		}
		settings, err := flags.resolve()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return a.cleanupOne(cmd.Context(), settings, args[0])
		}
		return a.cleanup(cmd.Context(), settings, func(ctx context.Context, deps transfer.Deps, events transfer.Events) error {
			return transfer.CleanupAll(ctx, deps, events)
		})
	}
	return cmd
}

// cleanupOne ends one transfer, with its plugins configured as they were.
func (a *app) cleanupOne(ctx context.Context, settings *config.Settings, id string) error {
	dir, err := journal.Dir()
	if err != nil {
		return err
	}
	stored, err := transfer.Stored(dir, id)
	if err != nil {
		return err
	}
	if len(settings.PluginDirs) == 0 {
		settings.PluginDirs = stored.PluginDirs
	}
	for plugin, values := range stored.PluginConfig {
		if _, given := settings.Plugins[plugin]; !given {
			settings.Plugins[plugin] = values
		}
	}
	settings.Request.Targets = stored.Targets
	return a.cleanup(ctx, settings, func(ctx context.Context, deps transfer.Deps, events transfer.Events) error {
		return transfer.Cleanup(ctx, id, deps, events)
	})
}

// cleanup starts the plugins and shows what end does.
func (a *app) cleanup(ctx context.Context, settings *config.Settings, end func(context.Context, transfer.Deps, transfer.Events) error) error {
	plugins, err := a.openPlugins(settings)
	if err != nil {
		return err
	}
	defer plugins.Close()
	view := a.newView(settings)
	err = end(ctx, a.deps(plugins, settings), view.event)
	view.close()
	if err != nil {
		return &exitError{code: cleanupCode(ctx, err), err: err}
	}
	return nil
}

// cleanupCode is 1 where something is left to clean up, as for a copy that
// failed; usage and signals are as everywhere.
func cleanupCode(ctx context.Context, err error) int {
	if code := exitCode(ctx, err); code != transfer.ExitRefused {
		return code
	}
	return transfer.ExitFailed
}

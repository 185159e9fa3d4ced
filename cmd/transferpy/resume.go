package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/pluginhost"
	"github.com/transferpy/transferpy/core/transfer"
)

// newResume is `transferpy resume`.
func newResume(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume [options] ID",
		Short: "Go on with a transfer that failed with --keep-partial",
		Long: `Go on with a transfer that failed, was interrupted or whose process died, if it
ran with --keep-partial. It keeps its ID and runs as it was asked for then: ends,
type, checksums, limits and the plugins' settings come from its journal, and
secrets are read again from where they were. Plugins start anew, and the preflight
looks again.

What was sent and is proven to lie on a target's disk is not sent again; a source
file that has changed since then is sent in full. Targets that have their copy
already are left as they are. A resumed transfer may fail and be resumed again.

The options below hold for this attempt alone. The exit codes are those of a
transfer (transferpy --help); 255 also where there is nothing to resume.`,
		Example: `  transferpy --keep-partial db1:/srv/sqldata db2:/srv
  transferpy list
  transferpy resume 20261123-153042-k3mq7xwa`,
	}
	flags := a.addSettings(cmd, "limit_rate", "limit_read", "nice", "verbose", "output", "progress", "plugin_dir", "plugin_debug")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError("resume takes one ID", "transferpy list shows what can be resumed")
		}
		return a.resume(cmd.Context(), flags, args[0])
	}
	return cmd
}

// resume goes on with a transfer, with its plugins configured as they were.
func (a *app) resume(ctx context.Context, flags *settingsFlags, id string) error {
	file, err := config.Load(flags.file, flags.set.Changed("config"))
	if err != nil {
		return err
	}
	settings, err := config.Resolve(flags.given(), nil, file, a.attended)
	if err != nil {
		return err
	}
	adjust := flags.adjustments(settings)
	err = flags.restore(settings, id)
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
	report, _ := transfer.Resume(ctx, id, adjust, a.deps(plugins, settings), view.event)
	view.finish(report)
	return &exitError{code: report.ExitCode}
}

// adjustments are what the command line says for this attempt.
func (f *settingsFlags) adjustments(settings *config.Settings) transfer.Adjustments {
	var adjust transfer.Adjustments
	asked := settings.Request // before it is replaced by the stored one
	if f.set.Changed("limit-rate") {
		adjust.LimitRate = &asked.LimitRate
	}
	if f.set.Changed("limit-read") {
		adjust.LimitRead = &asked.LimitRead
	}
	if f.set.Changed("nice") {
		adjust.Nice = &asked.Nice
	}
	return adjust
}

// restore gives the settings the stored request of a transfer.
func (f *settingsFlags) restore(settings *config.Settings, id string) error {
	dir, err := journal.Dir()
	if err != nil {
		return err
	}
	stored, err := transfer.Stored(dir, id)
	if err != nil {
		return err
	}
	if !f.set.Changed("plugin-dir") {
		settings.PluginDirs = stored.PluginDirs
	}
	return settings.Restore(stored, f.options)
}

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/journal"
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
		ValidArgsFunction: completeIDs(resumable),
	}
	flags := a.addSettings(cmd, "limit_rate", "limit_read", "nice", "verbose", "output", "progress", "plugin_dir", "plugin_debug")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError("resume takes one ID", "transferpy list shows what can be resumed")
		}
		adjust, err := flags.adjustments()
		if err != nil {
			return err
		}
		return a.goOn(cmd.Context(), flags, args[0], func(ctx context.Context, deps transfer.Deps, events transfer.Events) *transfer.Report {
			report, _ := transfer.Resume(ctx, args[0], adjust, deps, events)
			return report
		})
	}
	return cmd
}

// adjustments are what the command line says for this attempt.
func (f *settingsFlags) adjustments() (adjust transfer.Adjustments, err error) {
	settings, err := f.settled()
	if err != nil {
		return adjust, err
	}
	asked := settings.Request
	if f.set.Changed("limit-rate") {
		adjust.LimitRate = &asked.LimitRate
	}
	if f.set.Changed("limit-read") {
		adjust.LimitRead = &asked.LimitRead
	}
	if f.set.Changed("nice") {
		adjust.Nice = &asked.Nice
	}
	return adjust, nil
}

// settled are the settings of a verb that takes its -o options for the plugins
// of a stored request.
func (f *settingsFlags) settled() (*config.Settings, error) {
	file, err := config.Load(f.file, f.set.Changed("config"))
	if err != nil {
		return nil, err
	}
	return config.Resolve(f.given(), nil, file, f.app.attended)
}

// restored are the settings with the stored request of a transfer. Where that
// cannot be had the settings come with the error; where they themselves cannot,
// they are nil.
func (f *settingsFlags) restored(id string) (*config.Settings, error) {
	settings, err := f.settled()
	if err != nil {
		return nil, err
	}
	dir, err := journal.Dir()
	if err != nil {
		return settings, err
	}
	stored, err := transfer.Stored(dir, id)
	if err != nil {
		return settings, err
	}
	if !f.set.Changed("plugin-dir") {
		settings.PluginDirs = stored.PluginDirs
	}
	return settings, settings.Restore(stored, f.options)
}

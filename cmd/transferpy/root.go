package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
)

const rootLong = `transferpy moves a file or a directory tree from one host to one or many,
straight from host to host, and proves that what lies on the targets' disks is
what was read on the source. SOURCE and TARGET are HOST:PATH; a target's path is
an existing directory, into which the source's name is put. Nothing is ever
overwritten. The host localhost is this one; an IPv6 address is written
[2001:db8::1]:/path.

Settings come from flags, then from [DEFAULT] of the configuration file, then
from the defaults below.`

const exitCodes = `
Exit codes:
  0    all good
  1    a copy failed, or the source changed while it was read
  2    usage, or the copy is not on the target afterwards
  3    digests differ
  75   control was lost, or left by SIGHUP: the outcome is not known yet, see
       transferpy attach
  130  ended by SIGINT, everything undone (but for what --keep-partial keeps)
  143  ended by SIGTERM, likewise
  253  replication could not be started again
  254  replication could not be stopped
  255  refused by the preflight or the firewall; nothing was changed
With several targets: 254 and 255 refuse the run; else 253 before 3 before 2
before 1.
`

// newRoot builds the command tree; the root itself is the transfer.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use: `transferpy [options] SOURCE TARGET [TARGET...]
  transferpy [options] --targets QUERY --target-path DIR SOURCE`,
		Short: "Move files and directory trees between hosts, and prove it",
		Long:  rootLong,
		Example: `  transferpy db1:/srv/sqldata db2:/srv db3:/srv
  transferpy --dry-run --verbose db1:/srv/sqldata db2:/srv
  transferpy localhost:/srv/data localhost:/mnt/copy
  transferpy --targets 'A:replica' --target-path /srv --yes 37 db1:/srv/sqldata`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true, // execute prints them
		SilenceUsage:  true,

		DisableFlagsInUseLine: true,
	}
	root.SetFlagErrorFunc(flagError)
	root.SetUsageTemplate(root.UsageTemplate() + "{{if not .HasParent}}" + exitCodes + "{{end}}")
	flags := a.addSettings(root)
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError("a SOURCE and at least one TARGET are needed", "see transferpy --help")
		}
		if !strings.Contains(args[0], ":") {
			return unknownCommand(cmd, args[0])
		}
		return a.transfer(cmd.Context(), flags, args)
	}
	root.AddCommand(newList(a), newShow(a), newStatus(a), newAttach(a), newCancel(a), newResume(a), newCleanup(a), newVerify(a), newExec(a), newDoctor(a), newPlugin(a), newVersion(a))
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true
	}
	return root
}

// unknownCommand is for a first operand that is no HOST:PATH.
func unknownCommand(cmd *cobra.Command, word string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	hint := "see transferpy --help"
	if near := fields.Nearest(word, names); near != "" {
		hint = "did you mean transferpy " + near + "?"
	}
	return usageError(sdk.Raw(word).Display()+" is neither HOST:PATH nor a command", hint)
}

// transfer carries out the root command.
func (a *app) transfer(ctx context.Context, flags *settingsFlags, operands []string) error {
	settings, err := flags.resolve()
	if err != nil {
		return err
	}
	if err := settings.Operands(operands); err != nil {
		return err
	}
	view := a.newView(settings)
	defer view.close()
	plugins, err := a.openPlugins(settings)
	if err == nil {
		defer plugins.Close()
		if settings.Query.Text != "" {
			err = a.findTargets(ctx, plugins, settings)
		}
		if err == nil {
			err = startPlugins(ctx, plugins, &settings.Request)
		}
	}
	if err != nil {
		view.refused(ctx, &settings.Request, err)
		a.noteRefused(ctx, settings, err)
		return err
	}
	deps, events, release := a.transferDeps(plugins, settings, view.event)
	defer release()
	report, _ := transfer.Run(ctx, settings.Request, deps, events)
	view.finish(report)
	return &exitError{code: report.ExitCode}
}

// deps are what a run needs of this program.
func (a *app) deps(plugins transfer.Plugins, settings *config.Settings) transfer.Deps {
	deps := transfer.Deps{Plugins: plugins, Version: version(), Firewalls: autoFirewalls()}
	deps.Log = slog.New(a.log.Handler())
	if settings.Verbose {
		terminal := slog.NewTextHandler(&lineWriter{w: a.stderr}, &slog.HandlerOptions{Level: slog.LevelInfo})
		deps.Log = slog.New(slog.NewMultiHandler(a.log.Handler(), terminal))
	}
	return deps
}

// say prints a line for people on standard error.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, "transferpy: %s\n", printable(fmt.Sprintf(format, args...)))
}

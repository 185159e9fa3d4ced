package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/pluginhost"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
)

// newPlugin is `transferpy plugin` with its verbs.
func newPlugin(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "plugin", Short: "Show plugins and check their configuration"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError(fmt.Sprintf("plugin has no verb %q", args[0]), "see transferpy plugin --help")
		}
		return cmd.Help()
	}
	cmd.Args = cobra.ArbitraryArgs
	list := a.pluginVerb("list", "List bundled and site plugins; each is asked for its description", a.pluginList)
	info := a.pluginVerb("info PLUGIN", "Show what a plugin says of itself and of its settings; PLUGIN is NAME or KIND/NAME", a.pluginInfo)
	check := a.pluginVerb("check [PLUGIN...]", "Start and configure plugins (default: those of the configuration), touching no host", a.pluginCheck)
	cmd.AddCommand(list, info, check)
	return cmd
}

// pluginVerb makes one verb: it resolves the settings and opens the plugins.
func (a *app) pluginVerb(use, short string, run func(context.Context, *config.Settings, *pluginhost.Host, []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	flags := a.addSettings(cmd, append([]string{"transfer_type", "firewall"}, common...)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		settings, err := flags.resolve()
		if err != nil {
			return err
		}
		plugins, err := a.openPlugins(settings)
		if err != nil {
			return err
		}
		defer plugins.Close()
		return run(cmd.Context(), settings, plugins, args)
	}
	return cmd
}

func (a *app) pluginList(ctx context.Context, _ *config.Settings, plugins *pluginhost.Host, args []string) error {
	if len(args) > 0 {
		return usageError("plugin list takes no operand", "")
	}
	found, err := plugins.List(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KIND\tNAME\tVERSION\tFROM\tSUMMARY")
	for _, f := range found {
		summary := f.Description.Summary
		if f.Err != nil {
			summary = "UNUSABLE: " + f.Err.Error()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", f.Kind, f.Name, printable(f.Description.Version), printable(f.Path), printable(summary))
	}
	return table.Flush()
}

func (a *app) pluginInfo(ctx context.Context, _ *config.Settings, plugins *pluginhost.Host, args []string) error {
	if len(args) != 1 {
		return usageError("plugin info takes one PLUGIN", "transferpy plugin list shows them")
	}
	chosen, err := choose(ctx, plugins, args)
	if err != nil {
		return err
	}
	for _, c := range chosen {
		f, err := plugins.Describe(ctx, c.kind, c.name)
		if err != nil {
			return pluginError(ctx, err)
		}
		describe(a.stdout, f)
	}
	return nil
}

// describe prints what a plugin says of itself.
func describe(w io.Writer, f pluginhost.Found) {
	d := f.Description
	fmt.Fprintf(w, "%s %s %s (sdk %s), %s\n  %s\n", f.Kind, f.Name, printable(d.Version), printable(d.SDKVersion), printable(f.Path), printable(d.Summary))
	if len(d.Tools) > 0 {
		fmt.Fprintf(w, "  tools on hosts: %s\n", printable(strings.Join(d.Tools, ", ")))
	}
	if len(d.Environment) > 0 {
		fmt.Fprintf(w, "  environment: %s\n", printable(strings.Join(d.Environment, ", ")))
	}
	if d.Kind == sdk.KindExecutor {
		t := d.Executor
		fmt.Fprintf(w, "  limits: command %d bytes, stdin %d, output %d, hosts %s, calls at once %s, one call %s, a poll every %s\n",
			t.MaxCommand, t.MaxStdin, t.MaxOutput, orNone(t.MaxHosts), orNone(t.MaxCalls), t.MaxWait, t.PollEvery)
	}
	if len(d.Fields) == 0 {
		fmt.Fprintln(w, "  it has no settings")
		return
	}
	fmt.Fprintf(w, "  settings, in a section [%s %s] or by -o %s.KEY=VALUE:\n", f.Kind, f.Name, f.Name)
	for _, field := range d.Fields {
		var notes []string
		if field.Required {
			notes = append(notes, "required")
		}
		if field.Secret {
			notes = append(notes, "secret: @FILE or $VARIABLE")
		}
		if len(field.Enum) > 0 {
			notes = append(notes, "one of "+strings.Join(field.Enum, ", "))
		}
		if field.Default != "" {
			notes = append(notes, "default "+field.Default)
		}
		fmt.Fprintf(w, "    %s (%s)  %s%s\n", printable(field.Name), field.Type, printable(field.Help), onlyIf(len(notes) > 0, "; "+printable(strings.Join(notes, "; "))))
	}
}

func orNone(n int) string {
	if n == 0 {
		return "as it likes"
	}
	return fmt.Sprint(n)
}

func (a *app) pluginCheck(ctx context.Context, settings *config.Settings, plugins *pluginhost.Host, args []string) error {
	if len(args) == 0 {
		args = []string{"executor/" + settings.Executor, "mode/" + settings.Request.Mode}
		firewalls := autoFirewalls()
		if settings.Request.Firewall != transfer.FirewallAuto {
			firewalls = []string{settings.Request.Firewall}
		}
		for _, name := range firewalls {
			args = append(args, "firewall/"+name)
		}
		args = append(args, slices.Collect(maps.Keys(settings.Plugins))...)
		slices.Sort(args)
		args = slices.Compact(args)
	}
	chosen, err := choose(ctx, plugins, args)
	if err != nil {
		return err
	}
	wrong := false
	for _, c := range chosen {
		var err error
		switch c.kind {
		case sdk.KindExecutor:
			_, _, err = plugins.Executor(ctx, c.name)
		case sdk.KindMode:
			_, _, err = plugins.Mode(ctx, c.name)
		case sdk.KindFirewall:
			_, _, err = plugins.Firewall(ctx, c.name)
		}
		if err != nil {
			wrong = true
			printError(a.stderr, err)
			continue
		}
		fmt.Fprintf(a.stdout, "%s %s: ok\n", c.kind, c.name)
	}
	if wrong {
		return &exitError{code: transfer.ExitUsage}
	}
	return nil
}

// pluginID names a plugin.
type pluginID struct {
	kind sdk.Kind
	name string
}

// choose turns each of words, NAME or KIND/NAME, into plugins. A NAME that
// several kinds have means all of them.
func choose(ctx context.Context, plugins *pluginhost.Host, words []string) ([]pluginID, error) {
	var chosen []pluginID
	var found []pluginhost.Found
	for _, word := range words {
		if kind, name, ok := strings.Cut(word, "/"); ok {
			chosen = append(chosen, pluginID{sdk.Kind(kind), name})
			continue
		}
		if found == nil {
			var err error
			if found, err = plugins.List(ctx); err != nil {
				return nil, err
			}
		}
		before := len(chosen)
		var names []string
		for _, f := range found {
			names = append(names, f.Name)
			id := pluginID{f.Kind, f.Name}
			if f.Name == word && !slices.Contains(chosen[before:], id) {
				chosen = append(chosen, id)
			}
		}
		if len(chosen) == before {
			hint := "transferpy plugin list shows them"
			if near := fields.Nearest(word, names); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			return nil, usageError(fmt.Sprintf("there is no plugin %q", word), hint)
		}
	}
	return chosen, nil
}

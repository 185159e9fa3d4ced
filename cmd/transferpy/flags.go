package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
)

// settingsFlags are the flags by which a verb's settings are told.
type settingsFlags struct {
	app     *app
	set     *pflag.FlagSet
	keys    []config.Key
	file    string
	options []string
}

// common are the settings of verbs that reach hosts or plugins but make no
// transfer.
var common = []string{"executor", "verbose", "plugin_dir", "plugin_debug"}

// addSettings gives cmd --config, -o and the flags of the named keys; of all
// keys when none is named.
func (a *app) addSettings(cmd *cobra.Command, names ...string) *settingsFlags {
	f := &settingsFlags{app: a, set: cmd.Flags()}
	f.set.SortFlags = false
	f.set.StringVar(&f.file, "config", config.DefaultPath, "configuration `FILE`")
	for _, k := range config.Keys {
		if k.Flag == "" || len(names) > 0 && !slices.Contains(names, k.Name) {
			continue
		}
		f.keys = append(f.keys, k)
		f.add(k)
		if values := valuesOf(k); len(values) > 0 {
			if err := cmd.RegisterFlagCompletionFunc(k.Flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
				panic(err) // the flag has just been declared
			}
		}
	}
	f.set.StringArrayVarP(&f.options, "option", "o", nil, "set a plugin's option: `PLUGIN.KEY=VALUE`; a secret is given as @FILE or $VARIABLE; may be repeated")
	return f
}

// valuesOf are the values of a key that a shell can complete.
func valuesOf(k config.Key) []cobra.Completion {
	kind := map[string]sdk.Kind{"executor": sdk.KindExecutor, "transfer_type": sdk.KindMode, "firewall": sdk.KindFirewall}[k.Name]
	if kind == "" {
		return k.Enum
	}
	var values []cobra.Completion
	if kind == sdk.KindFirewall {
		values = append(values, transfer.FirewallAuto)
	}
	for _, name := range bundledNames() {
		if plugin, ok := strings.CutPrefix(name, string(kind)+"/"); ok {
			values = append(values, plugin)
		}
	}
	return values
}

// add declares the flag of one key. Values stay text: core/config parses
// those of flags and file alike, with the same words for what is wrong.
func (f *settingsFlags) add(k config.Key) {
	help := k.Help
	switch {
	case k.Type == sdk.TypeBool:
		on := k.Default == "yes"
		if k.Negate && on {
			help += " (default)"
		}
		f.set.Bool(k.Flag, on, help)
		// pflag would print "(default true)" after what has been said.
		f.set.Lookup(k.Flag).DefValue = "false"
		if k.Negate {
			f.set.Bool("no-"+k.Flag, false, "the opposite of --"+k.Flag+onlyIf(!on, " (default)"))
		}
	case k.Type == sdk.TypeList:
		f.set.StringArray(k.Flag, nil, help)
	default:
		f.set.String(k.Flag, "", help+onlyIf(k.Default != "", " (default: "+k.Default+")"))
	}
}

func onlyIf(condition bool, text string) string {
	if condition {
		return text
	}
	return ""
}

// given returns what the command line says, in the form that core/config
// takes.
func (f *settingsFlags) given() config.Flags {
	given := config.Flags{}
	for _, k := range f.keys {
		for _, name := range []string{k.Flag, "no-" + k.Flag} {
			flag := f.set.Lookup(name)
			if flag == nil || !flag.Changed {
				continue
			}
			if many, ok := flag.Value.(pflag.SliceValue); ok {
				given[name] = many.GetSlice()
			} else {
				given[name] = []string{flag.Value.String()}
			}
		}
	}
	return given
}

// resolve reads the configuration file and merges it with the flags. What has
// no effect is said on standard error.
func (f *settingsFlags) resolve() (*config.Settings, error) {
	file, err := config.Load(f.file, f.set.Changed("config"))
	if err != nil {
		return nil, err
	}
	settings, err := config.Resolve(f.given(), f.options, file, f.app.attended)
	if err != nil {
		return nil, err
	}
	for _, w := range settings.Warnings {
		f.app.say("warning: %s", w)
	}
	return settings, nil
}

// flagError rewrites pflag's words for an unknown flag, with the nearest one.
func flagError(cmd *cobra.Command, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return usageError(err.Error(), "see "+cmd.CommandPath()+" --help")
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	hint := "see " + cmd.CommandPath() + " --help"
	if near := fields.Nearest(name, names); near != "" {
		hint = "did you mean --" + near + "?"
	}
	return usageError("unknown flag --"+name, hint)
}

// Package config turns the command line's flags and the configuration file
// into one validated transfer.Request and the settings around it. Flags win
// over the file, the file over the built-in defaults; every mistake is told
// with where it stands and the nearest right name, before any host is
// touched.
package config

import (
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// DefaultPath is where transfer.py has its configuration file.
const DefaultPath = "/etc/transferpy/transferpy.conf"

// Key is one setting: a flag, a key of [DEFAULT], or both.
type Key struct {
	Name    string // key of [DEFAULT]: lower case, underscores
	Flag    string // without dashes; empty: the file only
	Type    sdk.FieldType
	Default string   // text form; empty: as Help says
	Negate  bool     // a TypeBool flag with a --no- form
	Enum    []string // if not empty, the only values
	Only    bool     // the command line only
	Help    string   // one line, for --help
}

// Keys lists every setting, in the order of --help.
var Keys = []Key{
	{Name: "port", Flag: "port", Type: sdk.TypeInt, Default: "0", Help: "TCP `PORT` of each target; 0: the first free one of 4400-4499"},
	{Name: "transfer_type", Flag: "type", Type: sdk.TypeString, Default: "file", Help: "the `MODE`: a mode plugin's name"},
	{Name: "compress", Flag: "compress", Type: sdk.TypeBool, Default: "yes", Negate: true, Help: "compress what is sent"},
	{Name: "encrypt", Flag: "encrypt", Type: sdk.TypeBool, Default: "yes", Negate: true, Help: "encrypt what is sent (without: still authenticated and signed)"},
	{Name: "checksum", Flag: "checksum", Type: sdk.TypeBool, Default: "yes", Negate: true, Help: "read back what was written and compare digests; by default for type file only"},
	{Name: "parallel_checksum", Flag: "parallel-checksum", Type: sdk.TypeBool, Default: "no", Negate: true, Help: "compare digests of what was received; takes the place of the default --checksum"},
	{Name: "stop_slave", Flag: "stop-slave", Type: sdk.TypeBool, Default: "no", Help: "stop replication while reading; type xtrabackup only"},
	{Name: "verbose", Flag: "verbose", Type: sdk.TypeBool, Default: "no", Help: "say more on standard error"},

	{Name: "executor", Flag: "executor", Type: sdk.TypeString, Default: "ssh", Help: "`NAME` of the executor that runs commands on hosts: ssh, cumin, salt or a plugin; the host localhost always has executor local"},
	{Name: "firewall", Flag: "firewall", Type: sdk.TypeString, Default: "auto", Help: "`NAME` of the firewall plugin that opens the targets' port before it is tried; auto: only where it is closed, by what filters there; none: never"},
	{Name: "host_firewall", Type: sdk.TypeList},
	{Name: "codec", Flag: "codec", Type: sdk.TypeString, Default: "auto", Enum: codecs, Help: "compress with `CODEC`: " + codecHelp},
	{Name: "compress_level", Flag: "compress-level", Type: sdk.TypeInt, Help: "`LEVEL` of --codec zstd or minlz, 1 to 3: 1, the default, is the fastest, 3 makes the fewest bytes"},
	{Name: "limit_rate", Flag: "limit-rate", Type: sdk.TypeSize, Help: "send at most `RATE` bytes a second: 50M is 50,000,000, 50Mi is 52,428,800 (default: no limit)"},
	{Name: "limit_read", Flag: "limit-read", Type: sdk.TypeSize, Help: "read at most `RATE` bytes a second on the source (default: no limit)"},
	{Name: "nice", Flag: "nice", Type: sdk.TypeInt, Default: "10", Help: "nice `VALUE`, 0 to 19, of what runs on the source; above 0 its I/O priority is the lowest too"},
	{Name: "owner", Flag: "owner", Type: sdk.TypeString, Default: "name", Help: "owners on the targets: name (else number), numeric, or `USER:GROUP`"},
	{Name: "data_network", Flag: "data-network", Type: sdk.TypeList, Help: "send data to addresses inside `CIDR` only; may be repeated"},
	{Name: "data_address", Type: sdk.TypeList},
	{Name: "retry_for", Flag: "retry-for", Type: sdk.TypeDuration, Default: "180s", Help: "make a lost data link anew for this `TIME` before the target has failed"},
	{Name: "control_lost_for", Flag: "control-lost-for", Type: sdk.TypeDuration, Help: "a `TIME` for which agents hold on without this command (default: 24h from a terminal, else 1h)"},
	{Name: "slow_target", Flag: "slow-target", Type: sdk.TypeString, Enum: slowTargets, Help: "`WHAT` to do about a target that holds the others up: wait, or detach and serve it after them (default: detach where the source can be read again)"},
	{Name: "link_timeout", Type: sdk.TypeDuration, Default: "30s"},
	{Name: "keep_partial", Flag: "keep-partial", Type: sdk.TypeBool, Default: "no", Help: "keep what a failed transfer has moved, for transferpy resume ID to go on with"},
	{Name: "plugin_shadow", Type: sdk.TypeBool, Default: "no"},
	{Name: "plugin_dir", Flag: "plugin-dir", Type: sdk.TypeList, Help: "`DIR` to look for site plugins in, instead of the usual ones; may be repeated"},

	{Name: "targets", Flag: "targets", Type: sdk.TypeString, Only: true, Help: "copy to all hosts that the executor finds by `QUERY`, in place of TARGET...; needs --target-path"},
	{Name: "target_path", Flag: "target-path", Type: sdk.TypeString, Only: true, Help: "the `DIR` on each host of --targets"},
	{Name: "yes", Flag: "yes", Type: sdk.TypeInt, Only: true, Help: "go on without asking if --targets finds exactly `N` hosts to copy to; needed without a terminal"},
	{Name: "manifest", Flag: "manifest", Type: sdk.TypeString, Only: true, Help: "write the list of what was copied to `FILE`, which must not exist; transferpy verify checks a copy against it"},
	{Name: "force_live", Flag: "force-live", Type: sdk.TypeBool, Only: true, Help: "read a source that looks as if it were in use"},
	{Name: "reason", Flag: "reason", Type: sdk.TypeString, Only: true, Help: "`TEXT` that is noted in the journal"},
	{Name: "dry_run", Flag: "dry-run", Type: sdk.TypeBool, Only: true, Help: "look and plan, change nothing; with --verbose every command and path"},
	{Name: "output", Flag: "output", Type: sdk.TypeString, Default: "text", Enum: []string{"text", "json"}, Only: true, Help: "`FORM` of the report on standard output: text, or json (one object a line)"},
	{Name: "progress", Flag: "progress", Type: sdk.TypeString, Default: "auto", Enum: []string{"auto", "always", "never"}, Only: true, Help: "`WHEN` to show progress on standard error: auto, always, never"},
	{Name: "plugin_debug", Flag: "plugin-debug", Type: sdk.TypeBool, Only: true, Help: "show what plugins log"},
}

// codecs are the values of --codec.
var codecs = []string{"auto", "zstd", "minlz", "none"}

const codecHelp = "zstd, minlz, none, or auto, which steps between these as the link and the processors ask for"

// slowTargets are the values of --slow-target; empty: as the source allows.
var slowTargets = []string{control.SlowDetach, control.SlowWait}

// lookupKey returns the key of that name, or nil.
func lookupKey(name string) *Key {
	for i := range Keys {
		if Keys[i].Name == name {
			return &Keys[i]
		}
	}
	return nil
}

// fileKeys are the names that may stand in [DEFAULT].
func fileKeys() []string {
	var names []string
	for _, k := range Keys {
		if !k.Only {
			names = append(names, k.Name)
		}
	}
	return names
}

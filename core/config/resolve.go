package config

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// How long agents hold on without their controller when nobody says: a day
// where a person sits at a terminal and can attach, an hour where none does.
const (
	holdAttended   = 24 * time.Hour
	holdUnattended = time.Hour
)

// Flags are what the command line says, by Key.Flag, or "no-" and it for a
// negation; only what was given is in it. A bool's text is yes or no.
type Flags map[string][]string

// Settings are everything that flags and file decide.
type Settings struct {
	// Request is complete but for its ends until Operands was called.
	Request transfer.Request
	// Executor runs commands on every host but localhost.
	Executor string
	// Query finds the targets, where none are named.
	Query       Query
	PluginDirs  []string // empty: the usual ones
	PluginDebug bool
	// PluginShadow lets a site's plugin take the place of a bundled one of
	// its name.
	PluginShadow bool
	Verbose      bool
	JSON         bool   // --output json
	Progress     string // auto, always or never
	// Plugins are the raw values for each "KIND/NAME", from the file's
	// sections and from -o, used by this run or not.
	Plugins map[string]map[string][]string
	// Pins are the only content, as SHA-256 in hex, that the file of a site's
	// plugin may have, by "KIND/NAME": the key sha256 of its section.
	Pins map[string]string
	// Warnings say which settings have no effect, one line each.
	Warnings []string

	addresses map[string]string // data_address, by host
	firewalls map[string]string // host_firewall, by host
}

// Resolve merges flags, the -o options (PLUGIN.KEY=VALUE) and file. attended
// says that a person sits at a terminal. All mistakes are told at once
// (errors.Join of *sdk.Error).
func Resolve(flags Flags, options []string, file *File, attended bool) (*Settings, error) {
	v, err := merge(flags, file)
	if err != nil {
		return nil, err
	}
	s := &Settings{
		Executor:     parsed(v, "executor", parseName),
		PluginDirs:   splitList(v.list("plugin_dir")),
		PluginDebug:  v.bool("plugin_debug"),
		PluginShadow: v.bool("plugin_shadow"),
		Pins:         file.pins,
		Verbose:      v.bool("verbose"),
		JSON:         v.enum("output") == "json",
		Progress:     v.enum("progress"),
	}
	s.Request = v.request(attended)
	s.Query = v.query()
	s.addresses = v.addresses()
	s.firewalls = v.firewalls()
	v.verification(s)
	v.compression(s)
	if s.Plugins, err = pluginValues(file, options, s); err != nil {
		v.errs = append(v.errs, err)
	}
	if err := errors.Join(v.errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Operands takes SOURCE TARGET... and so completes the Request; with a Query
// it takes the SOURCE alone, and Found completes it.
func (s *Settings) Operands(operands []string) error {
	if err := s.Query.check(len(operands)); err != nil {
		return err
	}
	var ends []transfer.Endpoint
	for _, text := range operands {
		end, err := s.Endpoint(text)
		if err != nil {
			return err
		}
		if len(ends) > 0 && slices.Contains(ends[1:], end) {
			return configError("target %s is named twice", sdk.Raw(text).Display())
		}
		ends = append(ends, end)
	}
	if s.Query.Text != "" {
		s.Request.Source, s.Request.Targets = ends[0], nil
		return nil
	}
	return s.complete(ends)
}

// complete takes the ends of the transfer, the source first, and what of the
// settings belongs to them.
func (s *Settings) complete(ends []transfer.Endpoint) error {
	if len(ends) > control.MaxMembers {
		return configError("%d targets are more than one transfer can have (%d)", len(ends)-1, control.MaxMembers-1)
	}
	s.Request.Source, s.Request.Targets = ends[0], ends[1:]
	s.Request.DataAddresses = ofHosts(s.addresses, ends)
	s.Request.HostFirewalls = ofHosts(s.firewalls, ends[1:])
	s.Request.PluginDirs = nil
	for _, dir := range s.PluginDirs {
		abs, err := filepath.Abs(dir) // what is resumed may be so from elsewhere
		if err != nil {
			return err
		}
		s.Request.PluginDirs = append(s.Request.PluginDirs, abs)
	}
	s.Request.PluginConfig = map[string]map[string][]string{}
	for _, plugin := range s.used() {
		// What no end uses is not started either, so nobody has checked that
		// no secret stands there in the open.
		name, executor := strings.CutPrefix(plugin, "executor/")
		unused := executor && !slices.ContainsFunc(ends, func(e transfer.Endpoint) bool { return e.Executor == name })
		if values := s.Plugins[plugin]; len(values) > 0 && !unused {
			s.Request.PluginConfig[plugin] = values
		}
	}
	return nil
}

// ExecutorFor names the executor for a host: local for localhost.
func (s *Settings) ExecutorFor(host string) string {
	if host == "localhost" {
		return "local"
	}
	return s.Executor
}

// used lists the plugins, as "KIND/NAME", that a transfer with these settings
// may start.
func (s *Settings) used() []string {
	used := []string{"executor/" + s.Executor}
	if s.Executor != "local" {
		used = append(used, "executor/local")
	}
	used = append(used, "mode/"+s.Request.Mode)
	var configured []string // auto may choose any of them
	for plugin := range s.Plugins {
		if name, ok := strings.CutPrefix(plugin, "firewall/"); ok {
			configured = append(configured, name)
		}
	}
	for _, name := range s.Request.FirewallPlugins(configured) {
		used = append(used, "firewall/"+name)
	}
	return used
}

// request builds all of the Request that needs no look at other settings.
func (v *values) request(attended bool) transfer.Request {
	hold := holdUnattended
	if attended {
		hold = holdAttended
	}
	r := transfer.Request{
		Mode:           parsed(v, "transfer_type", parseName),
		Firewall:       parsed(v, "firewall", parseName),
		Port:           v.int("port", math.MaxUint16),
		Compress:       v.bool("compress"),
		Codec:          v.enum("codec"),
		Encrypt:        v.bool("encrypt"),
		StopSlave:      v.bool("stop_slave"),
		Owner:          parsed(v, "owner", parseOwner),
		LimitRate:      parsed(v, "limit_rate", parseRate),
		SlowAsked:      v.byFlag("slow_target"),
		LimitRead:      parsed(v, "limit_read", parseRate),
		Nice:           v.int("nice", 19),
		RetryFor:       parsed(v, "retry_for", parseDuration),
		ControlLostFor: parsed(v, "control_lost_for", parseDuration),
		LinkTimeout:    parsed(v, "link_timeout", parseDuration),
		KeepPartial:    v.bool("keep_partial"),
		ForceLive:      v.bool("force_live"),
		DryRun:         v.bool("dry_run"),
		Reason:         v.get("reason").text,
		Manifest:       parsed(v, "manifest", parseFile),
	}
	if v.get("slow_target").text != "" || r.SlowAsked {
		r.SlowTarget = v.enum("slow_target")
	}
	if r.ControlLostFor == 0 {
		r.ControlLostFor = hold
	}
	networks, err := parseNetworks(splitList(v.list("data_network")))
	if err != nil {
		v.fail(v.get("data_network"), err)
	}
	r.DataNetworks = networks
	return r
}

// verification applies what follows from what, as transfer.py has it:
// decompress implies compress, --parallel-checksum turns a --checksum that
// nobody asked for on the command line off, --checksum wins over the parallel
// one otherwise and is by default for mode file only, stop_slave for xtrabackup
// only.
func (v *values) verification(s *Settings) {
	r := &s.Request
	warn := func(format string, args ...any) { s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...)) }
	checksum, parallel := v.bool("checksum"), v.bool("parallel_checksum")
	if !v.byFlag("checksum") && (r.Mode != "file" || v.byFlag("parallel_checksum") && parallel) {
		checksum = false // whether what another mode writes can be read back is the mode's to say
	}
	if checksum && parallel {
		warn("%s has no effect beside a checksum that reads back (%s)", v.get("parallel_checksum").where, v.get("checksum").where)
		parallel = false
	}
	switch {
	case checksum:
		r.Verify = control.VerifyReadBack
	case parallel:
		r.Verify = control.VerifyReceived
	default:
		r.Verify = control.VerifySigned
	}
	if r.StopSlave && r.Mode != "xtrabackup" {
		if v.byFlag("stop_slave") {
			warn("--stop-slave has no effect for type %s", r.Mode)
		}
		r.StopSlave = false
	}
	if r.Mode == "decompress" && !r.Compress {
		warn("%s has no effect for type decompress: what is sent is compressed already", v.get("compress").where)
		r.Compress = true
	}
}

// compression applies what follows from --no-compress and from the codec:
// only a codec that is named has levels. auto finds its own, and none has none.
func (v *values) compression(s *Settings) {
	r := &s.Request
	level := v.get("compress_level")
	switch {
	case level.text == "" && !v.byFlag("compress_level"):
	case r.Compress && r.Codec != "auto" && r.Codec != "none":
		r.CodecLevel = parsed(v, "compress_level", func(text string) (int, error) { return parseInt(text, 1, control.CodecLevels) })
	case !r.Compress || v.byFlag("codec") && !v.byFlag("compress_level"):
		s.Warnings = append(s.Warnings, fmt.Sprintf("%s has no effect without --codec zstd or minlz", level.where))
	default:
		e := configError("%s: the codec %s has no levels", level.where, r.Codec)
		e.Hint = "name the codec: --codec zstd or --codec minlz; auto chooses the level too"
		v.errs = append(v.errs, e)
	}
	if !r.Compress {
		if v.byFlag("codec") && r.Codec != "none" && r.Codec != "auto" {
			v.errs = append(v.errs, configError("--codec %s and %s contradict each other", r.Codec, v.get("compress").where))
		}
		r.Codec = "none"
	}
}

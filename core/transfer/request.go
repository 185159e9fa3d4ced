// Package transfer runs one transfer from the control host: preflight, plan,
// run, verify, commit, undo. It reaches the hosts through core/remote and
// knows nothing of command lines or terminals.
package transfer

import (
	"context"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// Request is one transfer as it was asked for, complete and validated. It is
// stored in the journal and holds no secrets.
type Request struct {
	Source  Endpoint   `json:"source"`
	Targets []Endpoint `json:"targets"`

	Mode     string `json:"mode"`     // plugin name
	Firewall string `json:"firewall"` // plugin name, FirewallAuto or FirewallNone
	// HostFirewalls are the same for the targets on single hosts.
	HostFirewalls map[string]string `json:"host_firewalls,omitempty"`
	Port          int               `json:"port"` // 0: choose

	Compress bool   `json:"compress"`
	Codec    string `json:"codec"`
	// CodecLevel is that of zstd or minlz; 0: the default.
	CodecLevel int                 `json:"codec_level,omitempty"`
	Encrypt    bool                `json:"encrypt"`
	Verify     control.VerifyLevel `json:"verify"`
	StopSlave  bool                `json:"stop_slave,omitempty"`
	Owner      string              `json:"owner"`
	LimitRate  int64               `json:"limit_rate,omitempty"` // bytes a second
	LimitRead  int64               `json:"limit_read,omitempty"` // bytes a second, read on the source
	// SlowTarget is control.SlowWait or SlowDetach; empty: SlowDetach where the
	// source can be read again. A SlowDetach where it cannot is refused if it was
	// asked for this transfer (SlowAsked), else it gives way.
	SlowTarget string `json:"slow_target,omitempty"`
	SlowAsked  bool   `json:"slow_asked,omitempty"`
	// Nice is the nice value of the source's agent and of what that starts,
	// whose I/O priority is lowered too; 0: both stay as they are.
	Nice int `json:"nice,omitempty"`

	DataNetworks []string `json:"data_networks,omitempty"`
	// DataAddresses are IP addresses by host, which diallers try first.
	DataAddresses  map[string]string `json:"data_addresses,omitempty"`
	RetryFor       time.Duration     `json:"retry_for"` // how long a lost data link is made anew; 0: 3 minutes
	ControlLostFor time.Duration     `json:"control_lost_for"`
	LinkTimeout    time.Duration     `json:"link_timeout"`
	KeepPartial    bool              `json:"keep_partial,omitempty"` // leave what a failed transfer has moved, for Resume
	ForceLive      bool              `json:"force_live,omitempty"`
	DryRun         bool              `json:"dry_run,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	// Manifest is a file, absolute, to be made on the control host: the list
	// of what was copied.
	Manifest string `json:"manifest,omitempty"`

	// PluginDirs are where the site's plugins were looked for, absolute;
	// empty: the usual ones.
	PluginDirs []string `json:"plugin_dirs,omitempty"`
	// PluginConfig is what the plugins were configured with, by
	// "KIND/NAME": raw text values, secrets as references only.
	PluginConfig map[string]map[string][]string `json:"plugin_config,omitempty"`
}

// Endpoint is one end as the operator wrote it.
type Endpoint struct {
	Executor string  `json:"executor"` // plugin name; "local" for localhost
	Host     string  `json:"host"`
	Path     sdk.Raw `json:"path"`
}

// Plugins gives the transfer its plugins, described, checked and configured.
// pluginhost.Host implements it. The context bounds the start only.
type Plugins interface {
	Executor(ctx context.Context, name string) (sdk.Executor, sdk.Description, error)
	Mode(ctx context.Context, name string) (sdk.Mode, sdk.Description, error)
	Firewall(ctx context.Context, name string) (sdk.Firewall, sdk.Description, error)
}

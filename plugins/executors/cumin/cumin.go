// Package cumin is the executor that runs commands through Wikimedia's cumin:
// the one that is installed, with its own configuration. What cumin loses
// (exit codes, bytes that are no UTF-8, stdout apart from stderr, stdin) the
// wrapper of sdk/shell keeps; files go through the ssh that cumin's
// configuration describes.
package cumin

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

const (
	// maxOutput keeps cumin's memory and its JSON small.
	maxOutput = 256 << 10
	// maxStdin and maxCommand fit together into the one argument that cumin,
	// ssh and the login shell can be given: twice base64, once base64.
	maxStdin   = 48 << 10
	maxCommand = 24 << 10
	// maxHosts is ClusterShell's fanout: with more hosts some would begin
	// only when others have ended.
	maxHosts = 64
	maxCalls = 16
	// maxWait leaves room for a waiting call of a minute.
	maxWait   = 66 * time.Second
	pollEvery = time.Minute
	latency   = 800 * time.Millisecond

	// mostExtra is what a call may take beyond the command's time: below the
	// 30 s after which the core takes a plugin that says nothing for hung.
	mostExtra = 27 * time.Second
	// hostExtra is what a host may take beyond connecting and the command's
	// time before cumin gives it up, and ownExtra what cumin takes for itself.
	hostExtra = 3 * time.Second
	ownExtra  = 5 * time.Second
	// mostPieces bounds a file that goes in pieces, in the same way.
	mostPieces = maxWait + 20*time.Second

	defaultConfig = "/etc/cumin/config.yaml"
)

type executor struct {
	command []string // cumin itself
	config  string   // its file; empty: cumin's own default
	sudo    bool
	pieces  bool // files go through cumin, in pieces
	wrapper shell.Wrapper
	env     []string
	site    site // cumin's configuration
}

var (
	_ sdk.Putter   = (*executor)(nil)
	_ sdk.Expander = (*executor)(nil)
)

// New returns the executor. It holds nothing open between calls.
func New() sdk.Executor { return &executor{} }

// Describe implements sdk.Plugin.
func (*executor) Describe() sdk.Description {
	return sdk.Description{
		Kind:    sdk.KindExecutor,
		Name:    "cumin",
		Version: sdk.Version,
		Summary: "runs commands through cumin, as it is installed and configured here",
		Fields: []sdk.Field{
			{Name: "command", Type: sdk.TypeList, Default: "cumin", Help: "cumin and arguments before all others, one a line"},
			{Name: "config", Type: sdk.TypeString, Help: "cumin's configuration file (cumin -c); else " + defaultConfig},
			{Name: "sudo", Type: sdk.TypeBool, Default: "no", Help: "run every command through sudo -n on the hosts"},
			{Name: "put", Type: sdk.TypeString, Default: "ssh", Enum: []string{"ssh", "pieces"},
				Help: "how files reach hosts: by the ssh of cumin's configuration, or in pieces through cumin"},
		},
		// SUDO_USER is whom cumin logs as its user; the others are for the
		// login of the ssh that it starts, and for backends of the site's own.
		Environment: []string{"SUDO_USER", "SSH_AUTH_SOCK", "KRB5CCNAME", "LANG", "LC_ALL", "PYTHONPATH", "CLUSTERSHELL_CFGDIR", "XDG_CONFIG_HOME"},
		Executor: sdk.ExecutorTraits{
			CanPut:     true,
			CanExpand:  true,
			MaxCommand: maxCommand,
			MaxStdin:   maxStdin,
			MaxOutput:  maxOutput,
			MaxHosts:   maxHosts,
			MaxCalls:   maxCalls,
			Latency:    latency,
			MaxWait:    maxWait,
			PollEvery:  pollEvery,
		},
	}
}

// Configure implements sdk.Plugin. It reads cumin's configuration and runs
// nothing.
func (e *executor) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	var found []sdk.Diagnostic
	tell := func(field string, severity sdk.Severity, format string, args ...any) {
		found = append(found, sdk.Diagnostic{Field: field, Severity: severity, Message: fmt.Sprintf(format, args...)})
	}
	e.command, e.config = v.List("command"), v.String("config")
	e.sudo, e.pieces = v.Bool("sudo"), v.String("put") == "pieces"
	e.wrapper = shell.Wrapper{Sudo: e.sudo, MaxOutput: maxOutput}
	e.env = environment()
	if len(e.command) == 0 {
		e.command = []string{"cumin"}
	}
	if _, err := exec.LookPath(e.command[0]); err != nil {
		tell("command", sdk.SeverityError, "%v; cumin is to be installed on this machine (apt-get install cumin)", err)
	}
	site, err := readSite(cmp.Or(e.config, defaultConfig))
	if err != nil {
		tell("config", sdk.SeverityError, "cumin's configuration cannot be read: %v", err)
		return found, nil
	}
	e.site = site
	if site.Transport != "" && site.Transport != "clustershell" && !e.pieces {
		tell("put", sdk.SeverityWarning, "cumin's transport is %s and not clustershell: files go through cumin in pieces, which takes long", site.Transport)
		e.pieces = true
	}
	return found, nil
}

// environment is that of cumin. It refuses to work for root unless it sees
// who became root; a missing USER satisfies it.
func environment() []string {
	who := os.Getenv("SUDO_USER")
	if os.Getenv("USER") == "root" && (who == "" || who == "root") {
		return program.Environ([]string{"USER"})
	}
	return program.Environ(nil)
}

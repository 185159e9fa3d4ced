// Package salt is the executor that runs commands through the salt command on
// a Salt master. A minion's answer counts only if the wrapper's line is in it,
// since salt's own exit codes, its trimming of long output and its strings in
// place of results say little.
package salt

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

const (
	// maxOutput keeps a minion's answer, both streams in base64, below 1 MiB:
	// what is longer salt replaces by a word.
	maxOutput = 256 << 10
	// What goes to a host travels on salt's stdin, and there as stdin.
	maxStdin   = 1 << 20
	maxCommand = 96 << 10
	maxHosts   = 500
	maxCalls   = 16
	// maxWait leaves room for a waiting call of a minute.
	maxWait   = 66 * time.Second
	pollEvery = time.Minute
	latency   = time.Second

	// grace is what salt may take beyond the command's time: it waits 15 s for
	// a minion that is silent, and 30 s after the command's time the core
	// takes a plugin that says nothing for hung.
	grace = 25 * time.Second
)

type executor struct {
	command []string // salt itself
	id      idTemplate
	timeout int // seconds of salt -t; 0: salt's own
	wrapper shell.Wrapper
	env     []string
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
		Name:    "salt",
		Version: sdk.Version,
		Summary: "runs commands through salt, on the master",
		Fields: []sdk.Field{
			{Name: "command", Type: sdk.TypeList, Default: "salt", Help: "salt and arguments before all others, one a line (sudo, -n, -u, salt, salt)"},
			{Name: "id", Type: sdk.TypeString, Default: hostWord, Help: "the minion id of a host: " + hostWord + " is its name, " + shortWord + " its name up to the first dot"},
			{Name: "timeout", Type: sdk.TypeInt, Help: "seconds after which salt asks whether a silent minion is still at it (salt -t); else salt's own"},
			{Name: "sudo", Type: sdk.TypeBool, Default: "no", Help: "run every command through sudo -n, where minions do not run as root"},
		},
		Environment: []string{"LANG", "LC_ALL", "SUDO_USER"},
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
			Streams:    true,
		},
	}
}

// Configure implements sdk.Plugin. It runs nothing.
func (e *executor) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	var found []sdk.Diagnostic
	refuse := func(field, format string, args ...any) {
		found = append(found, sdk.Diagnostic{Field: field, Severity: sdk.SeverityError, Message: fmt.Sprintf(format, args...)})
	}
	e.command, e.id, e.timeout = v.List("command"), idTemplate(v.String("id")), int(v.Int("timeout"))
	e.wrapper = shell.Wrapper{Sudo: v.Bool("sudo"), MaxOutput: maxOutput}
	// So that a minion's line comes when it is printed, and not with the last.
	e.env = program.Environ(nil, "PYTHONUNBUFFERED=1")
	if len(e.command) == 0 {
		e.command = []string{"salt"}
	}
	if _, err := exec.LookPath(e.command[0]); err != nil {
		refuse("command", "%v; run transferpy on the Salt master", err)
	}
	if e.id == "" {
		e.id = hostWord
	}
	if err := e.id.check(); err != nil {
		refuse("id", "%v", err)
	}
	if v.Has("timeout") && (e.timeout < 1 || e.timeout > 600) {
		refuse("timeout", "%s is not between 1 and 600", strconv.Itoa(e.timeout))
	}
	return found, nil
}

// Package ssh is the executor that runs commands over SSH as the operator's
// own ssh would: same configuration, same keys, same known hosts. It speaks
// the protocol itself, so that a host costs one connection for the whole life
// of the plugin and a call costs one session on it.
package ssh

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

const (
	hostsAtOnce = 64        // of one call; bounds sockets and handshakes
	maxStdin    = 1 << 20   // what the core may send with a command; Put streams and has no such limit
	maxOutput   = 1 << 20   // bytes of stdout and of stderr that are kept
	maxCommand  = 256 << 10 // bytes of all arguments; the script goes by stdin, so only the kernel's 128 KiB an argument binds
	maxWait     = 60 * time.Second

	defaultConnectTimeout = 10 * time.Second
)

// options are the plugin's own configuration.
type options struct {
	sudo           bool
	installed      bool   // the system's ssh does the work
	config         string // -F of ssh; empty: the operator's and the system's
	user           string
	port           int
	knownHosts     string
	connectTimeout time.Duration // 0: ssh's configuration, else defaultConnectTimeout
}

type executor struct {
	opts options
	pool *pool
}

var (
	_ sdk.Putter = (*executor)(nil)
	_ io.Closer  = (*executor)(nil)
)

// New returns the executor. It keeps connections open until the process ends
// or it is closed: it is an io.Closer too.
func New() sdk.Executor {
	e := &executor{}
	e.pool = newPool(&e.opts)
	return e
}

// Close closes all connections and waits for what belongs to them. Calls
// under way fail with KindUnreachable.
func (e *executor) Close() error {
	e.pool.close()
	return nil
}

// Describe implements sdk.Plugin.
func (*executor) Describe() sdk.Description {
	return sdk.Description{
		Kind:    sdk.KindExecutor,
		Name:    "ssh",
		Version: sdk.Version,
		Summary: "runs commands over SSH, configured as ssh itself is",
		Tools:   []string{"sh", "timeout", "kill"},
		Fields: []sdk.Field{
			{Name: "sudo", Type: sdk.TypeBool, Default: "no", Help: "run every command through sudo -n"},
			{Name: "config", Type: sdk.TypeString, Help: "an ssh_config file to use instead of the user's and the system's (ssh -F)"},
			{Name: "user", Type: sdk.TypeString, Help: "log in as this user, whatever ssh_config says"},
			{Name: "port", Type: sdk.TypeInt, Help: "connect to this port, whatever ssh_config says"},
			{Name: "known_hosts", Type: sdk.TypeString, Help: "a known_hosts file to use instead of those of ssh_config"},
			{Name: "client", Type: sdk.TypeString, Default: "own", Enum: []string{"own", "system"},
				Help: "own: the SSH of this program; system: the installed ssh, for FIDO keys, GSSAPI and PKCS#11, each call a process"},
			{Name: "connect_timeout", Type: sdk.TypeDuration, Help: "time to reach a host; else ConnectTimeout of ssh_config, else 10s"},
		},
		// KRB5CCNAME is for the system's ssh. HOME and the agent's socket for the keys; PATH to find ssh, and
		// what Match exec and ProxyJump of ssh_config may look at.
		Environment: []string{"SSH_AUTH_SOCK", "HOME", "USER", "LOGNAME", "PATH", "SHELL", "KRB5CCNAME", "XDG_CACHE_HOME"},
		Executor: sdk.ExecutorTraits{
			CanPut:     true,
			MaxCommand: maxCommand,
			MaxStdin:   maxStdin,
			MaxOutput:  maxOutput,
			MaxCalls:   64,
			Latency:    100 * time.Millisecond,
			MaxWait:    maxWait,
			PollEvery:  time.Second,
			Streams:    true,
		},
	}
}

// Configure implements sdk.Plugin. It looks at the named files and connects
// to nothing.
func (e *executor) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	var found []sdk.Diagnostic
	refuse := func(field, format string, args ...any) {
		found = append(found, sdk.Diagnostic{Field: field, Severity: sdk.SeverityError, Message: fmt.Sprintf(format, args...)})
	}
	o := options{
		sudo:           v.Bool("sudo"),
		installed:      v.String("client") == "system",
		config:         v.String("config"),
		user:           v.String("user"),
		port:           int(v.Int("port")),
		knownHosts:     v.String("known_hosts"),
		connectTimeout: v.Duration("connect_timeout"),
	}
	for field, path := range map[string]string{"config": o.config, "known_hosts": o.knownHosts} {
		if path == "" {
			continue
		}
		if f, err := os.Open(path); err != nil {
			refuse(field, "cannot be read: %v", err)
		} else {
			f.Close()
		}
	}
	if v.Has("user") && !validUser(o.user) {
		refuse("user", "%q is no user name", o.user)
	}
	if v.Has("port") && (o.port < 1 || o.port > 65535) {
		refuse("port", "%d is no port (1 to 65535)", v.Int("port"))
	}
	if v.Has("connect_timeout") && (o.connectTimeout <= 0 || o.connectTimeout > 10*time.Minute) {
		refuse("connect_timeout", "%v is not between 0 and 10m", o.connectTimeout)
	}
	e.opts = o
	return found, nil
}

// Run implements sdk.Executor. A host's command is killed with its process
// group at Command.Timeout (60 s if 0) by the host itself, and through a
// second session as soon as ctx ends; a connection that is lost leaves it
// running until its Timeout.
func (e *executor) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	if cmd.Timeout <= 0 {
		cmd.Timeout = maxWait
	}
	if e.opts.installed {
		if _, err := shell.Join(cmd.Argv); err != nil {
			return err
		}
		e.runSystem(ctx, hosts, cmd, emit)
		return nil
	}
	j, err := newJob(cmd, e.opts.sudo)
	if err != nil {
		return err
	}
	sdk.EachHost(ctx, hosts, hostsAtOnce, func(ctx context.Context, host string) sdk.Result {
		return e.pool.run(ctx, host, j)
	}, emit)
	return nil
}

// Package launch runs one plugin in a process of its own: it starts the
// process, speaks sdk/plugin/wire with it, watches over it and stops it. Which
// file may be started is not decided here.
package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

// Program is what is to be started.
type Program struct {
	Title string   // for messages: "executor/ssh"
	Path  string   // for messages and as argv[0]
	Exec  string   // what is executed; empty: Path. Meant for /proc/self/exe
	File  *os.File // if not nil, this open file is executed and Exec is ignored; it may be closed once Start returned
	Args  []string // after argv[0]
}

// Options of a Start; the zero value is good.
type Options struct {
	Log    hclog.Logger // what the plugin logs; nil: nowhere
	Debug  bool         // the plugin logs at level debug
	Limits wire.Limits  // zero: wire.DefaultLimits
}

// Process is a plugin that runs. Client reaches it; Stop ends it.
type Process struct {
	*wire.Client
	prog   Program
	dir    string
	proc   *process
	plugin *goplugin.Client
	stop   sync.Once
}

// Start starts a plugin and shakes hands with it, within ctx and
// Limits.Start. It gets no standard input, a process group and a private
// directory of its own, and no variables but PATH, HOME, USER and LOGNAME.
// The error tells what it printed and how it ended.
func Start(ctx context.Context, prog Program, opt Options) (*Process, error) {
	if opt.Limits == (wire.Limits{}) {
		opt.Limits = wire.DefaultLimits
	}
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	dir, err := privateDir()
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindInternal, Message: prog.Title + ": a directory for its sockets cannot be made: " + err.Error(),
			Hint: "make sure that /tmp or $TMPDIR can be written to"}
	}
	p := &Process{prog: prog, dir: dir, proc: newProcess(prog, opt)}
	p.plugin = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: wire.Wanted(),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     opt.Limits.Start + time.Second, // ctx, below, comes first
		Logger:           opt.Log,
		GRPCDialOptions:  wire.DialOptions(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			p.proc.prepare(cmd)
			return p.proc, nil
		},
	})
	ctx, cancel := context.WithTimeout(ctx, opt.Limits.Start)
	defer cancel()
	if err := p.connect(ctx, opt.Limits); err != nil {
		err = p.startError(ctx, err)
		p.Stop()
		return nil, err
	}
	return p, nil
}

// connect starts the process and makes p.Client. go-plugin knows no context,
// so the process is killed when ctx ends.
func (p *Process) connect(ctx context.Context, limits wire.Limits) error {
	defer context.AfterFunc(ctx, p.proc.forbid)()
	client, err := p.plugin.Client()
	if err != nil {
		return err
	}
	raw, err := client.Dispense(wire.PluginKey)
	if err != nil {
		return err
	}
	c := raw.(wire.Connection)
	p.Client = wire.NewClient(c.Conn, c.Broker, &supervisor{proc: p.proc}, limits)
	return ctx.Err()
}

// Stop asks the plugin to end and kills what is left of it after 2 s. It
// returns in at most 5 s, when the process and its group are gone. Calls under
// way end with an error.
func (p *Process) Stop() {
	p.stop.Do(func() {
		p.proc.stopping()
		if p.Client != nil {
			p.Client.Close()
		}
		// go-plugin asks without a deadline: a plugin that is stopped
		// (SIGSTOP) would never answer.
		hard := time.AfterFunc(3*time.Second, p.proc.kill)
		p.plugin.Kill()
		hard.Stop()
		p.proc.kill()
		if p.Client != nil {
			p.Client.Wait()
		}
		os.RemoveAll(p.dir)
	})
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.proc.exited }

// Redact makes the values unreadable in all that the plugin prints from now
// on, and in the errors that quote it.
func (p *Process) Redact(secrets []string) { p.proc.tail.redact(secrets) }

// Text is s with the secrets given to Redact made unreadable.
func (p *Process) Text(s string) string { return p.proc.tail.clean(s) }

// startError explains why a plugin could not be started.
func (p *Process) startError(ctx context.Context, err error) error {
	if ctx.Err() == nil && p.proc.pid() == 0 {
		return &sdk.Error{Kind: sdk.KindCrashed, Message: fmt.Sprintf("plugin %s (%s) cannot be started: %s", p.prog.Title, p.prog.Path, cause(err)),
			Hint: "make sure that the file is a program for this machine and may be executed"}
	}
	switch ctx.Err() {
	case context.DeadlineExceeded:
		return p.proc.hang(sdk.KindTimeout, "did not answer the handshake in time and was killed")
	case context.Canceled:
		// Not the plugin's fault, so no word of its author or its output.
		p.proc.kill()
		return &sdk.Error{Kind: sdk.KindCancelled, Message: fmt.Sprintf("plugin %s was stopped while it started: %v", p.prog.Title, context.Cause(ctx))}
	}
	text := err.Error()
	switch line, found := strings.CutPrefix(firstLine(text), "Unrecognized remote plugin message: "); {
	case found && line != "":
		return p.proc.failure(sdk.KindUnsupported,
			fmt.Sprintf("printed %q to standard output before the handshake", p.Text(line)),
			"a plugin must print nothing to standard output before plugin.Serve; report it to its author")
	case found, strings.Contains(text, "exited before we could connect"):
		if p.proc.waitExit(time.Second) {
			return p.proc.crash("before the handshake")
		}
		return p.proc.failure(sdk.KindCrashed, "closed its standard output before the handshake",
			"this file is perhaps no plugin of transferpy; report it to its author")
	case strings.Contains(text, "incompatible API version"):
		return p.proc.failure(sdk.KindUnsupported,
			fmt.Sprintf("speaks another version of the plugin protocol (this transferpy speaks %d): %s", sdk.ProtocolMajor, firstLine(text)),
			fmt.Sprintf("rebuild it with an sdk of major version %d, or install the transferpy that it was made for", sdk.ProtocolMajor))
	}
	return p.proc.failure(sdk.KindCrashed, "cannot be connected to: "+firstLine(text), "report it to the plugin's author")
}

// firstLine is the first line of s, of bounded length.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 300)]
}

// cause is the innermost text of an error of os: without the path of the
// descriptor that was executed.
func cause(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// maxSocketDir bounds the directory's path, so that go-plugin's sockets below
// it (about 40 bytes more) fit the 108 bytes of a unix address.
const maxSocketDir = 60

// privateDir makes a directory of mode 0700 with a short path.
func privateDir() (string, error) {
	var errs []error
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if base == "" || !filepath.IsAbs(base) || len(base) > maxSocketDir-20 {
			continue
		}
		dir, err := os.MkdirTemp(base, wire.DirPrefix)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

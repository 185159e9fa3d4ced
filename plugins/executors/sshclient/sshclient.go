// Package sshclient runs commands on hosts through the ssh that is installed
// on this machine, exactly: for executors whose backend has an ssh of its own
// configuration, and for what only OpenSSH can do (FIDO keys, GSSAPI,
// PKCS#11).
package sshclient

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

const (
	// grace is what ssh may take beyond connecting and the command's time.
	grace = 10 * time.Second
	// removeWait bounds the removal of half a file.
	removeWait = 10 * time.Second
	// noise is what may stand around an answer: banners.
	noise = 1 << 20
)

// Client is an ssh with its options. Its methods may be called from several
// goroutines at once.
type Client struct {
	Program   []string // ssh and its options; the host comes after them
	Env       []string
	Connect   time.Duration // what connecting and logging in may take
	MaxOutput int           // bytes of stdout and of stderr that come back
	Sudo      bool          // commands go through sudo -n
}

// hostPattern is what may be given to ssh as a host: a leading dash would be
// an option, the rest has no meaning in a configuration. Colons and % are for
// IPv6.
var hostPattern = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9._-]{0,63}@)?[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,254}$`)

// Run runs cmd on a host. At cmd.Timeout the host kills it with its process
// group; when ctx ends, Run returns and the command goes on until then.
func (c Client) Run(ctx context.Context, host string, cmd sdk.Command) sdk.Result {
	r := c.run(ctx, host, cmd)
	r.Host = host
	if r.Err != nil {
		r.Err.Host = host
	}
	return r
}

func (c Client) run(ctx context.Context, host string, cmd sdk.Command) sdk.Result {
	if !hostPattern.MatchString(host) {
		return sdk.Result{Err: &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%q is no host name for ssh", host), Hint: "a name, an alias of ssh_config or an address, perhaps with user@ before it"}}
	}
	if cmd.Timeout == 0 {
		cmd.Timeout = shell.DefaultTimeout
	}
	wrapper := shell.Wrapper{Sudo: c.Sudo, MaxOutput: c.MaxOutput}
	nonce := shell.NewNonce()
	line, input, err := wrapper.Feed(cmd, nonce)
	if err != nil {
		return sdk.Result{Err: sdk.AsError(err)}
	}
	ctx, cancel := context.WithTimeout(ctx, c.Connect+cmd.Timeout+grace)
	defer cancel()
	ssh := program.Program{
		Argv:      append(slices.Clone(c.Program), "--", host, line),
		Env:       c.Env,
		Stdin:     input,
		MaxOutput: 3*c.MaxOutput + noise,
	}
	out, runErr := ssh.Run(ctx)
	r, err := wrapper.Parse(out.Stdout, nonce)
	if err == nil {
		return r
	}
	return sdk.Result{Err: why(out, runErr, sdk.AsError(err))}
}

// why says why no answer came.
func why(out program.Output, runErr error, parse *sdk.Error) *sdk.Error {
	if runErr != nil {
		return sdk.AsError(runErr)
	}
	if out.ExitCode == failed {
		if e := Failure(string(out.Stderr)); e != nil {
			return e
		}
	}
	e := *parse
	e.Stderr = program.Tail(append(out.Stdout, out.Stderr...))
	if e.Kind == sdk.KindUnreachable {
		if sudo := shell.SudoRefusal(out.Stderr); sudo != nil {
			return sudo
		}
		e.Message = fmt.Sprintf("ssh ended with exit code %d and no answer of the command", out.ExitCode)
	}
	return &e
}

// Put writes file on a host as sdk.Putter says. The file is not flushed to
// the disk.
func (c Client) Put(ctx context.Context, host string, file sdk.File, limit time.Duration) sdk.Result {
	cmd, err := shell.PutCommand(file, limit)
	if err != nil {
		e := *sdk.AsError(err)
		e.Host = host
		return sdk.Result{Host: host, Err: &e}
	}
	r, half := shell.PutResult(file.Path, c.Run(ctx, host, cmd))
	if half {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWait)
		defer cancel()
		c.Run(undo, host, sdk.Command{Argv: []sdk.Raw{"rm", "-f", "--", file.Path}, Timeout: removeWait})
	}
	return r
}

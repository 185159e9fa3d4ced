package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

// Limits of this executor.
const (
	maxOutput = 256 << 10
	// maxReply bounds what one run of the program may print: the answer in
	// base64, and some noise.
	maxReply = 16 << 20
	// grace is what reaching the host may take beyond the command's own time.
	grace = 15 * time.Second
)

// wrapper has the host cut what the program could not carry.
var wrapper = shell.Wrapper{MaxOutput: maxOutput}

type executor struct {
	command []string // the template
	query   []string // that of the program that finds hosts; empty: there is none
	atOnce  int
}

func newExecutor() *executor { return &executor{} }

// Describe implements sdk.Plugin.
func (e *executor) Describe() sdk.Description {
	return sdk.Description{
		Kind: sdk.KindExecutor, Name: "argv", Version: "1.0.0",
		Summary: "runs commands through a program of the site's own",
		Fields: []sdk.Field{
			{Name: "command", Type: sdk.TypeList, Required: true,
				Help: "the program and its arguments, one a line; {host} and {script} are filled in"},
			{Name: "query", Type: sdk.TypeList,
				Help: "the program that prints the hosts that a query finds, one a line; {query} is filled in"},
			{Name: "at_once", Type: sdk.TypeInt, Default: "8", Help: "hosts at the same time"},
		},
		Executor: sdk.ExecutorTraits{CanExpand: true, MaxCommand: 64 << 10, MaxStdin: 48 << 10, MaxOutput: maxOutput, MaxCalls: 4,
			Latency: 200 * time.Millisecond, MaxWait: time.Minute, PollEvery: 5 * time.Second, Streams: true},
	}
}

// Configure implements sdk.Plugin.
func (e *executor) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	e.command, e.query, e.atOnce = v.List("command"), v.List("query"), int(v.Int("at_once"))
	var found []sdk.Diagnostic
	refuse := func(field, message string) {
		found = append(found, sdk.Diagnostic{Field: field, Severity: sdk.SeverityError, Message: message})
	}
	for _, word := range []string{"{host}", "{script}"} {
		if !slices.ContainsFunc(e.command, func(arg string) bool { return strings.Contains(arg, word) }) {
			refuse("command", "no argument holds "+word)
		}
	}
	if _, err := exec.LookPath(e.command[0]); err != nil {
		refuse("command", err.Error())
	}
	if len(e.query) > 0 {
		if _, err := exec.LookPath(e.query[0]); err != nil {
			refuse("query", err.Error())
		}
	}
	if e.atOnce < 1 || e.atOnce > 256 {
		refuse("at_once", "it is not within 1..256")
	}
	return found, nil
}

// Run implements sdk.Executor.
func (e *executor) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	sdk.EachHost(ctx, hosts, e.atOnce, func(ctx context.Context, host string) sdk.Result { return e.one(ctx, host, cmd) }, emit)
	return ctx.Err()
}

// one runs cmd on one host.
func (e *executor) one(ctx context.Context, host string, cmd sdk.Command) sdk.Result {
	if err := checkHost(host); err != nil {
		return sdk.Result{Err: err}
	}
	if cmd.Timeout <= 0 {
		cmd.Timeout = time.Minute
	}
	nonce := shell.NewNonce()
	script, err := wrapper.Line(cmd, nonce)
	if err != nil {
		return sdk.Result{Err: sdk.AsError(err)}
	}
	ctx, cancel := context.WithTimeout(ctx, cmd.Timeout+grace)
	defer cancel()
	reply, runErr := program(ctx, e.command, "{host}", host, "{script}", script)
	r, err := wrapper.Parse(reply.stdout.Bytes(), nonce)
	if err != nil {
		return sdk.Result{Err: e.explain(ctx, host, reply, runErr, sdk.AsError(err))}
	}
	if r.Err != nil {
		r.Err.Host = host
	}
	return r
}

// reply is what the program printed.
type reply struct{ stdout, stderr bounded }

// program runs one of the site's programs, in a process group that ends with
// ctx. words are placeholders of the template, each followed by its value.
func program(ctx context.Context, template []string, words ...string) (*reply, error) {
	// One pass, so that a host named {script} stays a name.
	fill := strings.NewReplacer(words...)
	args := make([]string, len(template))
	for i, a := range template {
		args[i] = fill.Replace(a)
	}
	var out reply
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stdout, c.Stderr = &out.stdout, &out.stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	return &out, c.Run()
}

// explain says why no answer came back.
func (e *executor) explain(ctx context.Context, host string, out *reply, runErr error, parse *sdk.Error) *sdk.Error {
	err := &sdk.Error{Kind: parse.Kind, Host: host, Message: parse.Message, Hint: parse.Hint, Stderr: out.stderr.String()}
	switch {
	case ctx.Err() != nil:
		err.Kind, err.Message = sdk.KindTimeout, e.command[0]+" did not end in time"
		if ctx.Err() == context.Canceled {
			err.Kind, err.Message = sdk.KindCancelled, e.command[0]+" was stopped"
		}
	case runErr != nil:
		err.Kind, err.Message = sdk.KindUnreachable, fmt.Sprintf("%s failed: %v", e.command[0], runErr)
	}
	return err
}

// checkHost refuses names that a program might take for an option or for
// something else than a host.
func checkHost(host string) *sdk.Error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%[]"
	if host == "" || host[0] == '-' || len(host) > 255 || strings.Trim(host, allowed) != "" {
		return &sdk.Error{Kind: sdk.KindConfig, Host: host, Message: "this is no name of a host"}
	}
	return nil
}

// bounded is a buffer that keeps the first maxReply bytes.
type bounded struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxReply-b.Len())])
	return len(p), nil
}

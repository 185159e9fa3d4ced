package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/transferpy/transferpy/core/runlog"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// app is what every verb needs of the world around it.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr *screen
	log    *runlog.Log // of the transfer that a verb works on

	signals  *signals
	attended bool // a person sits at standard input
	terminal int  // the file descriptor of standard error if it is a terminal, else -1
}

// exitError carries an exit code to execute. What there is to say has been said
// when err is nil.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "exit"
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// execute runs the command line args and returns its exit code. It is the one
// place for signals, errors and exit codes: verbs return errors, and an
// *exitError where the code is not to follow from the error's kind.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == serveCommand {
		// A plugin's process: its signals and its exit are sdk/plugin's.
		return serveBundled(args[1:], stderr)
	}
	a := &app{stdin: stdin, stdout: stdout, stderr: &screen{w: stderr}, log: runlog.New(), attended: terminalOf(stdin) >= 0, terminal: terminalOf(stderr)}
	defer a.log.Close()
	ctx, signals, release := withSignals(ctx, a.stderr)
	defer release()
	a.signals = signals

	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return transfer.ExitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{err: err}
	}
	if exit.err != nil {
		printError(io.MultiWriter(a.stderr, a.logText(hclog.Error)), exit.err)
	}
	return exitCode(ctx, err)
}

// exitCode is the code of an *exitError; it follows from any other error:
// usage for what is wrong with the command line or the configuration,
// refused for what went wrong before anything was changed.
func exitCode(ctx context.Context, err error) int {
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, transfer.ErrInterrupted):
		return transfer.ExitSIGINT
	case errors.Is(cause, transfer.ErrTerminated):
		return transfer.ExitSIGTERM
	}
	var typed *sdk.Error
	if !errors.As(err, &typed) || typed.Kind == sdk.KindConfig {
		return transfer.ExitUsage // cobra's own errors are all about usage
	}
	return transfer.ExitRefused
}

// usageError is for an operand or a flag that a verb cannot take.
func usageError(message, hint string) error {
	return &sdk.Error{Kind: sdk.KindConfig, Message: message, Hint: hint}
}

// terminalOf returns the file descriptor of a stream that is a terminal, else
// -1.
func terminalOf(stream any) int {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return int(f.Fd())
	}
	return -1
}

// noArguments refuses operands in words that say so.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd.CommandPath()+" takes no operand, but was given "+sdk.Raw(args[0]).Display(), "")
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/pluginhost"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// findTargets has the executor find the targets of --targets, says how many
// there are and which, and goes on only where that was agreed to.
func (a *app) findTargets(ctx context.Context, plugins *pluginhost.Host, settings *config.Settings) error {
	exec, _, err := plugins.Executor(ctx, settings.Executor)
	if err != nil {
		return pluginError(ctx, err)
	}
	expander, ok := exec.(sdk.Expander)
	if !ok {
		return usageError("executor "+settings.Executor+" cannot find hosts by a query", "name the targets, each HOST:PATH")
	}
	hosts, err := expander.Expand(ctx, settings.Query.Text)
	if err != nil {
		return err
	}
	leftOut, err := settings.Found(hosts)
	if err != nil {
		return err
	}
	a.say("%s", foundText(settings, leftOut))
	return a.agree(ctx, settings)
}

// mostNames is how many hosts of a query are named, unless --verbose is given.
const mostNames = 20

// foundText tells of the hosts that a query has found.
func foundText(settings *config.Settings, leftOut bool) string {
	targets, most := settings.Request.Targets, mostNames
	if settings.Verbose {
		most = len(targets)
	}
	var names []string
	for _, t := range targets[:min(most, len(targets))] {
		names = append(names, t.Host)
	}
	text := fmt.Sprintf("--targets finds %s: %s", hostsText(len(targets)), strings.Join(names, ", "))
	if more := len(targets) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more (--verbose names all)", more)
	}
	return text + onlyIf(leftOut, "; the source "+settings.Request.Source.Host+" is among them and is left out")
}

func hostsText(n int) string { return fmt.Sprintf("%d host%s", n, onlyIf(n != 1, "s")) }

// agree returns nil if the number of targets was agreed to: by --yes with just
// that number, else by the person at the terminal. A dry run needs no consent.
func (a *app) agree(ctx context.Context, settings *config.Settings) error {
	n := len(settings.Request.Targets)
	switch yes := settings.Query.Yes; {
	case yes == n:
		return nil
	case yes != 0:
		return usageError(fmt.Sprintf("--yes %d agrees to other than the %s that --targets finds", yes, hostsText(n)), fmt.Sprintf("if these are the right ones: --yes %d", n))
	case settings.Request.DryRun:
		return nil
	case !a.attended || a.terminal < 0:
		return usageError(fmt.Sprintf("--targets finds %s, and there is no terminal to ask at", hostsText(n)), fmt.Sprintf("if these are the right ones: --yes %d", n))
	}
	request := &settings.Request
	fmt.Fprintf(a.stderr, "transferpy: transfer %s to %s on %s? [y/N] ", endpoint(request.Source), printable(string(settings.Query.Path)), hostsText(n))
	answer, err := readAnswer(ctx, a.stdin.(*os.File), answerTime)
	if err != nil {
		fmt.Fprintln(a.stderr)
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	}
	return &exitError{code: transfer.ExitRefused, err: &sdk.Error{Kind: sdk.KindCancelled, Message: "not agreed to; nothing was changed"}}
}

// answerTime is how long a person may take to answer.
const answerTime = 10 * time.Minute

// readAnswer reads a line from a terminal, until ctx ends. It waits by poll(2)
// and not in a read, which nothing could interrupt.
func readAnswer(ctx context.Context, terminal *os.File, limit time.Duration) (string, error) {
	const turn = 100 * time.Millisecond
	fd := int(terminal.Fd())
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(turn.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR) || err == nil && ready == 0:
			continue
		case err != nil:
			return "", fmt.Errorf("wait for an answer: %w", err)
		}
		line := make([]byte, 256) // a terminal gives a line at a time; more than that is no answer
		n, err := unix.Read(fd, line)
		if err != nil {
			return "", fmt.Errorf("read the answer: %w", err)
		}
		return string(bytes.TrimSpace(line[:n])), nil
	}
	return "", &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("nobody answered within %s; nothing was changed", limit)}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/pluginhost"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// pluginDirs are where a site's plugins lie unless --plugin-dir says so.
var pluginDirs = []string{"/usr/lib/transferpy/plugins", "/usr/local/lib/transferpy/plugins"}

// openPlugins makes the host of the plugins that settings ask for. Nothing is
// started yet. The caller closes it, which stops them.
func (a *app) openPlugins(settings *config.Settings) (*pluginhost.Host, error) {
	dirs := pluginDirs
	if len(settings.PluginDirs) > 0 {
		dirs = nil
	}
	for _, dir := range settings.PluginDirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, abs)
	}
	level := hclog.Warn
	switch {
	case settings.PluginDebug:
		level = hclog.Debug
	case settings.Verbose:
		level = hclog.Info
	}
	names := bundledNames()
	return pluginhost.New(pluginhost.Options{
		Dirs:         dirs,
		Debug:        true, // for the log; the terminal has a level of its own
		Log:          a.log.Logger("plugin", level, &lineWriter{w: a.stderr}),
		Shadow:       settings.PluginShadow,
		Pins:         settings.Pins,
		BundledNames: names,
		Bundled: func(kind sdk.Kind, name string) []string {
			if !slices.Contains(names, string(kind)+"/"+name) {
				return nil
			}
			return []string{serveCommand, string(kind), name}
		},
		Config: func(kind sdk.Kind, name string) map[string][]string { return settings.Plugins[string(kind)+"/"+name] },
		Warn: func(plugin string, d sdk.Diagnostic) {
			a.say("warning: plugin %s: %s: %s", plugin, d.Field, d.Message)
		},
	}), nil
}

// startPlugins starts every plugin of a transfer, at once, so that each
// mistake in their configuration is told before any host is touched. A plugin
// that nobody has is a mistake in usage too.
func startPlugins(ctx context.Context, host *pluginhost.Host, req *transfer.Request) error {
	executors := []string{req.Source.Executor}
	for _, t := range req.Targets {
		executors = append(executors, t.Executor)
	}
	slices.Sort(executors)
	executors = slices.Compact(executors)
	firewalls := req.FirewallPlugins(autoFirewalls())
	n := len(executors) + len(firewalls)
	errs, about := make([]error, n+1), make([]sdk.Description, n+1)
	var starting sync.WaitGroup
	for i, name := range executors {
		starting.Go(func() { _, about[i], errs[i] = host.Executor(ctx, name) })
	}
	for i, name := range firewalls {
		i += len(executors)
		starting.Go(func() { _, about[i], errs[i] = host.Firewall(ctx, name) })
	}
	starting.Go(func() { _, about[n], errs[n] = host.Mode(ctx, req.Mode) })
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		return pluginError(ctx, err)
	}
	for _, d := range about {
		if err := anchorSecrets(req, d); err != nil {
			return err
		}
	}
	return nil
}

// anchorSecrets makes the names of the files that hold a plugin's secrets
// absolute in the request, which may be resumed from another directory.
func anchorSecrets(req *transfer.Request, d sdk.Description) error {
	values := req.PluginConfig[string(d.Kind)+"/"+d.Name]
	for _, field := range d.Fields {
		if !field.Secret {
			continue
		}
		for i, text := range values[field.Name] {
			name, isFile := strings.CutPrefix(text, "@")
			if !isFile || filepath.IsAbs(name) {
				continue
			}
			abs, err := filepath.Abs(name)
			if err != nil {
				return err
			}
			values[field.Name][i] = "@" + abs
		}
	}
	return nil
}

// pluginError gives the start of plugins its exit code: usage where a plugin
// is not there or its configuration is wrong, else as everywhere.
func pluginError(ctx context.Context, err error) error {
	if errors.Is(err, sdk.ErrNotFound) && ctx.Err() == nil {
		return &exitError{code: transfer.ExitUsage, err: err}
	}
	return err
}

// lineWriter passes on whole lines, each made safe to print: what plugins log
// may hold what hosts have said. It is not safe for concurrent use, which
// hclog does not make of it.
type lineWriter struct {
	w    io.Writer
	rest []byte
}

// maxLogLine bounds what lineWriter holds back while it waits for a line's
// end, in bytes.
const maxLogLine = 64 << 10

// Write implements io.Writer.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found && len(l.rest) < maxLogLine {
			return len(p), nil
		}
		if _, err := io.WriteString(l.w, printable(string(line))+"\n"); err != nil {
			return 0, err
		}
		l.rest = rest
		if len(rest) == 0 {
			return len(p), nil
		}
	}
}

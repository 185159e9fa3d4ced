package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// exitCouldNotRun is a host's exit code where the command could not be run at
// all; ssh uses the same.
const exitCouldNotRun = 255

// maxExecStdin bounds what --stdin reads, in bytes, before the executor's own
// limit is known.
const maxExecStdin = 1 << 20

// execOptions are what `transferpy exec` does.
type execOptions struct {
	hosts   []string
	argv    []string
	stdin   bool
	timeout time.Duration
	json    bool
}

// newExec is `transferpy exec`.
func newExec(a *app) *cobra.Command {
	var opts execOptions
	var output string
	cmd := &cobra.Command{
		Use:   "exec [options] HOST... -- COMMAND [ARGUMENT...]",
		Short: "Run a command on hosts through an executor, with exact results",
		Long: `Run a command on hosts through an executor. Arguments arrive byte for byte: no
shell is between, unless the command is one. The standard output and error of
one host are printed as they are, but that control characters are escaped on a
terminal; those of several line by line, each with its host. The exit code is the highest of all hosts'; 255 also where the command
could not be run.`,
		Example: `  transferpy exec db1 db2 -- df -h /srv
  transferpy exec --executor ssh db1 -- sh -c 'echo "$HOME"'`,
	}
	flags := a.addSettings(cmd, common...)
	cmd.Flags().BoolVar(&opts.stdin, "stdin", false, "pass standard input on to the command on every host (up to the executor's limit)")
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 0, "kill the command after `TIME` (default: the executor's limit)")
	cmd.Flags().StringVar(&output, "output", "text", "`FORM`: text, or json (one object a line)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dash := cmd.ArgsLenAtDash()
		if dash < 1 || dash == len(args) {
			return usageError("hosts and a command are needed, divided by --", "for example: transferpy exec db1 db2 -- uptime")
		}
		if output != "text" && output != "json" {
			return usageError("--output is text or json", "")
		}
		opts.json, opts.argv = output == "json", args[dash:]
		for _, text := range args[:dash] {
			host, err := config.ParseHost(text)
			if err != nil {
				return err
			}
			if !slices.Contains(opts.hosts, host) {
				opts.hosts = append(opts.hosts, host)
			}
		}
		settings, err := flags.resolve()
		if err != nil {
			return err
		}
		return a.exec(cmd.Context(), settings, opts)
	}
	return cmd
}

// exec runs the command and prints the results.
func (a *app) exec(ctx context.Context, settings *config.Settings, opts execOptions) error {
	command := sdk.Command{Timeout: opts.timeout}
	for _, arg := range opts.argv {
		command.Argv = append(command.Argv, sdk.Raw(arg))
	}
	if opts.stdin {
		data, err := io.ReadAll(io.LimitReader(a.stdin, maxExecStdin+1))
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		command.Stdin = data
	}
	plugins, err := a.openPlugins(settings)
	if err != nil {
		return err
	}
	defer plugins.Close()

	byExecutor := map[string][]string{}
	for _, host := range opts.hosts {
		name := settings.ExecutorFor(host)
		byExecutor[name] = append(byExecutor[name], host)
	}
	out := &results{app: a, json: opts.json, single: len(opts.hosts) == 1}
	for _, name := range slices.Sorted(maps.Keys(byExecutor)) {
		if err := out.runOn(ctx, plugins, name, byExecutor[name], command); err != nil {
			return err
		}
	}
	if opts.json {
		out.write(execDoneJSON{V: 1, Event: "done", Time: time.Now(), ExitCode: out.highest})
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &exitError{code: out.highest}
}

// results prints results as they come in.
type results struct {
	app    *app
	json   bool
	single bool

	mu      sync.Mutex // results of several hosts come at once
	highest int
}

// runOn runs the command on all hosts of one executor.
func (o *results) runOn(ctx context.Context, plugins transfer.Plugins, name string, hosts []string, command sdk.Command) error {
	executor, about, err := plugins.Executor(ctx, name)
	if err != nil {
		return pluginError(ctx, err)
	}
	if err := withinLimits(name, about.Executor, command); err != nil {
		return err
	}
	atOnce := len(hosts)
	if limit := about.Executor.MaxHosts; limit > 0 {
		atOnce = limit
	}
	for batch := range slices.Chunk(hosts, atOnce) {
		pending := slices.Clone(batch)
		err := executor.Run(ctx, batch, command, func(r sdk.Result) {
			o.mu.Lock()
			defer o.mu.Unlock()
			// A host that was not asked, or answers twice, is a plugin's mistake.
			if i := slices.Index(pending, r.Host); i >= 0 {
				pending = slices.Delete(pending, i, i+1)
				o.show(r)
			}
		})
		if err != nil {
			return err
		}
		for _, host := range pending {
			o.show(sdk.Result{Host: host, Err: &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "executor " + name + " told no result"}})
		}
	}
	return nil
}

// withinLimits refuses what the executor says it cannot carry.
func withinLimits(name string, limits sdk.ExecutorTraits, c sdk.Command) error {
	size := 0
	for _, arg := range c.Argv {
		size += len(arg) + 1
	}
	switch {
	case limits.MaxCommand > 0 && size > limits.MaxCommand:
		return usageError(fmt.Sprintf("the command has %d bytes, executor %s takes %d", size, name, limits.MaxCommand), "")
	case limits.MaxStdin > 0 && len(c.Stdin) > limits.MaxStdin:
		return usageError(fmt.Sprintf("standard input has more than the %d bytes that executor %s takes", limits.MaxStdin, name), "")
	case limits.MaxWait > 0 && c.Timeout > limits.MaxWait:
		return usageError(fmt.Sprintf("--timeout %s is longer than a call of executor %s may last: %s", c.Timeout, name, limits.MaxWait), "")
	}
	return nil
}

// show prints one host's result.
func (o *results) show(r sdk.Result) {
	code := r.ExitCode
	if r.Err != nil {
		code = exitCouldNotRun
	}
	o.highest = max(o.highest, code)
	a := o.app
	switch {
	case o.json:
		o.write(resultJSON{V: 1, Event: "result", Time: time.Now(), Host: r.Host, ExitCode: code, Stdout: sdk.Raw(r.Stdout),
			Stderr: sdk.Raw(r.Stderr), Truncated: r.Truncated, Error: r.Err})
		return
	case o.single:
		// As they are to a file or a pipe, safe to print to a terminal.
		asIs(a.stdout, terminalOf(a.stdout) >= 0, r.Stdout)
		asIs(a.stderr, a.terminal >= 0, r.Stderr)
	default:
		prefixed(a.stdout, r.Host, r.Stdout)
		prefixed(a.stderr, r.Host, r.Stderr)
		if r.Err == nil && code != 0 {
			a.say("%s: exit code %d", r.Host, code)
		}
	}
	if r.Err != nil {
		e := *r.Err
		e.Host = r.Host
		printError(a.stderr, &e)
	}
	if r.Truncated {
		a.say("%s: the output is longer than the executor carries; this is its beginning", r.Host)
	}
}

func (o *results) write(v any) {
	if line, err := jsonLine(v); err == nil {
		o.app.stdout.Write(line)
	}
}

// asIs writes what one host printed: to a terminal line by line, safe to print,
// else as it is.
func asIs(w io.Writer, terminal bool, data []byte) {
	if !terminal {
		w.Write(data)
		return
	}
	for line := range strings.Lines(string(data)) {
		fmt.Fprintln(w, printableCells(line))
	}
}

// prefixed writes each line of data behind its host, safe to print but
// with its tabs.
func prefixed(w io.Writer, host string, data []byte) {
	for line := range strings.Lines(string(data)) {
		fmt.Fprintf(w, "%s: %s\n", printable(host), printableCells(line))
	}
}

// printableCells is a line, without its end, that is safe to print but for its
// tabs.
func printableCells(line string) string {
	cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	return strings.Join(cells, "\t")
}

// resultJSON is one host's result in --output json.
type resultJSON struct {
	V         int        `json:"v"`
	Event     string     `json:"event"`
	Time      time.Time  `json:"time"`
	Host      string     `json:"host"`
	ExitCode  int        `json:"exit_code"`
	Stdout    sdk.Raw    `json:"stdout"`
	Stderr    sdk.Raw    `json:"stderr"`
	Truncated bool       `json:"truncated,omitempty"`
	Error     *sdk.Error `json:"error,omitempty"`
}

// execDoneJSON is the last line of exec's --output json.
type execDoneJSON struct {
	V        int       `json:"v"`
	Event    string    `json:"event"`
	Time     time.Time `json:"time"`
	ExitCode int       `json:"exit_code"`
}

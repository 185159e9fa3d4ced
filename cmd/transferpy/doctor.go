package main

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/agentbin"
	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/doctor"
	"github.com/transferpy/transferpy/core/transfer"
)

// measureFor is how long each pair is measured.
const measureFor = 3 * time.Second

// allPairs is up to how many hosts every one is tried with every other.
const allPairs = 6

// doctorOptions are what `transferpy doctor` does.
type doctorOptions struct {
	from   string
	rate   bool
	output string
}

// newDoctor is `transferpy doctor`.
func newDoctor(a *app) *cobra.Command {
	var opts doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [options] HOST[:DIR]...",
		Short: "Look whether transfers between hosts would work, and what to do if not",
		Long: fmt.Sprintf(`Look, changing nothing, at all that a transfer needs. On each host: that commands
run there, that an agent can, the tools, the clock, free space where agents lie and
in DIR. Between each two hosts, in both directions: at which address the one is
reached by the other; where it is not, what filters; and how much data a second goes
through, measured for %s with real agents, encrypted as a transfer would be, from
memory to nowhere. With --from HOST only from that one to the others; else the
pairs of at most %d hosts are tried.

An agent is placed in its cache where there is none, as by --dry-run; agents listen
while they are tried, and nothing else is written. The measurement takes what the
network has: limit it by --limit-rate, or leave it out by --no-rate.

The exit code is 0 where all is well, else 1.`, measureFor, allPairs),
		Example: `  transferpy doctor db1 db2
  transferpy doctor --from db1 db1 db2:/srv db3:/srv`,
	}
	flags := a.addSettings(cmd, append([]string{"transfer_type", "port", "encrypt", "limit_rate", "data_network"}, common...)...)
	cmd.Flags().StringVar(&opts.from, "from", "", "try only pairs from this `HOST`, which is one of those named")
	noRate := cmd.Flags().Bool("no-rate", false, "do not measure how fast data goes")
	cmd.Flags().StringVar(&opts.output, "output", "text", "`FORM`: text, or json (one object a line)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if opts.output != "text" && opts.output != "json" {
			return usageError("--output is text or json", "")
		}
		settings, err := flags.resolve()
		if err != nil {
			return err
		}
		opts.rate = !*noRate
		req, err := doctorRequest(settings, opts, args)
		if err != nil {
			return err
		}
		return a.doctor(cmd.Context(), settings, req, opts.output == "json")
	}
	return cmd
}

// doctorRequest says what is to be looked at.
func doctorRequest(settings *config.Settings, opts doctorOptions, operands []string) (doctor.Request, error) {
	q := settings.Request
	req := doctor.Request{Mode: q.Mode, Port: q.Port, Encrypt: q.Encrypt, LimitRate: q.LimitRate, DataNetworks: q.DataNetworks, LinkTimeout: q.LinkTimeout, Firewalls: firewallNames()}
	if len(operands) == 0 {
		return req, usageError("a HOST is needed", "see transferpy doctor --help")
	}
	if len(operands) > doctor.MaxHosts {
		return req, usageError(fmt.Sprintf("%d hosts are more than can be looked at (%d)", len(operands), doctor.MaxHosts), "")
	}
	for _, text := range operands {
		h, err := doctorHost(settings, text)
		if err != nil {
			return req, err
		}
		if slices.ContainsFunc(req.Hosts, func(known doctor.Host) bool { return known.Host == h.Host }) {
			return req, usageError("host "+printable(h.Host)+" is named twice", "")
		}
		req.Hosts = append(req.Hosts, h)
	}
	if opts.rate {
		req.Measure = measureFor
	}
	var err error
	req.Pairs, err = doctorPairs(req.Hosts, opts.from)
	return req, err
}

// doctorHost reads HOST or HOST:DIR.
func doctorHost(settings *config.Settings, text string) (doctor.Host, error) {
	end, err := settings.Endpoint(text)
	if err != nil { // no path
		host, hostErr := config.ParseHost(text)
		if hostErr != nil {
			return doctor.Host{}, hostErr
		}
		end = transfer.Endpoint{Executor: settings.ExecutorFor(host), Host: host}
	} else if !path.IsAbs(string(end.Path)) {
		return doctor.Host{}, usageError("the directory of "+printable(text)+" is not absolute", "write HOST:/DIR")
	}
	return doctor.Host{Executor: end.Executor, Host: end.Host, Path: end.Path, DataAddress: settings.DataAddress(end)}, nil
}

// doctorPairs are the pairs to be tried.
func doctorPairs(hosts []doctor.Host, from string) ([][2]int, error) {
	source := -1
	if from != "" {
		if source = slices.IndexFunc(hosts, func(h doctor.Host) bool { return h.Host == from }); source < 0 {
			return nil, usageError("--from "+printable(from)+" is none of the hosts", "name it among them too")
		}
	} else if len(hosts) > allPairs {
		return nil, usageError(fmt.Sprintf("%d hosts have %d pairs", len(hosts), len(hosts)*(len(hosts)-1)), "name the one that data would come from: --from HOST")
	}
	var pairs [][2]int
	for i := range hosts {
		for j := range hosts {
			if i != j && (source < 0 || i == source) {
				pairs = append(pairs, [2]int{i, j})
			}
		}
	}
	if len(pairs) > doctor.MaxPairs {
		return nil, usageError(fmt.Sprintf("%d pairs are more than can be tried (%d)", len(pairs), doctor.MaxPairs), "name fewer hosts")
	}
	return pairs, nil
}

// firewallNames are the bundled firewalls that can look at a host.
func firewallNames() []string {
	var names []string
	for _, name := range bundledNames() {
		if name, is := strings.CutPrefix(name, "firewall/"); is && name != "none" {
			names = append(names, name)
		}
	}
	return names
}

// doctor looks, and shows what it has found.
func (a *app) doctor(ctx context.Context, settings *config.Settings, req doctor.Request, asJSON bool) error {
	plugins, err := a.openPlugins(settings)
	if err != nil {
		return err
	}
	defer plugins.Close()
	var all []doctor.Finding
	found := func(f doctor.Finding) {
		all = append(all, f)
		if asJSON {
			_ = writeJSON(a.stdout, findingLine(f)) // a reader that has gone is no reason to stop
			return
		}
		a.say("%s %s: %s: %s", findingOf(f), f.Check, f.State, f.Text)
	}
	well, err := doctor.Run(ctx, req, doctor.Deps{Plugins: plugins, Agents: &agentbin.Set{}}, found)
	if err != nil {
		return pluginError(ctx, err)
	}
	code := transfer.ExitOK
	if !well {
		code = transfer.ExitFailed
	}
	if asJSON {
		if err := writeJSON(a.stdout, doctorDoneJSON{V: 1, Event: "done", Time: time.Now(), ExitCode: code, Well: well}); err != nil {
			return err
		}
	} else {
		printFindings(a.stdout, req, all)
	}
	return &exitError{code: code}
}

// findingOf is what a finding is about.
func findingOf(f doctor.Finding) string {
	return printable(f.Host) + onlyIf(f.To != "", " -> "+printable(f.To))
}

// printFindings prints the table, in the order of the hosts on the command
// line, and below it what to do.
func printFindings(w io.Writer, req doctor.Request, all []doctor.Finding) {
	place := map[string]int{"": -1}
	for i, h := range req.Hosts {
		place[h.Host] = i
	}
	slices.SortStableFunc(all, func(a, b doctor.Finding) int {
		pairs := func(f doctor.Finding) int { return min(len(f.To), 1) } // single hosts first
		for _, d := range []int{pairs(a) - pairs(b), place[a.Host] - place[b.Host], place[a.To] - place[b.To]} {
			if d != 0 {
				return d
			}
		}
		return slices.Index(doctor.Checks, a.Check) - slices.Index(doctor.Checks, b.Check)
	})
	rows := [][]string{{"host", "check", "state", "found"}}
	bad := 0
	for _, f := range all {
		rows = append(rows, []string{findingOf(f), f.Check, string(f.State), printable(f.Text)})
		if f.State != doctor.OK {
			bad++
		}
		if f.Advice != "" {
			rows = append(rows, []string{"", "", "", "do: " + printable(f.Advice)})
		}
	}
	printRows(w, rows)
	if bad == 0 {
		fmt.Fprintln(w, "all is well")
		return
	}
	fmt.Fprintf(w, "%d of %d checks are not well\nexit code %d\n", bad, len(all), transfer.ExitFailed)
}

// findingJSON is a finding in --output json.
type findingJSON struct {
	V      int          `json:"v"`
	Event  string       `json:"event"`
	Time   time.Time    `json:"time"`
	Host   string       `json:"host"`
	To     string       `json:"to,omitempty"`
	Check  string       `json:"check"`
	State  doctor.State `json:"state"`
	Text   string       `json:"text"`
	Advice string       `json:"advice,omitempty"`
	// In seconds, bytes free and bytes a second.
	Skew *float64 `json:"clock_ahead_seconds,omitempty"`
	Free *int64   `json:"free_bytes,omitempty"`
	Rate *int64   `json:"bytes_per_second,omitempty"`
}

func findingLine(f doctor.Finding) findingJSON {
	line := findingJSON{V: 1, Event: "finding", Time: time.Now(), Host: f.Host, To: f.To, Check: f.Check, State: f.State, Text: f.Text, Advice: f.Advice}
	switch {
	case f.Check == "clock":
		seconds := time.Duration(f.Value).Seconds()
		line.Skew = &seconds
	case f.Check == "space" && (f.Value > 0 || f.State == doctor.OK):
		line.Free = &f.Value
	case f.Check == "rate" && f.State == doctor.OK:
		line.Rate = &f.Value
	}
	return line
}

// doctorDoneJSON is the last line of --output json.
type doctorDoneJSON struct {
	V        int       `json:"v"`
	Event    string    `json:"event"`
	Time     time.Time `json:"time"`
	ExitCode int       `json:"exit_code"`
	Well     bool      `json:"well"`
}

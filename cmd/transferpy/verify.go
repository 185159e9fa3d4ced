package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
)

// newVerify is `transferpy verify`.
func newVerify(a *app) *cobra.Command {
	var req transfer.VerifyRequest
	cmd := &cobra.Command{
		Use:   "verify [options] HOST:DIR --manifest FILE",
		Short: "Check a copy against the manifest of its transfer, at any later time",
		Long: `Check a copy against the manifest that --manifest has written when it was made.
DIR is the directory that holds the copy, as it was named for the transfer. An
agent on the host reads every file again, from the disk where the file system
can be asked past its cache, and changes nothing. What is missing, what differs
and what was added below the manifest's top-level names is told: all of it
counted, the first 100 by name.

The exit code is 0 where all is as in the manifest, 3 where content differs or
is missing, 1 where only attributes differ (mode, owner, times, extended
attributes, hard links) or something was added, 255 where it could not be
checked.`,
		Example: `  transferpy --manifest data.manifest db1:/srv/data db2:/srv
  transferpy verify db2:/srv --manifest data.manifest
  transferpy verify db2:/srv --manifest data.manifest --ignore mtime,owner`,
	}
	cmd.Flags().StringVar(&req.Manifest, "manifest", "", "the `FILE` to check against")
	cmd.Flags().StringSliceVar(&req.Ignore, "ignore", nil, "do not compare `WHAT`: "+strings.Join(control.Aspects, ", ")+"; may be repeated")
	flags := a.addSettings(cmd, append([]string{"owner", "output", "progress"}, common...)...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError("one HOST:DIR is needed", "see transferpy verify --help")
		}
		if req.Manifest == "" {
			return usageError("--manifest FILE is needed: what the copy is to be checked against", "transferpy --manifest FILE writes one as it copies")
		}
		if err := knownAspects(req.Ignore); err != nil {
			return err
		}
		settings, err := flags.resolve()
		if err != nil {
			return err
		}
		if req.Target, err = settings.Endpoint(args[0]); err != nil {
			return err
		}
		req.Owner = settings.Request.Owner
		return a.verify(cmd.Context(), settings, req)
	}
	return cmd
}

func knownAspects(list []string) error {
	for _, name := range list {
		known := false
		for _, aspect := range control.Aspects {
			known = known || name == aspect
		}
		if !known {
			hint := "it is one of " + strings.Join(control.Aspects, ", ") + "; content, types, sizes and links are always compared"
			if near := fields.Nearest(name, control.Aspects); near != "" {
				hint = "did you mean " + near + "?"
			}
			return usageError("--ignore "+sdk.Raw(name).Display()+" is not known", hint)
		}
	}
	return nil
}

// verify makes the check and shows what it has found.
func (a *app) verify(ctx context.Context, settings *config.Settings, req transfer.VerifyRequest) error {
	plugins, err := a.openPlugins(settings)
	if err != nil {
		return err
	}
	defer plugins.Close()
	settings.Request.Targets = []transfer.Endpoint{req.Target} // whose progress is shown
	view := a.newView(settings)
	view.kept = nil                                                               // a check is no transfer
	report, _ := transfer.Verify(ctx, req, a.deps(plugins, settings), view.event) // the report has the error
	view.close()
	if settings.JSON {
		view.write(verifyLine(report))
	} else {
		printVerified(a.stdout, report)
	}
	return &exitError{code: report.ExitCode}
}

// printVerified tells people what a check has found.
func printVerified(w io.Writer, r *transfer.VerifyReport) {
	name := endpoint(r.Target)
	if r.Err != nil {
		fmt.Fprintf(w, "%s could not be checked: %s\n", name, errorLine(r.Err))
		printAdvice(w, "  ", r.Err)
		fmt.Fprintf(w, "exit code %d\n", r.ExitCode)
		return
	}
	v := r.Result
	fmt.Fprintf(w, "%s against transfer %s of %s, %s\n", name, printable(r.Transfer), printable(r.Source), r.Time.Local().Format(time.DateTime))
	for _, f := range v.Findings {
		fmt.Fprintf(w, "  %s: %s%s\n", f.Kind, printable(string(f.Path)), onlyIf(f.What != "", " ("+printable(f.What)+")"))
	}
	if more := v.Missing + v.Differing + v.Attributes + v.Additional - int64(len(v.Findings)); more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	for _, warning := range v.Warnings {
		fmt.Fprintf(w, "  warning: %s (%d times, first %s)\n", printable(warning.What), warning.Count, warning.Example.Display())
	}
	if v.Unproven > 0 {
		fmt.Fprintf(w, "  warning: the manifest has no digest of %d files (--no-checksum): their content was not compared\n", v.Unproven)
	}
	fmt.Fprintf(w, "  %d entries, %s read, %s: ", v.Entries, bytesText(v.Checked), secondsText(r.Seconds))
	if r.ExitCode == transfer.ExitOK {
		fmt.Fprintln(w, "all is as in the manifest")
		return
	}
	fmt.Fprintf(w, "%d missing, %d differ, %d have other attributes, %d additional\nexit code %d\n", v.Missing, v.Differing, v.Attributes, v.Additional, r.ExitCode)
}

// verifyJSON is the last line of verify's --output json.
type verifyJSON struct {
	V        int       `json:"v"`
	Event    string    `json:"event"`
	Time     time.Time `json:"time"`
	ExitCode int       `json:"exit_code"`
	Seconds  float64   `json:"seconds"`
	endJSON
	Transfer string            `json:"transfer_id,omitempty"` // that the manifest is of
	Source   sdk.Raw           `json:"source,omitempty"`
	Result   *control.Verified `json:"result,omitempty"`
	Error    *sdk.Error        `json:"error,omitempty"`
}

func verifyLine(r *transfer.VerifyReport) verifyJSON {
	return verifyJSON{V: 1, Event: "done", Time: time.Now(), ExitCode: r.ExitCode, Seconds: r.Seconds,
		endJSON: endJSON{r.Target.Host, r.Target.Path}, Transfer: r.Transfer, Source: sdk.Raw(r.Source), Result: r.Result, Error: r.Err}
}

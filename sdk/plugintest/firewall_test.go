package plugintest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/plugins/firewalls/none"
	"github.com/transferpy/transferpy/sdk"
)

// anyHoles are holes in one host.
func anyHoles() []sdk.Hole {
	return []sdk.Hole{{Host: "db2", Port: 4400, Sources: []string{"192.0.2.1", "2001:db8::1"}, Expiry: time.Unix(1796083200, 0)}}
}

func TestFirewallInProcess(t *testing.T) {
	Firewall(t, none.New(), FirewallCase{Holes: anyHoles()})
}

// fileFirewall has a file for each rule, in a directory; its mistake is one of
// wrongFirewalls.
type fileFirewall struct {
	sdk.Firewall
	dir     string
	mistake string
}

func (f fileFirewall) Describe() sdk.Description {
	d := f.Firewall.Describe()
	d.Name = "files"
	return d
}

func shell(script string, args ...string) sdk.Command {
	return sdk.Command{Argv: argv(append([]string{"sh", "-euc", script, "-"}, args...)...)}
}

func (f fileFirewall) path(id string) string { return f.dir + "/" + id }

func (f fileFirewall) Detect(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Filter, error) {
	if f.mistake == "changes while it looks" {
		host.Run(ctx, []sdk.HostCommands{{Host: hosts[0], Commands: []sdk.Command{shell(`: >"$1"`, f.path("seen"))}}})
	}
	return []sdk.Filter{{Host: hosts[0], Filters: true, What: "files", Why: "always"}}, nil
}

func (f fileFirewall) Open(ctx context.Context, id string, holes []sdk.Hole, host sdk.Host) ([]sdk.Rule, error) {
	if !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(id) || strings.HasPrefix(id, "-") {
		if f.mistake != "takes any id" || strings.Contains(id, "/") {
			return nil, sdk.ErrConfig
		}
	}
	if s := holes[0].Sources; len(s) == 1 && f.mistake != "takes any id" {
		return nil, sdk.ErrConfig
	}
	expiry := fmt.Sprint(holes[0].Expiry.Unix())
	script := `old=$(cat "$1" 2>/dev/null || echo 0); [ "$old" -gt "$2" ] || echo "$2" >"$1"; cat "$1"`
	switch f.mistake {
	case "makes a rule each time":
		script = `echo "$2" >>"$1"; echo "$2"`
	case "forgets the later expiry":
		script = `echo "$2" | tee "$1"`
	}
	undo := sdk.Undo{ID: "file", What: "remove it", When: sdk.WhenEnd, Commands: []sdk.Command{shell(`rm -f "$1"`, f.path(id))}}
	switch f.mistake {
	case "undoes once":
		undo.Commands = []sdk.Command{shell(`rm "$1"`, f.path(id))}
	case "undoes nothing":
		undo.Commands = []sdk.Command{shell(`true`)}
	}
	results, err := host.Change(ctx, []sdk.HostChange{{Host: holes[0].Host, Undo: undo, Commands: []sdk.Command{shell(script, f.path(id), expiry)}}})
	if err != nil {
		return nil, err
	}
	var unix int64
	fmt.Sscan(string(results[0].Results[0].Stdout), &unix)
	return []sdk.Rule{{Host: holes[0].Host, ID: "file", Text: "a file", Expiry: time.Unix(unix, 0)}}, nil
}

func (f fileFirewall) Close(ctx context.Context, id string, rules []sdk.Rule, host sdk.Host) error {
	script := `rm -f "$1"`
	switch f.mistake {
	case "closes once":
		script = `rm "$1"`
	case "closes for all":
		script = `rm -f "${1%/*}"/*`
	}
	nothing := sdk.Undo{ID: "closed", What: "nothing", When: sdk.WhenEnd, Commands: []sdk.Command{shell(`true`)}}
	results, err := host.Change(ctx, []sdk.HostChange{{Host: rules[0].Host, Undo: nothing, Commands: []sdk.Command{shell(script, f.path(id))}}})
	if err == nil && results[0].Results[0].ExitCode != 0 {
		err = sdk.ErrNotFound
	}
	return err
}

func (f fileFirewall) Sweep(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Rule, error) {
	if f.mistake == "sweeps the living" {
		host.Run(ctx, []sdk.HostCommands{{Host: hosts[0], Commands: []sdk.Command{shell(`rm -f "$1"/*`, f.dir)}}})
	}
	return nil, nil
}

// runFiles runs the suite over a fileFirewall.
func runFiles(t *testing.T, mistake string) {
	dir := t.TempDir()
	print := func(t *testing.T) string {
		out, err := exec.Command("sh", "-c", `cd "$1" && for f in *; do [ ! -e "$f" ] || { echo "$f:"; cat "$f"; }; done`, "-", dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	Firewall(t, fileFirewall{none.New(), dir, mistake}, FirewallCase{Holes: anyHoles(), State: print,
		Check: func(t *testing.T, open bool) {
			if (print(t) != "") != open {
				t.Errorf("open: %v, want %v", !open, open)
			}
		}})
}

func TestFirewallOfFiles(t *testing.T) { runFiles(t, "") }

// wrongFirewalls are the mistakes, and what the suite complains of.
var wrongFirewalls = map[string]string{
	"changes while it looks":   "Detect changed something",
	"takes any id":             "Open takes ",
	"makes a rule each time":   "Open again changed something",
	"forgets the later expiry": "does not keep its own",
	"undoes once":              "fails when it runs for the second time",
	"undoes nothing":           "the undo left something behind",
	"closes once":              "Close: ",
	"closes for all":           "to open and close for another transfer changed something",
	"sweeps the living":        "Sweep changed something",
}

// TestWrongFirewall runs the suite over firewalls that are wrong, each in a
// process of its own, and wants it to fail for the right reason.
func TestWrongFirewall(t *testing.T) {
	for mistake, want := range wrongFirewalls {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			complains(t, "TestWrongFirewallChild", mistake, want)
		})
	}
}

func TestWrongFirewallChild(t *testing.T) {
	mistake := os.Getenv(wrongEnv)
	if _, ok := wrongFirewalls[mistake]; !ok {
		t.Skip("a part of TestWrongFirewall")
	}
	runFiles(t, mistake)
}

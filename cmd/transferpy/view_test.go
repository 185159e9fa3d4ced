package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// testView makes a view that writes to buffers.
func testView(settings *config.Settings) (v *view, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	a := &app{stdout: stdout, stderr: &screen{w: stderr}, terminal: -1}
	settings.Request.Targets = []transfer.Endpoint{{Host: "db2", Path: "/srv"}, {Host: "db3", Path: "/s\x1b"}}
	return a.newView(settings), stdout, stderr
}

var testReport = &transfer.Report{
	Transfer: "20261123-153042-k3mq7xwa", ExitCode: 2, Seconds: 12.3, Source: transfer.Endpoint{Host: "db1", Path: "/srv/data"}, Calls: 4,
	Targets: []transfer.TargetReport{
		{Host: "db2", Path: "/srv", Bytes: 2_100_000_000, Files: 1234, Wire: 900_000_000, Seconds: 10, Digest: "ab12", Address: "10.99.0.12:4400", Verified: control.VerifyReadBack},
		{Host: "db3", Path: "/s\x1b", ExitCode: 2, Seconds: 4, Err: &sdk.Error{Kind: sdk.KindNoSpace, Host: "db3", Message: "/s\x1b is full", Hint: "free some"}},
	},
	Warnings: []control.Warning{{What: "sockets are not copied", Count: 3, Example: "/srv/data/\xff"}},
}

func TestTextReport(t *testing.T) {
	v, stdout, _ := testView(&config.Settings{})
	v.finish(testReport)
	want := `transfer 20261123-153042-k3mq7xwa of db1:/srv/data: 12.3 s, 4 executor calls
  target      state       bytes    files  time    rate      on the wire  to               verified             digest
  db2:/srv    copied      2.10 GB  1234   10.0 s  210 MB/s  900 MB       10.99.0.12:4400  read back from disk  ab12
  db3:/s\x1b  FAILED (2)  -        -      4.0 s   -         -            -                -                    -
  db3:/s\x1b: FAILED (2): /s\x1b is full
    free some
  warning: sockets are not copied (3 times, first "/srv/data/\xff")
exit code 2
`
	if stdout.String() != want {
		t.Errorf("got:\n%s", stdout.String())
	}
}

func TestTargets(t *testing.T) {
	good := testReport.Targets[0]
	stopped := &sdk.Error{Kind: sdk.KindCancelled, Message: "stopped"}
	bad := transfer.TargetReport{Host: "db3", Path: "/srv", ExitCode: 1, Err: stopped}
	cases := map[string]struct {
		targets []transfer.TargetReport
		whole   *sdk.Error
		want    string
	}{
		"one": {[]transfer.TargetReport{good}, nil, `  db2:/srv: 2.10 GB in 1234 files, 10.0 s, 210 MB/s, 900 MB on the wire, to 10.99.0.12:4400
    verified: read back from disk, digest ab12
`},
		"one that failed":         {[]transfer.TargetReport{bad}, nil, "  db3:/srv: FAILED (1): stopped\n"},
		"one that failed as told": {[]transfer.TargetReport{bad}, stopped, "  db3:/srv: not copied\n"},
		"all failed, as was told": {[]transfer.TargetReport{bad, bad}, stopped, "  db3:/srv: not copied\n  db3:/srv: not copied\n"},
		"some, as was told": {[]transfer.TargetReport{good, bad}, stopped, `  target    state       bytes    files  time    rate      on the wire  to               verified             digest
  db2:/srv  copied      2.10 GB  1234   10.0 s  210 MB/s  900 MB       10.99.0.12:4400  read back from disk  ab12
  db3:/srv  FAILED (1)  -        -      0.0 s   -         -            -                -                    -
`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			printTargets(&b, c.targets, c.whole)
			if b.String() != c.want {
				t.Errorf("got\n%s", b.String())
			}
		})
	}
}

func TestJSONOutput(t *testing.T) {
	v, stdout, stderr := testView(&config.Settings{JSON: true, Progress: "auto"})
	now := time.Date(2026, 11, 23, 15, 30, 42, 0, time.UTC)
	v.event(transfer.Event{Type: transfer.EventStarted, Time: now, Transfer: "t1"})
	v.event(transfer.Event{Type: transfer.EventPhase, Time: now, Transfer: "t1", Phase: "moving"})
	v.event(transfer.Event{Type: transfer.EventError, Time: now, Transfer: "t1", Host: "db3", Err: testReport.Targets[1].Err})
	v.event(transfer.Event{Type: transfer.EventDone, Time: now, Transfer: "t1", Report: testReport})
	v.finish(testReport)

	lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), stdout.String())
	}
	for _, line := range lines {
		var e struct {
			V        int
			Event    string
			Time     time.Time
			Transfer string `json:"transfer_id"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.V != 1 || e.Event == "" || e.Transfer == "" || e.Time.IsZero() {
			t.Errorf("%s: %+v, %v", line, e, err)
		}
	}
	var done struct {
		Event    string
		ExitCode int `json:"exit_code"`
		Targets  []struct {
			Host, Path string
			State      string
			Rate       *float64
			ExitCode   int `json:"exit_code"`
			Bytes      int64
			Wire       int64 `json:"wire_bytes"`
			Digest     string
			Error      *struct{ Kind, Message string }
		}
	}
	if err := json.Unmarshal([]byte(lines[3]), &done); err != nil {
		t.Fatal(err)
	}
	if done.Event != "done" || done.ExitCode != 2 || len(done.Targets) != 2 || done.Targets[0].Wire != 900_000_000 ||
		done.Targets[0].Error != nil || done.Targets[1].Error.Kind != "no-space" || done.Targets[1].Path != "/s\x1b" {
		t.Errorf("%+v", done)
	}
	if ok, failed := done.Targets[0], done.Targets[1]; ok.State != "copied" || ok.Rate == nil || *ok.Rate != float64(ok.Bytes)/testReport.Targets[0].Seconds ||
		failed.State != "failed" || failed.Rate != nil {
		t.Errorf("states and rates: %+v", done.Targets)
	}
	if !strings.Contains(stderr.String(), "moving") || !strings.Contains(stderr.String(), "free some") || strings.Contains(stderr.String(), "\x1b") {
		t.Errorf("standard error: %q", stderr.String())
	}
}

func TestDryRun(t *testing.T) {
	plan := transfer.Event{Type: transfer.EventPlanned, Plan: &transfer.PlanView{Bytes: 10, Entries: 2, Hosts: []transfer.HostPlan{{Host: "db1", Lines: []string{"read\n/srv"}}}}}
	settings := &config.Settings{Verbose: true}
	settings.Request.DryRun = true
	v, stdout, _ := testView(settings)
	v.event(plan)
	v.finish(&transfer.Report{})
	if want := "db1:\n  read\\n/srv\ndry run: nothing was changed\n"; stdout.String() != want {
		t.Errorf("got %q", stdout.String())
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.00 kB", 999_499: "999 kB", 999_999: "1.00 MB", 12_345_678: "12.3 MB", 1 << 62: "4.61 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for s, want := range map[float64]string{0.04: "0.0 s", 12.34: "12.3 s", 120: "2m", 130: "2m10s", 3610: "1h0m10s", 3671: "1h1m11s", 3600: "1h0m"} {
		if got := secondsText(s); got != want {
			t.Errorf("%v: got %s, want %s", s, got, want)
		}
	}
}

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// most names what the one goroutine that sends, or takes, and what the workers
// spend most of their time with.
func most(t control.Times) string {
	larger := func(spent map[string]time.Duration) string {
		found := ""
		for name, d := range spent {
			if found == "" || d > spent[found] {
				found = name
			}
		}
		return found
	}
	return larger(map[string]time.Duration{"idle": t.Idle, "sending": t.Sending, "paced": t.Paced, "taking": t.Taking}) + ", " +
		larger(map[string]time.Duration{"disk": t.Disk, "CPU": t.CPU, "braked": t.Braked})
}

// TestTimes slows one part of the pipeline after the other down; the time is
// to be seen where it was spent.
func TestTimes(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int64{"data": 24 << 20, "more": 2*targetBudget + 32<<20} { // more than all buffers take
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
	}
	command := func(script string) sdk.Stage {
		return sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"sh", "-c", sdk.Raw(script)}, Dir: sdk.Raw(dir)}}
	}
	cases := map[string]struct {
		read, write    sdk.Stage
		settings       func(*control.Settings)
		source, target string // what most returns, as far as it is sure
	}{
		"slow reader": {command("for i in $(seq 24); do head -c 1048576; sleep 0.04; done <data"), command("cat >/dev/null"),
			func(*control.Settings) {}, "idle, disk", "idle"},
		"slow writer": {command("cat more"), command("sleep 3; cat >/dev/null"), func(*control.Settings) {}, "sending", "taking, disk"},
		"limited reading": {sdk.Stage{Builtin: sdk.BuiltinFile, Path: sdk.Raw(filepath.Join(dir, "data"))}, command("cat >/dev/null"),
			func(s *control.Settings) { s.LimitRead = 24 << 20 }, "idle, braked", "idle"},
		"limited rate": {command("cat data"), command("cat >/dev/null"), func(s *control.Settings) { s.LimitRate = 24 << 20 }, "paced", "idle"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, filepath.Join(dir, "data"), 1, func(p *control.Start) {
				p.Read, p.Write, p.Settings.Verify = c.read, c.write, control.VerifyReceived
				c.settings(&p.Settings)
			})
			r.start()
			all := r.settled()
			for name, want := range map[string]string{"source": c.source, "target-1": c.target} {
				m := all[name]
				if m.Error != nil || m.Times == nil {
					t.Fatalf("%s: %+v", name, m)
				}
				if got := most(*m.Times); !strings.HasPrefix(got, want) {
					t.Errorf("%s has spent its time with %s, want %s: %+v", name, got, want, *m.Times)
				}
			}
		})
	}
}

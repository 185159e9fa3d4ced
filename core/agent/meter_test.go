package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

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
		read, write sdk.Stage
		limit       int64
		source      func(control.Times) time.Duration // where at least half of the source's time goes
		target      func(control.Times) time.Duration
	}{
		"slow reader": {command("for i in $(seq 24); do head -c 1048576; sleep 0.04; done <data"), command("cat >/dev/null"), 0,
			func(s control.Times) time.Duration { return min(s.Idle, s.Disk-s.CPU) }, func(t control.Times) time.Duration { return t.Idle }},
		"slow writer": {command("cat more"), command("sleep 2; cat >/dev/null"), 0,
			func(s control.Times) time.Duration { return s.Sending }, func(t control.Times) time.Duration { return min(t.Taking, t.Disk-t.CPU) }},
		"limited rate": {command("cat data"), command("cat >/dev/null"), 24 << 20,
			func(s control.Times) time.Duration { return s.Paced }, func(t control.Times) time.Duration { return t.Idle }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, filepath.Join(dir, "data"), 1, func(p *control.Start) {
				p.Read, p.Write, p.Settings.Verify, p.Settings.LimitRate = c.read, c.write, control.VerifyReceived, c.limit
			})
			r.start()
			all := r.settled()
			for name, spent := range map[string]func(control.Times) time.Duration{"source": c.source, "target-1": c.target} {
				m := all[name]
				if m.Error != nil || m.Times == nil {
					t.Fatalf("%s: %+v", name, m)
				}
				if spent(*m.Times) < m.Times.Alive/2 {
					t.Errorf("%s has spent its time elsewhere: %+v", name, *m.Times)
				}
			}
		})
	}
}

package transfer

import (
	"errors"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/record"
	"github.com/transferpy/transferpy/sdk"
)

// listed are the lines that the trial's transfers have left.
func (tr *trial) listed(t *testing.T) []record.Line {
	t.Helper()
	var list []record.Line
	if _, err := record.Read(tr.deps.StateDir, func(l record.Line) error { list = append(list, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestEveryAttemptIsListed: whatever comes of a transfer, it leaves one line;
// a dry run leaves none.
func TestEveryAttemptIsListed(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(*trial)
		exits   []int // of the whole, and of a and b
	}{
		{"good", func(*trial) {}, []int{0, 0, 0}},
		{"refused", func(tr *trial) { tr.mode.found.Refusals = []*sdk.Error{broken} }, []int{255, 255, 255}},
		{"one fails", func(tr *trial) { tr.site.hosts["b"].failAt[control.VerbStart] = broken }, []int{1, 0, 1}},
		{"dry run", func(tr *trial) { tr.req.DryRun = true }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTrial(t, "a", "b")
			tr.req.Reason, tr.deps.Version = "ticket 17", "1.2"
			tt.prepare(tr)
			report := tr.run(t)
			list := tr.listed(t)
			if tt.exits == nil {
				if len(list) != 0 {
					t.Errorf("it left %+v", list)
				}
				return
			}
			if len(list) != 1 {
				t.Fatalf("%d lines", len(list))
			}
			l := list[0]
			if l.Transfer != report.Transfer || l.EndedBy != record.ByRun || l.Reason != "ticket 17" || l.Versions["transferpy"] != "1.2" || l.Source.Host != "src" || l.Source.Executor != "x" {
				t.Errorf("%+v", l)
			}
			if l.ExitCode != tt.exits[0] || len(l.Targets) != 2 || l.Targets[0].ExitCode != tt.exits[1] || l.Targets[1].ExitCode != tt.exits[2] {
				t.Errorf("exit %d, targets %+v, want %v", l.ExitCode, l.Targets, tt.exits)
			}
			if whole := tt.exits[1] == 0; whole != (l.Bytes == 1000) || whole != (len(l.Digest) == 64) {
				t.Errorf("%d bytes, digest %q", l.Bytes, l.Digest)
			}
		})
	}
}

// TestAttemptsAreListed: a transfer that was resumed has a line for each
// attempt, one whose process died has that of cleanup, and none has two.
func TestAttemptsAreListed(t *testing.T) {
	tr, id := failed(t)
	tr.resume(t, id)
	tr.resume(t, id) // refused, since there is nothing to resume: no attempt
	got := ""
	for _, l := range tr.listed(t) {
		got += l.EndedBy + " " + strings.Repeat("kept ", map[bool]int{true: 1}[l.Kept])
	}
	if got != "run kept resume " {
		t.Errorf("lines: %s", got)
	}

	tr = newTrial(t, "a", "b")
	tr.site.hosts["b"].slow = 1000
	id = tr.crash(t)
	for range 2 {
		if err := Cleanup(t.Context(), id, tr.deps, nil); err != nil {
			t.Fatal(err)
		}
	}
	list := tr.listed(t)
	if len(list) != 1 || list[0].EndedBy != record.ByCleanup || list[0].Transfer != id || list[0].ExitCode != ExitFailed || list[0].Error == nil {
		t.Errorf("after the cleanup: %+v", list)
	}
}

// TestRefusedBeforeItBegan: a transfer whose plugins cannot be started is
// listed too.
func TestRefusedBeforeItBegan(t *testing.T) {
	tr := newTrial(t, "a")
	id, err := Refused(tr.req, tr.deps, ExitUsage, errors.New("no such plugin"))
	list := tr.listed(t)
	if err != nil || len(list) != 1 || list[0].Transfer != id || list[0].ExitCode != ExitUsage || list[0].Error.Message != "no such plugin" || len(list[0].Targets) != 1 {
		t.Errorf("%q, %v: %+v", id, err, list)
	}
}

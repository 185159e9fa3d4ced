package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

func TestLifeOfAnAgent(t *testing.T) {
	h := newHost(t)
	first := &control.Request{Verb: control.VerbPrepare, Transfer: "t", Call: "p1", Prepare: &control.Prepare{Lease: time.Minute, Hold: time.Hour, Nice: 10}}
	r := h.ask(first)
	if r.Error != nil || len(r.Agents) != 1 {
		t.Fatalf("%+v", r)
	}
	id, ready := r.Agents[0].Agent, r.Agents[0].Ready
	if again := h.ask(first); len(again.Agents) != 1 || again.Agents[0].Agent != id || again.Agents[0].Ready.Fingerprint != ready.Fingerprint {
		t.Fatalf("a repeated prepare made another agent: %+v", again)
	}
	pid := h.pids()[0]
	if sid, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); !inSession(sid, pid) {
		t.Errorf("the agent is not detached: %s", sid)
	}
	if r := h.ask(&control.Request{Verb: control.VerbPrepare, Transfer: "t", Prepare: &control.Prepare{Port: ready.Port, Lease: time.Minute, Hold: time.Hour}}); !errors.Is(r.Error, sdk.ErrExists) || !strings.Contains(r.Error.Message, strconv.Itoa(pid)) {
		t.Errorf("a taken port was not refused by its holder: %v", r.Error)
	}

	file := filepath.Join(t.TempDir(), "changed")
	if a := h.change(id, "u1", file, sdk.WhenEnd); a.Error != nil || a.Running || !exists(file) {
		t.Fatalf("%+v", a)
	}
	h.change(id, "u2", file, sdk.WhenEnd)
	h.change(id, "u3", file, sdk.WhenSourceDone)
	s := h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t"}).Agents[0].Status
	if s == nil || len(s.Undos) != 3 || s.Undos[0].ID != "u1" || s.Undos[0].Done {
		t.Errorf("status: %+v", s)
	}

	r = h.ask(&control.Request{Verb: control.VerbStop, Transfer: "t", Wait: 10 * time.Second, Stop: &control.Stop{SourceDone: true}})
	eventually(t, "the source-done undo", func() bool { return h.undone() == "u3" })
	if r.Agents[0].Status.Ended {
		t.Error("the agent ended at source-done")
	}

	r = h.stop()
	if len(r.Agents) != 1 || r.Agents[0].Status == nil || !r.Agents[0].Status.Ended || r.Agents[0].Error != nil {
		t.Fatalf("stop: %+v", r)
	}
	if got := h.undone(); got != "u3 u2 u1" || exists(file) {
		t.Errorf("undone: %q", got)
	}
	if exists(h.transferDir()) {
		t.Error("the directory of the transfer is left")
	}
	eventually(t, "the process ends", func() bool { return !running(pid) })
	if again := h.stop(); again.Error != nil || len(again.Agents) != 0 {
		t.Errorf("a second stop: %+v", again)
	}
}

// inSession reports whether the process leads a session: field 6 of its stat.
func inSession(stat []byte, pid int) bool {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return len(fields) > 3 && fields[3] == strconv.Itoa(pid)
}

func TestCallsAreDoneOnce(t *testing.T) {
	h := newHost(t)
	id := h.prepare(time.Minute)
	count := filepath.Join(t.TempDir(), "count")
	slow := &control.Request{Verb: control.VerbDo, Transfer: "t", Call: "slow", Wait: 50 * time.Millisecond, Do: &control.Do{Parts: map[string]control.DoPart{
		id: {Commands: []sdk.Command{sh("echo x >> " + count + "; sleep 1; echo done; exit 3"), sh("echo second")}},
	}}}
	if a := h.ask(slow).Agents[0]; !a.Running || a.Done != nil {
		t.Fatalf("a slow do: %+v", a)
	}
	slow.Wait = 20 * time.Second
	for range 2 {
		a := h.ask(slow).Agents[0]
		if a.Running || len(a.Done) != 1 || len(a.Done[0].Results) != 2 {
			t.Fatalf("a repeated do: %+v", a)
		}
		if r := a.Done[0].Results[0]; r.ExitCode != 3 || string(r.Stdout) != "done\n" {
			t.Errorf("%+v", r)
		}
	}
	if data, _ := os.ReadFile(count); string(data) != "x\n" {
		t.Errorf("the command ran more than once: %q", data)
	}
	other := &control.Request{Verb: control.VerbBegin, Transfer: "t", Call: "slow"}
	if a := h.ask(other).Agents[0]; !errors.Is(a.Error, sdk.ErrConfig) {
		t.Errorf("the same call for another verb: %v", a.Error)
	}

	newer := h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t", Generation: 2})
	if newer.Agents[0].Error != nil {
		t.Error(newer.Agents[0].Error)
	}
	if a := h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t", Generation: 1}).Agents[0]; !errors.Is(a.Error, sdk.ErrPermission) {
		t.Errorf("an older controller was heard: %+v", a)
	}
}

func TestStatusWaits(t *testing.T) {
	h := newHost(t)
	id := h.prepare(time.Minute)
	s := h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t", Wait: time.Minute}).Agents[0].Status
	began := time.Now()
	h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t", Wait: 500 * time.Millisecond, Seen: map[string]uint64{id: s.Change}})
	if took := time.Since(began); took < 500*time.Millisecond || took > 5*time.Second {
		t.Errorf("a status without news took %v", took)
	}
	// A second agent with news makes the first answer, too.
	other := h.prepare(time.Minute)
	began = time.Now()
	r := h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t", Wait: 20 * time.Second, Seen: map[string]uint64{id: s.Change}})
	if len(r.Agents) != 2 || time.Since(began) > 10*time.Second {
		t.Errorf("news of %s did not end the wait of %s (%v): %+v", other, id, time.Since(began), r)
	}
	// An undo at source-done is news.
	h.change(id, "u1", filepath.Join(t.TempDir(), "f"), sdk.WhenSourceDone)
	free := mustEncode(t, &control.Request{Verb: control.VerbStop, Transfer: "t", Call: "free", Stop: &control.Stop{SourceDone: true}})
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() {
		time.Sleep(300 * time.Millisecond)
		h.run("stop", free)
	})
	began = time.Now()
	r = h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t", Wait: 20 * time.Second, Seen: map[string]uint64{id: s.Change, other: 1}})
	if time.Since(began) > 10*time.Second {
		t.Errorf("a source-done undo is no news: %+v", r)
	}
	h.stop()
}

func mustEncode(t *testing.T, q *control.Request) []byte {
	t.Helper()
	data, err := control.EncodeRequest(q)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKilledAgentIsRecovered(t *testing.T) {
	h := newHost(t)
	id, living := h.prepare(time.Minute), h.prepare(time.Minute)
	file := filepath.Join(t.TempDir(), "changed")
	h.change(id, "u1", file, sdk.WhenEnd)
	h.change(id, "u2", file, sdk.WhenEnd)
	i, err := agentDir{path: filepath.Join(h.transferDir(), id)}.readInfo()
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(i.PID, syscall.SIGKILL)
	eventually(t, "the agent is gone", func() bool {
		for _, a := range h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t"}).Agents {
			if a.Agent == id {
				return a.Gone && errors.Is(a.Error, sdk.ErrCrashed)
			}
		}
		return false
	})
	if !exists(file) || h.undone() != "" {
		t.Error("something was undone before recover")
	}
	r := h.ask(&control.Request{Verb: control.VerbRecover, Transfer: "t", Recover: &control.Recover{}})
	for _, a := range r.Agents {
		switch a.Agent {
		case id:
			if a.Error != nil || a.Status == nil || !a.Status.Ended || len(a.Status.Undos) != 2 || !a.Status.Undos[1].Done {
				t.Errorf("recover: %+v", a)
			}
		case living:
			if !errors.Is(a.Error, sdk.ErrExists) {
				t.Errorf("recover of a living agent: %+v", a)
			}
		}
	}
	if exists(file) || h.undone() != "u2 u1" || exists(filepath.Join(h.transferDir(), id)) {
		t.Errorf("not recovered: %q", h.undone())
	}
	if r := h.stop(); len(r.Agents) != 1 || !r.Agents[0].Status.Ended {
		t.Errorf("the living agent: %+v", r)
	}
	if r := h.ask(&control.Request{Verb: control.VerbRecover, Transfer: "t", Recover: &control.Recover{}}); len(r.Agents) != 0 || r.Error != nil {
		t.Errorf("recover of nothing: %+v", r)
	}
}

func TestUndoThatFailsStaysForRecover(t *testing.T) {
	h := newHost(t)
	id := h.prepare(time.Minute)
	gate := filepath.Join(t.TempDir(), "gate")
	h.ask(&control.Request{Verb: control.VerbDo, Transfer: "t", Wait: 10 * time.Second, Do: &control.Do{Parts: map[string]control.DoPart{
		id: {Undo: &sdk.Undo{ID: "u", What: "needs the gate", When: sdk.WhenEnd, Commands: []sdk.Command{sh("test -e " + gate + " || { echo closed >&2; exit 1; }")}}},
	}}})
	r := h.ask(&control.Request{Verb: control.VerbStop, Transfer: "t", Wait: 40 * time.Second, Stop: &control.Stop{}})
	u := r.Agents[0].Status.Undos
	if !r.Agents[0].Status.Ended || len(u) != 1 || u[0].Done || u[0].Error == nil || !strings.Contains(u[0].Error.Stderr, "closed") {
		t.Fatalf("stop: %+v", r.Agents[0].Status)
	}
	eventually(t, "the agent ends", func() bool { return agentDir{path: filepath.Join(h.transferDir(), id)}.look() == dead })
	recoverAll := &control.Request{Verb: control.VerbRecover, Transfer: "t", Recover: &control.Recover{}}
	if a := h.ask(recoverAll).Agents[0]; a.Error == nil || a.Status.Ended {
		t.Errorf("recover before the gate opens: %+v", a)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a := h.ask(recoverAll).Agents[0]; a.Error != nil || !a.Status.Ended || exists(h.transferDir()) {
		t.Errorf("recover: %+v", a)
	}
}

func TestLeaseEnds(t *testing.T) {
	h := newHost(t)
	id := h.prepare(4 * time.Second)
	pid := h.pids()[0]
	file := filepath.Join(t.TempDir(), "changed")
	h.change(id, "u1", file, sdk.WhenEnd)
	h.ask(&control.Request{Verb: control.VerbDo, Transfer: "t", Do: &control.Do{Parts: map[string]control.DoPart{id: {Commands: []sdk.Command{sh("echo $$ > " + file + ".pid; exec sleep 1000")}}}}})
	for range 5 { // asked for, it lives on
		time.Sleep(time.Second)
		if r := h.ask(&control.Request{Verb: control.VerbStatus, Transfer: "t"}); len(r.Agents) != 1 {
			t.Fatalf("ended too early: %+v", r)
		}
	}
	eventually(t, "the lease ends the agent", func() bool { return !running(pid) })
	if exists(file) || h.undone() != "u1" || exists(h.transferDir()) {
		t.Errorf("the lease did not undo: %q", h.undone())
	}
	data, err := os.ReadFile(file + ".pid")
	if err != nil {
		t.Fatal(err)
	}
	sleeper, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	if running(sleeper) {
		t.Error("the running command was not killed")
	}
}

func TestTerminatedAgentUndoes(t *testing.T) {
	h := newHost(t)
	id := h.prepare(time.Minute)
	pid := h.pids()[0]
	file := filepath.Join(t.TempDir(), "changed")
	h.change(id, "u1", file, sdk.WhenEnd)
	syscall.Kill(pid, syscall.SIGHUP) // a logout ends nothing
	time.Sleep(100 * time.Millisecond)
	if !running(pid) {
		t.Fatal("SIGHUP ended the agent")
	}
	syscall.Kill(pid, syscall.SIGTERM)
	eventually(t, "SIGTERM ends the agent", func() bool { return !running(pid) })
	if exists(file) || exists(h.transferDir()) {
		t.Error("SIGTERM did not undo")
	}
}

// stage makes a staging directory and its undo as a target does, in the
// directory of a dead agent.
func (h *host) stage(t *testing.T, d agentDir) string {
	t.Helper()
	log, err := undo.Open(d.path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	spec := staging.Spec{Transfer: "t", Member: "target-1", Dest: sdk.Destination{Dir: sdk.Raw(t.TempDir())}}
	if err := log.Defer(undo.Record{Undo: sdk.Undo{ID: "staging", When: sdk.WhenEnd}, Settle: &spec}); err != nil {
		t.Fatal(err)
	}
	s, err := staging.Create(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return spec.Path()
}

// kill kills an agent and returns its directory.
func (h *host) kill(t *testing.T, id string) agentDir {
	t.Helper()
	d := agentDir{id: id, path: filepath.Join(h.transferDir(), id)}
	i, err := d.readInfo()
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(i.PID, syscall.SIGKILL)
	eventually(t, "the agent is dead", func() bool { return d.look() == dead })
	return d
}

// TestKeptUntilItIsRecovered: what was kept stays with the undos that remove
// it, however often it is kept, and goes by recover.
func TestKeptUntilItIsRecovered(t *testing.T) {
	h := newHost(t)
	id := h.prepare(time.Minute)
	file := filepath.Join(t.TempDir(), "changed")
	h.change(id, "u1", file, sdk.WhenEnd)
	path := h.stage(t, h.kill(t, id))
	for range 2 {
		a := h.ask(&control.Request{Verb: control.VerbRecover, Transfer: "t", Recover: &control.Recover{Keep: true}}).Agents[0]
		if a.Error != nil || !a.Status.Ended || a.Status.Members[0].Kept != sdk.Raw(path) || !exists(path) || exists(file) {
			t.Fatalf("kept: %+v; staging %v, change %v", a, exists(path), exists(file))
		}
	}
	if a := h.ask(&control.Request{Verb: control.VerbStop, Transfer: "t", Stop: &control.Stop{}}).Agents[0]; !a.Gone {
		t.Errorf("stop: %+v", a)
	}
	if a := h.ask(&control.Request{Verb: control.VerbRecover, Transfer: "t", Recover: &control.Recover{}}).Agents[0]; a.Error != nil || exists(path) || exists(h.transferDir()) {
		t.Errorf("recover: %+v; staging %v", a, exists(path))
	}
}

// TestResumePrepares: the new agent is alone, whatever the old ones left.
func TestResumePrepares(t *testing.T) {
	h := newHost(t)
	path := h.stage(t, h.kill(t, h.prepare(time.Minute)))
	prepare := &control.Request{Verb: control.VerbPrepare, Transfer: "t", Call: "again", Prepare: &control.Prepare{Lease: time.Minute, Hold: time.Hour, Keep: true, Resume: "t"}}
	r := h.ask(prepare)
	if r.Error != nil || len(r.Agents) != 1 || r.Agents[0].Ready == nil || !r.Agents[0].Ready.Kept || !exists(path) {
		t.Fatalf("%+v; staging %v", r, exists(path))
	}
	if again := h.ask(prepare); again.Error != nil || again.Agents[0].Agent != r.Agents[0].Agent {
		t.Errorf("the same call again: %+v", again)
	}
	// It is the last one here, and keeps nothing: what the old one kept goes too.
	if s := h.stop(); len(s.Agents) != 1 || !s.Agents[0].Status.Ended || exists(h.transferDir()) || exists(path) {
		t.Errorf("stop: %+v; staging %v", s, exists(path))
	}
}

// TestEndsByItselfAndKeeps: an agent whose transfer is to be kept keeps when
// its host shuts down, or its lease ends.
func TestEndsByItselfAndKeeps(t *testing.T) {
	l := live(t, control.Prepare{Lease: 300 * time.Millisecond, Hold: time.Hour, Keep: true})
	path := deferSettle(t, l)
	eventually(t, "the lease ends the agent", l.isOver)
	if !exists(path) || !exists(l.dir.path) {
		t.Errorf("staging %v, the agent's directory %v", exists(path), exists(l.dir.path))
	}
}

// TestEndedByAnotherRelease: what controllers of another version say to look at
// an agent and to end it, dead or alive, is understood, whatever else is in it.
func TestEndedByAnotherRelease(t *testing.T) {
	for _, kill := range []bool{false, true} {
		h := newHost(t)
		agent := h.prepare(time.Minute)
		file := filepath.Join(t.TempDir(), "change")
		h.change(agent, "u1", file, sdk.WhenEnd)
		verb, part := "stop", `"stop":{"gently":true}`
		if kill {
			for _, pid := range h.pids() {
				syscall.Kill(pid, syscall.SIGKILL)
				eventually(t, "it is dead", func() bool { return agentDir{path: filepath.Join(h.transferDir(), agent)}.look() == dead })
			}
			verb, part = "recover", `"recover":{"keep":false}`
		}
		status := h.run("status", []byte(`{"v":99,"verb":"status","call":"later-1","transfer":"t","generation":5,"mood":"calm"}`))
		if status.Error != nil || len(status.Agents) != 1 || status.Agents[0].Gone != kill {
			t.Errorf("status: %+v", status)
		}
		request := fmt.Sprintf(`{"v":99,"verb":%q,"call":"later-2","transfer":"t","generation":5,"wait":20000000000,%s}`, verb, part)
		if r := h.run(verb, []byte(request)); r.Error != nil || len(r.Agents) != 1 || r.Agents[0].Status == nil || !r.Agents[0].Status.Ended {
			t.Errorf("%s: %+v", verb, r)
		}
		if exists(file) || h.undone() != "u1" {
			t.Errorf("%s has not undone it: %q", verb, h.undone())
		}
	}
}

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/facts"
	"github.com/transferpy/transferpy/sdk"
)

// priorities are the nice value and the I/O priority of every thread of a
// process, each once.
func priorities(t *testing.T, pid int) map[string]bool {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	out := map[string]bool{}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			t.Fatal(err)
		}
		prio, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
		if err != nil {
			continue // it has ended
		}
		io, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWho, uintptr(tid), 0)
		if errno != 0 {
			continue
		}
		out[fmt.Sprintf("nice %d, io class %d level %d", 20-prio, io>>ioClass, io&7)] = true
	}
	return out
}

func only(set map[string]bool, one string) bool { return len(set) == 1 && set[one] }

// session is the nice value of a process's session; empty if the kernel has
// none.
func session(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/autogroup", pid))
	_, nice, _ := strings.Cut(strings.TrimSpace(string(text)), " nice ")
	return nice
}

// TestNice: all threads of the agent that is asked for, and what it starts,
// have the priorities; another agent has what this process has.
func TestNice(t *testing.T) {
	h := newHost(t)
	state, err := openState(h.state)
	if err != nil {
		t.Fatal(err)
	}
	host, err := facts.Host(state.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		on   []string
		want string
		all  string // of the session
	}{
		{"this host", []string{"other", host.Instance}, "nice 13, io class 2 level 7", "13"},
		{"every host", nil, "nice 13, io class 2 level 7", "13"},
		{"another host", []string{"other"}, "", "0"},
	} {
		r := h.ask(&control.Request{Verb: control.VerbPrepare, Transfer: "t", Call: "p", Prepare: &control.Prepare{Lease: time.Minute, Hold: time.Hour, Nice: 13, NiceOn: c.on}})
		if r.Error != nil || len(r.Agents) != 1 {
			t.Fatalf("%s: %+v", c.name, r)
		}
		pidFile := filepath.Join(t.TempDir(), "pid")
		h.ask(&control.Request{Verb: control.VerbDo, Transfer: "t", Call: "do", Do: &control.Do{Parts: map[string]control.DoPart{
			r.Agents[0].Agent: {Commands: []sdk.Command{sh("echo $$ >" + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; sleep 60")}},
		}}})
		eventually(t, "the command runs", func() bool { return exists(pidFile) })
		text, _ := os.ReadFile(pidFile)
		child, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		want := c.want
		if want == "" {
			for p := range priorities(t, os.Getpid()) { // tests may run niced themselves
				want = p
			}
		}
		for what, pid := range map[string]int{"agent": h.pids()[0], "command": child} {
			if got := priorities(t, pid); !only(got, want) {
				t.Errorf("%s: the %s has %v, not %q", c.name, what, got, want)
			}
			if got := session(pid); got != "" && got != c.all {
				t.Errorf("%s: the session of the %s has nice %q", c.name, what, got)
			}
		}
		h.stop()
	}
}

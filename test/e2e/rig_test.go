package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// patience bounds every wait for something that ought to happen. It only
// matters when a test fails.
const patience = 2 * time.Minute

// slots keeps the tests from running more than two labs at once: the suite
// is meant for machines with two processors.
var slots = make(chan struct{}, 2)

// rig is a lab with transferpy on its control host.
type rig struct {
	*lab.Lab
	t testing.TB
}

// newRig makes a lab for a test, when there is room for one.
func newRig(t testing.TB, o lab.Options) *rig {
	t.Helper()
	slots <- struct{}{}
	t.Cleanup(func() { <-slots })
	o.Bin = binDir
	return &rig{Lab: lab.New(t, o), t: t}
}

// sh runs a shell script on a host and returns its output without the last
// newline.
func (r *rig) sh(host, script string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	out, err := r.Run(ctx, host, "sh", "-c", script)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSuffix(out, "\n")
}

// path is where a path of a host is found by this process.
func (r *rig) path(host, path string) string {
	r.t.Helper()
	p, err := r.Path(host, path)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// job is a transferpy that runs on the control host.
type job struct {
	r      *rig
	args   []string
	cmd    *exec.Cmd
	stdout output
	stderr output
	done   chan struct{}
}

// output collects what a process writes and wakes who waits for it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts transferpy on the control host; the test's end kills it.
func (r *rig) start(env []string, args ...string) *job {
	r.t.Helper()
	return r.startArgv(env, append([]string{"transferpy"}, args...)...)
}

func (r *rig) startArgv(env []string, argv ...string) *job {
	r.t.Helper()
	j := r.prepare(env, argv...)
	j.launch()
	return j
}

// prepare makes a job whose streams may still be changed.
func (r *rig) prepare(env []string, argv ...string) *job {
	j := &job{r: r, args: argv, cmd: r.Cmd(lab.Control, argv...), done: make(chan struct{})}
	j.cmd.Env = append(j.cmd.Env, env...)
	j.cmd.Stdout, j.cmd.Stderr = &j.stdout, &j.stderr
	return j
}

func (j *job) launch() {
	j.r.t.Helper()
	if err := j.cmd.Start(); err != nil {
		j.r.t.Fatal(err)
	}
	go func() {
		j.cmd.Wait()
		close(j.done)
	}()
	j.r.t.Cleanup(func() {
		syscall.Kill(-j.cmd.Process.Pid, syscall.SIGKILL)
		<-j.done
	})
}

// result is how a transferpy ended. A code of -1 means: by a signal.
type result struct {
	code           int
	stdout, stderr string
}

// said is all that people see.
func (res result) said() string { return res.stdout + "\n" + res.stderr }

// wait waits for the end.
func (j *job) wait() result {
	j.r.t.Helper()
	return j.waitFor(patience)
}

func (j *job) waitFor(d time.Duration) result {
	j.r.t.Helper()
	select {
	case <-j.done:
	case <-time.After(d):
		j.r.t.Fatalf("%q does not end\n%s", j.args, j.transcript())
	}
	return result{exitCode(j.cmd.ProcessState), j.stdout.String(), j.stderr.String()}
}

func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

func (j *job) transcript() string {
	return fmt.Sprintf("stdout:\n%s\nstderr:\n%s", j.stdout.String(), j.stderr.String())
}

// wants waits for the end and fails the test if the code is another.
func (j *job) wants(code int) result {
	j.r.t.Helper()
	res := j.wait()
	if res.code != code {
		j.r.t.Fatalf("%q: exit code %d, want %d\n%s", j.args, res.code, code, j.transcript())
	}
	return res
}

// transferpy runs to its end.
func (r *rig) transferpy(code int, args ...string) result {
	r.t.Helper()
	return r.start(nil, args...).wants(code)
}

// process is the transferpy that a job started, as the machine sees it.
func (j *job) process() lab.Process {
	j.r.t.Helper()
	var found lab.Process
	j.r.until(func() error {
		list, err := j.r.Processes(lab.Control)
		for _, p := range list {
			if p.Parent == j.cmd.Process.Pid && p.Name == "transferpy" {
				found = p
				return nil
			}
		}
		return errors.Join(fmt.Errorf("%q has no process\n%s", j.args, j.transcript()), err)
	})
	return found
}

func (j *job) signal(s syscall.Signal) {
	j.r.t.Helper()
	if err := syscall.Kill(j.process().PID, s); err != nil {
		j.r.t.Fatal(err)
	}
}

// until polls until check has no error, and fails the test if it keeps one.
func (r *rig) until(check func() error) {
	r.t.Helper()
	if err := r.within(patience, check); err != nil {
		r.t.Fatal(err)
	}
}

// within polls until check has no error, and returns the last after d.
func (r *rig) within(d time.Duration, check func() error) error {
	for deadline := time.Now().Add(d); ; time.Sleep(20 * time.Millisecond) {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// moving waits until the transfer has bytes in a staging directory below dir
// of host.
func (j *job) moving(host, dir string) {
	j.r.t.Helper()
	j.staging(host, dir, 1)
}

// staging waits until it has at least so many.
func (j *job) staging(host, dir string, least int64) {
	j.r.t.Helper()
	j.r.until(func() error {
		if j.ended() {
			j.r.t.Fatalf("%q has ended before it was to be disturbed\n%s", j.args, j.transcript())
		}
		n := stagedBytes(j.r.path(host, dir))
		if n >= least {
			return nil
		}
		return fmt.Errorf("%d bytes are staged in %s:%s, not yet %d\n%s", n, host, dir, least, j.transcript())
	})
}

// exitCode is a program's exit code as a shell tells it: 128+n where signal n
// killed it, which is what becomes of one that was hit before it could do
// anything.
func exitCode(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}

// stagedBytes is what lies of the data in staging directories below dir, by
// its size; what the agents keep beside it is there before any data flows.
func stagedBytes(dir string) (n int64) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !stagedData.MatchString(path) {
			return nil // files come and go while we look
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

var stagedData = regexp.MustCompile(`/\.transferpy-[^/]+/data/`)

// event is one line of --output json.
type event struct {
	V        int    `json:"v"`
	Event    string `json:"event"`
	Time     string `json:"time"`
	Transfer string `json:"transfer_id"`
	ExitCode *int   `json:"exit_code"`
	Targets  []struct {
		Host     string `json:"host"`
		Path     string `json:"path"`
		ExitCode int    `json:"exit_code"`
		Bytes    int64  `json:"bytes"`
		Files    int64  `json:"files"`
		Wire     int64  `json:"wire_bytes"`
		Digest   string `json:"digest"`
		Error    *struct {
			Kind    string `json:"kind"`
			Message string `json:"message"`
		} `json:"error"`
	} `json:"targets"`
}

// events reads what --output json printed; every line must be one.
func events(text string) ([]event, error) {
	var list []event
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		var e event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("not an event: %q: %w", s.Text(), err)
		}
		if e.V == 0 || e.Event == "" || e.Time == "" {
			return nil, fmt.Errorf("an event without v, event or time: %q", s.Text())
		}
		list = append(list, e)
	}
	return list, nil
}

var idForm = regexp.MustCompile(`[0-9]{8}-[0-9]{6}-[a-z2-7]{8}`)

// listed are the ids that `transferpy list` shows.
func (r *rig) listed() []string {
	r.t.Helper()
	ids := idForm.FindAllString(r.transferpy(0, "list").stdout, -1)
	slices.Sort(ids)
	return slices.Compact(ids)
}

package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// fakeJob is a job whose flow the test decides.
type fakeJob struct {
	mu      sync.Mutex
	starts  int
	commits int
	stopped bool
	flowing bool
	refuse  error
	members []control.MemberStatus
	closed  []control.ClosedPort
}

func (j *fakeJob) Start(*control.Start) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.starts++
	return j.refuse
}

func (j *fakeJob) Begin() { j.set(func() { j.flowing = true }) }

func (j *fakeJob) Commit(_ context.Context, names []string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.commits++
	for i := range j.members {
		for _, name := range names {
			if j.members[i].Name == name {
				j.members[i].Phase = control.PhaseCommitted
			}
		}
	}
	return nil
}

func (j *fakeJob) Members() []control.MemberStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]control.MemberStatus(nil), j.members...)
}

func (j *fakeJob) Closed() []control.ClosedPort {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

func (j *fakeJob) Flowing() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.flowing
}

func (j *fakeJob) Stop(context.Context) error {
	j.set(func() { j.stopped = true })
	return nil
}

func (j *fakeJob) set(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

// living is a server of this process with a fake job.
type living struct {
	*server
	t     *testing.T
	job   *fakeJob
	state *state
	over  chan struct{}
}

func live(t *testing.T, p control.Prepare) *living {
	t.Helper()
	st, err := openState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	lock, err := lockTransfer(t.Context(), st, "t")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	config := &serveConfig{StateDir: st.path, Transfer: "t", Agent: "a1", Prepare: p}
	files, err := furnish(config.dir().path)
	if err != nil {
		t.Fatal(err)
	}
	l := &living{t: t, job: &fakeJob{}, state: st, over: make(chan struct{})}
	l.server = newServer(config, files, &control.Ready{})
	l.server.job = l.job
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(l.over)
		defer l.close()
		l.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-l.over
	})
	return l
}

var longLease = control.Prepare{Lease: time.Minute, Hold: time.Hour}

// ask delivers a request as a command on the host does.
func (l *living) ask(q *control.Request) control.Answer {
	l.t.Helper()
	q.V, q.Transfer = control.Version, "t"
	reply, err := deliver(l.t.Context(), l.state, q)
	if err != nil || len(reply.Agents) != 1 {
		l.t.Fatalf("%s: %+v, %v", q.Verb, reply, err)
	}
	return reply.Agents[0]
}

func (l *living) isOver() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

func (l *living) phases(phases ...control.Phase) {
	l.job.set(func() {
		l.job.members = nil
		for i, p := range phases {
			l.job.members = append(l.job.members, control.MemberStatus{Name: []string{"source", "target-1"}[i], Phase: p})
		}
	})
}

func plan() *control.Start {
	digest := "00000000000000000000000000000000000000000000000000000000000000ff"
	return &control.Start{
		Members: []control.Member{
			{Name: "source", Agent: "a1", Fingerprint: digest, SigningKey: make([]byte, 32), Port: 1},
			{Name: "target-1", Agent: "a1", Fingerprint: digest, Port: 1, Destination: &sdk.Destination{Dir: "/srv"}},
		},
		Read: sdk.Stage{Builtin: "tree", Path: "/a"}, Write: sdk.Stage{Builtin: "tree"},
		Settings: control.Settings{Codec: "none", Verify: control.VerifySigned},
	}
}

func TestStartWaitsUntilThePhase(t *testing.T) {
	l := live(t, longLease)
	l.phases(control.PhaseMoving, control.PhaseMoving)
	time.AfterFunc(200*time.Millisecond, l.changed) // news, but not the phase
	time.AfterFunc(500*time.Millisecond, func() { l.phases(control.PhaseVerified, control.PhaseVerified) })
	began := time.Now()
	start := &control.Request{Verb: control.VerbStart, Call: "s", Wait: 20 * time.Second, Until: control.PhaseVerified, Start: plan()}
	a := l.ask(start)
	if took := time.Since(began); took < 450*time.Millisecond || took > 10*time.Second || a.Status.Members[0].Phase != control.PhaseVerified {
		t.Errorf("after %v: %+v", took, a.Status)
	}
	if l.ask(start); l.job.starts != 1 {
		t.Errorf("%d starts", l.job.starts)
	}
	l.phases(control.PhaseMoving, control.PhaseFailed)
	began = time.Now()
	if l.ask(&control.Request{Verb: control.VerbStatus, Call: "w", Wait: 20 * time.Second, Until: control.PhaseVerified}); time.Since(began) > 10*time.Second {
		t.Error("a failed member was waited for")
	}
}

// TestWhatWantsTheControllerIsTold: an answer that waits for a phase goes out
// for it, once, and it does not matter whether it happened before the call.
func TestWhatWantsTheControllerIsTold(t *testing.T) {
	l := live(t, longLease)
	l.phases(control.PhaseLinking, control.PhaseLinking)
	closed := control.ClosedPort{Member: "target-1", Rounds: 1, Addresses: []control.ClosedAddress{{Address: "192.0.2.1", Local: "192.0.2.2", Outcome: "timeout"}}}
	time.AfterFunc(200*time.Millisecond, func() {
		l.job.set(func() { l.job.closed = []control.ClosedPort{closed} })
		l.wants()
	})
	began := time.Now()
	a := l.ask(&control.Request{Verb: control.VerbStart, Call: "s", Wait: 20 * time.Second, Until: control.PhaseVerified, Start: plan()})
	if took := time.Since(began); took < 150*time.Millisecond || took > 10*time.Second || len(a.Status.Closed) != 1 {
		t.Fatalf("after %v: %+v", took, a.Status)
	}
	status := func(seen uint64, wait time.Duration) (control.Answer, time.Duration) {
		began := time.Now()
		a := l.ask(&control.Request{Verb: control.VerbStatus, Call: control.NewID(), Wait: wait, Until: control.PhaseVerified, Seen: map[string]uint64{"a1": seen}})
		return a, time.Since(began)
	}
	if _, took := status(a.Status.Change, 300*time.Millisecond); took < 250*time.Millisecond {
		t.Errorf("told again after %v", took)
	}
	l.wants()
	if _, took := status(a.Status.Change, 20*time.Second); took > 10*time.Second {
		t.Errorf("what happened before the call was told after %v", took)
	}
}

func TestStartThatIsRefusedIsTold(t *testing.T) {
	l := live(t, longLease)
	l.job.refuse = sdk.ErrNoSpace
	a := l.ask(&control.Request{Verb: control.VerbStart, Call: "s", Start: plan()})
	if !errors.Is(a.Error, sdk.ErrNoSpace) {
		t.Errorf("%+v", a)
	}
}

func TestCommitEndsWhatIsComplete(t *testing.T) {
	l := live(t, longLease)
	l.ask(&control.Request{Verb: control.VerbStart, Call: "s", Start: plan()})
	l.phases(control.PhaseVerified, control.PhaseVerifying)
	a := l.ask(&control.Request{Verb: control.VerbCommit, Call: "c1", Wait: time.Second, Commit: &control.Commit{Stop: true}})
	if a.Status.Ended || l.isOver() {
		t.Fatal("ended before its target was committed")
	}
	l.phases(control.PhaseVerified, control.PhaseVerified)
	commit := &control.Request{Verb: control.VerbCommit, Call: "c2", Wait: 20 * time.Second, Commit: &control.Commit{Members: []string{"target-1"}, Stop: true}}
	a = l.ask(commit)
	if !a.Status.Ended || a.Status.Members[1].Phase != control.PhaseCommitted || !l.job.stopped {
		t.Errorf("%+v", a.Status)
	}
	<-l.over
	if again := l.ask(commit); !again.Status.Ended || again.Status.Members[1].Phase != control.PhaseCommitted {
		t.Errorf("after the end: %+v", again.Status)
	}
}

func TestHoldReplacesTheLeaseOnceDataFlows(t *testing.T) {
	l := live(t, control.Prepare{Lease: 200 * time.Millisecond, Hold: 1500 * time.Millisecond})
	l.ask(&control.Request{Verb: control.VerbBegin, Call: "b"})
	deferSettle(t, l)
	time.Sleep(800 * time.Millisecond)
	if l.isOver() {
		t.Fatal("the lease ended an agent whose data flows")
	}
	select {
	case <-l.over:
	case <-time.After(10 * time.Second):
		t.Fatal("the hold has no end")
	}
	if !l.job.stopped || l.files.undo.Pending() != 0 {
		t.Errorf("stopped %v, %d undos left", l.job.stopped, l.files.undo.Pending())
	}
}

// deferSettle defers the undo of a real staging directory, as the job does.
func deferSettle(t *testing.T, l *living) string {
	t.Helper()
	spec := staging.Spec{Transfer: "t", Member: "target-1", Dest: sdk.Destination{Dir: sdk.Raw(t.TempDir())}}
	if err := l.files.undo.Defer(undo.Record{Undo: sdk.Undo{ID: "staging", When: sdk.WhenEnd}, Settle: &spec}); err != nil {
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

func TestStopKeepsStagingWhenAsked(t *testing.T) {
	for _, keep := range []bool{false, true} {
		l := live(t, longLease)
		path := deferSettle(t, l)
		a := l.ask(&control.Request{Verb: control.VerbStop, Call: "s", Wait: 20 * time.Second, Stop: &control.Stop{Keep: keep}})
		if !a.Status.Ended || exists(path) != keep {
			t.Errorf("keep %v: exists %v, %+v", keep, exists(path), a.Status)
		}
		if got := a.Status.Members[0].Kept; (got == sdk.Raw(path)) != keep {
			t.Errorf("keep %v: kept %q", keep, got)
		}
		if undone := a.Status.Undos[0].Done; undone == keep || a.Status.Undos[0].Error != nil {
			t.Errorf("keep %v: %+v", keep, a.Status.Undos)
		}
	}
}

func TestSourceDoneIsRetried(t *testing.T) {
	l := live(t, longLease)
	gate := filepath.Join(t.TempDir(), "gate")
	rec := undo.Record{Undo: sdk.Undo{ID: "u", When: sdk.WhenSourceDone, Commands: []sdk.Command{sh("test -e " + gate + " || { touch " + gate + "; false; }")}}}
	if err := l.files.undo.Defer(rec); err != nil {
		t.Fatal(err)
	}
	l.sourceDone()
	eventually(t, "the second attempt", func() bool { return l.files.undo.Pending() == 0 })
	if l.isOver() {
		t.Error("the agent ended with its source")
	}
}

func TestCallsAreForgotten(t *testing.T) {
	var l calls
	for i := range 2 * maxCalls {
		c, isNew, err := l.take(string(rune('a'+i)), control.VerbDo)
		if err != nil || !isNew {
			t.Fatal(i, err)
		}
		c.finish(nil)
	}
	if len(l.list) != maxCalls {
		t.Errorf("%d calls are remembered", len(l.list))
	}
	l = calls{}
	for i := range maxCalls {
		l.take(string(rune('a'+i)), control.VerbDo)
	}
	if _, _, err := l.take("one more", control.VerbDo); !errors.Is(err, sdk.ErrTimeout) {
		t.Errorf("%v", err)
	}
}

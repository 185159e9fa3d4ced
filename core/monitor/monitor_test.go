package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/core/agent/ownsocket"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/sdk"
)

const id = "20261123-153042-k3mq7xwa"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stateDir lies deeper than the address of a socket may be long.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func serve(t *testing.T, dir string, cancel func()) *Server {
	t.Helper()
	s, err := Listen(dir, id, cancel)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatusAndCancel(t *testing.T) {
	dir := stateDir(t)
	os.WriteFile(filepath.Join(dir, id+Suffix), nil, 0o600) // a dead process's
	var cancelled atomic.Int32
	s := serve(t, dir, func() { cancelled.Add(1) })
	s.Update(func(last *Snapshot) {
		last.Phase, last.Total = "move", 7
		last.Members = []progress.Member{{Reading: progress.Reading{Host: "db2", Path: "/srv/\xff",
			Status: control.MemberStatus{Name: "target-1", Phase: control.PhaseMoving, Bytes: 5, Warnings: make([]control.Warning, 1000)}}, Held: holdup.Link}}
	})
	got, err := Status(t.Context(), dir, id)
	if err != nil || got.Phase != "move" || got.Total != 7 || got.PID != os.Getpid() || len(got.Members) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if m := got.Members[0]; m.Path != "/srv/\xff" || m.Status.Bytes != 5 || m.Held != holdup.Link || m.Status.Warnings != nil {
		t.Errorf("member: %+v", m)
	}
	if err := Cancel(t.Context(), dir, id); err != nil || cancelled.Load() != 1 {
		t.Errorf("cancel: %v, heard %d times", err, cancelled.Load())
	}
	s.Close()
	if _, err := Status(t.Context(), dir, id); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, id+Suffix)); err == nil {
		t.Error("the socket is left")
	}
}

func TestFollow(t *testing.T) {
	dir := stateDir(t)
	s := serve(t, dir, nil)
	ended := make(chan error)
	seen := make(chan Snapshot, 100)
	go func() { ended <- Follow(t.Context(), dir, id, func(s Snapshot) { seen <- s }) }()
	<-seen
	s.Update(func(last *Snapshot) { last.Phase = "move" })
	if got := <-seen; got.Phase != "move" {
		t.Errorf("it tells %+v", got)
	}
	s.Update(func(last *Snapshot) { last.Done, last.ExitCode = true, 3 })
	s.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	close(seen)
	var last Snapshot
	for last = range seen {
	}
	if !last.Done || last.ExitCode != 3 {
		t.Errorf("the last is %+v", last)
	}
}

// TestDeath: an end without a last word is told as one.
func TestDeath(t *testing.T) {
	dir := stateDir(t)
	s := serve(t, dir, nil)
	ended := make(chan error)
	seen := make(chan Snapshot, 100)
	go func() { ended <- Follow(t.Context(), dir, id, func(s Snapshot) { seen <- s }) }()
	<-seen
	s.Close()
	if err := <-ended; !errors.Is(err, sdk.ErrUnreachable) || !strings.Contains(err.Error(), "it has died") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s = serve(t, dir, nil)
	defer s.Close()
	if err := Follow(ctx, dir, id, func(Snapshot) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("whose patience has ended: %v", err)
	}
}

// TestNonsense: questions of no form end the conversation and nothing else.
func TestNonsense(t *testing.T) {
	dir := stateDir(t)
	s := serve(t, dir, func() { t.Error("cancelled") })
	defer s.Close()
	for _, text := range []string{"\n", "null\n", `{"v":9,"verb":"cancel"}` + "\n", `{"v":1,"verb":"erase"}` + "\n", strings.Repeat("x", 1<<20)} {
		conn, err := ownsocket.Dial(t.Context(), dir, id+Suffix, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(text)) // it may hang up before it has read all
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			t.Errorf("%.20q is answered", text)
		}
		conn.Close()
	}
	if _, err := Status(t.Context(), dir, id); err != nil {
		t.Errorf("and then: %v", err)
	}
}

// FuzzSnapshot: what is read of an answer is told on as it was.
func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(`{"v":1,"transfer":"t","pid":7,"phase":"move","total":-1,"members":[{"Host":"db2","Path":"/srv","Status":{"name":"target-1","phase":"moving"},"Rate":1.5}],"later":1}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		s, err := decodeSnapshot(line)
		if err != nil {
			return
		}
		text, err := json.Marshal(s.slim())
		if err != nil {
			return // a time of no year
		}
		again, err := decodeSnapshot(text)
		if err != nil {
			t.Fatalf("%q is told as %q: %v", line, text, err)
		}
		if second, err := json.Marshal(again.slim()); err != nil || !bytes.Equal(text, second) {
			t.Errorf("%q is told as %q, then as %q", line, text, second)
		}
	})
}

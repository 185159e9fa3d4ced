package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// TestWordOfTheEnd: an agent that has published all is asked again when it has
// gone; stop removes what it left.
func TestWordOfTheEnd(t *testing.T) {
	l := live(t, longLease)
	l.ask(&control.Request{Verb: control.VerbStart, Call: "c1", Start: plan()})
	l.phases(control.PhaseVerified, control.PhaseVerified)
	commit := &control.Request{Verb: control.VerbCommit, Call: "c2", Commit: &control.Commit{Members: []string{"target-1"}, Stop: true}}
	l.ask(commit) // and nobody waits for how it ends
	<-l.over
	for _, q := range []*control.Request{commit, {Verb: control.VerbStatus, Call: "c3"}, {Verb: control.VerbStatus, Call: "c4", Observe: true}} {
		a := l.ask(q)
		if a.Agent != "a1" || a.Status == nil || !a.Status.Ended || len(a.Status.Members) != 2 || a.Status.Members[1].Phase != control.PhaseCommitted {
			t.Errorf("%s: %+v", q.Verb, a)
		}
	}
	if a := l.ask(&control.Request{Verb: control.VerbStop, Call: "c5", Stop: &control.Stop{}}); a.Status == nil || !a.Status.Ended {
		t.Errorf("stop: %+v", a)
	}
	reply, err := deliver(t.Context(), l.state, &control.Request{V: control.Version, Verb: control.VerbStatus, Transfer: "t", Call: "c6"})
	if err != nil || len(reply.Agents) != 0 {
		t.Errorf("after it was read: %+v, %v", reply, err)
	}
	if _, err := os.Lstat(l.state.sub(resultsDir)); err == nil {
		t.Error("the directory is left")
	}
}

// TestResultsAreBounded: in number, age and size, and foreign ones are not
// believed.
func TestResultsAreBounded(t *testing.T) {
	st, err := openState(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	members := make([]control.MemberStatus, 100)
	for i := range members {
		members[i] = control.MemberStatus{Name: "target-1", Phase: control.PhaseCommitted, Paths: []sdk.Raw{sdk.Raw(make([]byte, 4096))}}
	}
	leave := func(transfer, agent string) string {
		if err := leaveResult(st, transfer, control.Answer{Agent: agent, Status: &control.Status{Ended: true, Members: members}}); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(st.sub(resultsDir), resultName(transfer, agent))
	}
	path := leave("t", "a1")
	if info, err := os.Stat(path); err != nil || info.Size() > maxResult || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if got := addResults(st, "t", nil); len(got) != 1 || len(got[0].Status.Members) != 100 {
		t.Errorf("read: %+v", got)
	}
	if got := addResults(st, "t", []control.Answer{{Agent: "a1", Status: &control.Status{}}}); len(got) != 1 || len(got[0].Status.Members) != 100 {
		t.Errorf("of an agent that died on its way out: %+v", got)
	}
	if err := os.Rename(path, filepath.Join(st.sub(resultsDir), resultName("t", "a2"))); err != nil {
		t.Fatal(err)
	}
	if got := addResults(st, "t", nil); len(got) != 0 {
		t.Errorf("under another's name: %+v", got)
	}
	for i := range maxResults + 10 {
		members = nil
		leave("u", "b"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	}
	st.sweepResults(time.Now())
	if n := len(resultsOf(st, "u")); n != maxResults {
		t.Errorf("%d are left, want %d", n, maxResults)
	}
	st.sweepResults(time.Now().Add(keepResult + time.Minute))
	if n := len(resultsOf(st, "u")); n != 0 {
		t.Errorf("%d old ones are left", n)
	}
}

// FuzzResult: what is read of a file is a valid answer or refused, and is as
// long as it may be when it is written again.
func FuzzResult(f *testing.F) {
	data, err := encodeResult(control.Answer{Agent: "a1", Status: &control.Status{Ended: true, Members: []control.MemberStatus{{Name: "target-1", Phase: control.PhaseCommitted}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"v":1,"answer":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeResult(bytes.NewReader(data))
		if err != nil {
			return
		}
		reply := control.Reply{V: control.Version, Agents: []control.Answer{r.Answer}}
		if err := reply.Validate(); err != nil {
			t.Fatalf("%q is no answer: %v", data, err)
		}
		text, err := encodeResult(r.Answer)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeResult(bytes.NewReader(text))
		if err != nil || again.Answer.Agent != r.Answer.Agent || len(again.Answer.Status.Members) != len(r.Answer.Status.Members) {
			t.Errorf("%q is written as %q: %v", data, text, err)
		}
	})
}

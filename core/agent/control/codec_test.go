package control

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

var (
	someKey    = bytes.Repeat([]byte{7}, 32)
	someDigest = strings.Repeat("ab", 32)
)

// validRequests has one request of every verb.
func validRequests() map[string]*Request {
	source := Member{Name: "source", Host: "db1", Agent: "a1", Fingerprint: someDigest, SigningKey: someKey, Port: 4400, Addresses: []string{"192.0.2.1"}}
	target := Member{Name: "target-1", Host: "db2", Agent: "a2", Fingerprint: someDigest, Port: 4400, Addresses: []string{"2001:db8::1"},
		Destination: &sdk.Destination{Dir: "/srv/\xff", Publish: []sdk.Raw{"x"}}}
	command := sdk.Command{Argv: []sdk.Raw{"echo", "\xff\n"}, Stdin: []byte("in"), Timeout: time.Second}
	return map[string]*Request{
		"probe": {Verb: VerbProbe, Call: "c", Probe: &Probe{
			Paths:    []sdk.PathQuestion{{ID: "p", Path: "/srv", Count: true}},
			Commands: []sdk.CommandQuestion{{ID: "q", Command: command}},
			Resolve:  []string{"db2.example.org"}}},
		"prepare": {Verb: VerbPrepare, Transfer: "t", Call: "c", Prepare: &Prepare{Lease: time.Minute, Hold: time.Hour, Nice: 10}},
		"start": {Verb: VerbStart, Transfer: "t", Call: "c", Wait: time.Second, Until: PhaseVerified, Seen: map[string]uint64{"a1": 1}, Start: &Start{
			Members: []Member{source, target}, Begins: true,
			Read:     sdk.Stage{Builtin: sdk.BuiltinTree, Path: "/srv/data"},
			Write:    sdk.Stage{Command: &sdk.StageCommand{Argv: []sdk.Raw{"tar", "-x"}, Dir: "{staging}", Env: []sdk.Raw{"A=b"}, StopSignal: "INT", Redact: []string{"secret"}}},
			Settings: Settings{Encrypt: true, Codec: "none", Verify: VerifyReadBack, Owner: "name", DataNetworks: []string{"192.0.2.0/24"}}}},
		"do":          {Verb: VerbDo, Transfer: "t", Call: "c", Do: &Do{Parts: map[string]DoPart{"a1": {Undo: &sdk.Undo{ID: "u", When: sdk.WhenEnd, Commands: []sdk.Command{command}}, Commands: []sdk.Command{command}}}}},
		"do more":     {Verb: VerbDo, Transfer: "t", Call: "c", Do: &Do{Parts: map[string]DoPart{"a1": {Commands: []sdk.Command{command}, Then: []DoPart{{Undo: &sdk.Undo{ID: "u", When: sdk.WhenEnd}, Commands: []sdk.Command{command}}}}}}},
		"one-shot do": {Verb: VerbDo, Call: "c", Do: &Do{Parts: map[string]DoPart{"i1": {Commands: []sdk.Command{command}}}}},
		"status":      {Verb: VerbStatus, Transfer: "t", Call: "c", Generation: 3},
		"begin":       {Verb: VerbBegin, Transfer: "t", Call: "c"},
		"commit":      {Verb: VerbCommit, Transfer: "t", Call: "c", Commit: &Commit{Members: []string{"target-1"}, Stop: true}},
		"stop":        {Verb: VerbStop, Transfer: "t", Call: "c", Stop: &Stop{Keep: true}},
		"recover":     {Verb: VerbRecover, Transfer: "t", Call: "c", Recover: &Recover{}},
		"manifest":    {Verb: VerbManifest, Transfer: "t", Call: "c", Wait: time.Second, Manifest: &Manifest{Agent: "a1", Offset: 7, Limit: 1 << 10}},
		"verify": {Verb: VerbVerify, Transfer: "t", Call: "c", Verify: &Verify{Dir: "/srv/\xff", Owner: "name", Ignore: []string{"mtime"},
			Parts: []VerifyPart{{Path: "/var/lib/transferpy/in/x", Digest: someDigest}}}},
		"resume": {Verb: VerbPrepare, Transfer: "t", Call: "c", Prepare: &Prepare{Keep: true, Resume: "t", Checkpoint: time.Second, Lease: 1, Hold: 1}},
		"route": {Verb: VerbRoute, Call: "c", Route: &Route{Networks: []string{"192.0.2.0/24"}, To: []RouteTo{
			{Member: "target-1", Host: "root@db2", DataAddress: "192.0.2.1", Addresses: []string{"2001:db8::1"}, BootID: "b", NetNS: "n"}}}},
		"prepare alone": {Verb: VerbPrepare, Transfer: "t", Call: "c", Prepare: &Prepare{Alone: true, Lease: 1, Hold: 1}},
		"prepare port":  {Verb: VerbPrepare, Transfer: "20261123-ab_C", Call: "c", Prepare: &Prepare{Port: 65535, Lease: 1, Hold: 1}},
	}
}

func validReplies() map[string]*Reply {
	return map[string]*Reply{
		"facts": {Facts: &Facts{Instance: "i1", Hostname: "db1", StateDir: "/var/lib/transferpy", Program: "/x", Addresses: []string{"192.0.2.1"},
			Resolved: map[string][]string{"db2": {"192.0.2.2"}},
			Paths:    map[string]sdk.PathFacts{"p": {Exists: true, Type: sdk.FileDirectory, FreeInodes: -1}},
			Commands: map[string]sdk.Result{"q": {ExitCode: 1, Stderr: []byte{0xff}}}}},
		"ready":  {Agents: []Answer{{Agent: "a1", Ready: &Ready{Fingerprint: someDigest, SigningKey: someKey, Port: 4400, Kept: true}}}},
		"status": {Agents: []Answer{{Agent: "a1", Status: &Status{Change: ChangeGone, Members: []MemberStatus{{Name: "source", Phase: PhaseMoving, Root: someDigest, Paths: []sdk.Raw{"/\xff"}, Kept: "/srv/\xff"}}, Undos: []UndoStatus{{ID: "u", Error: sdk.ErrTimeout}}}}}},
		"do":     {Agents: []Answer{{Agent: "a1", Done: []DoResult{{Part: "a1", Results: []sdk.Result{{Stdout: []byte("x")}}}}}, {Agent: "a2", Running: true}, {Agent: "a3", Gone: true}}},
		"piece":  {Agents: []Answer{{Agent: "a1", Piece: &Piece{Size: 5, Data: []byte("abc")}}}},
		"verified": {Agents: []Answer{{Agent: "a1", Verified: &Verified{Entries: 2, Missing: 1,
			Findings: []Finding{{Kind: FindingMissing, Path: "a\xff", What: "gone"}}, Warnings: []Warning{{What: "sockets", Count: 1}}}}}},
		"routes": {Routes: map[string][]string{"target-1": {"192.0.2.1", "2001:db8::1"}, "target-2": {}}},
		"closed": {Agents: []Answer{{Agent: "a1", Status: &Status{Closed: []ClosedPort{{Member: "target-1", Rounds: 2,
			Addresses: []ClosedAddress{{Address: "192.0.2.1", Local: "192.0.2.2", Outcome: "timeout"}, {Address: "fe80::1%eth0", Outcome: "no-route"}}}}}}}},
		"error": {Error: &sdk.Error{Kind: sdk.KindExists, Message: "taken"}},
	}
}

func TestRoundTrip(t *testing.T) {
	for name, q := range validRequests() {
		data, err := EncodeRequest(q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := DecodeRequest(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := EncodeRequest(back)
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("%s: encoded differently the second time (%v):\n%s%s", name, err, data, again)
		}
	}
	for name, a := range validReplies() {
		data, err := EncodeReply(a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := DecodeReply(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Count(data, []byte("\n")) != 1 {
			t.Errorf("%s: not one line: %q", name, data)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	tests := []struct {
		name   string
		of     string
		change func(*Request)
	}{
		{"no call", "status", func(q *Request) { q.Call = "" }},
		{"no transfer", "status", func(q *Request) { q.Transfer = "" }},
		{"transfer is a path", "status", func(q *Request) { q.Transfer = "../../etc" }},
		{"transfer is dots", "status", func(q *Request) { q.Transfer = ".." }},
		{"transfer is an option", "status", func(q *Request) { q.Transfer = "-rf" }},
		{"transfer ends in a newline", "status", func(q *Request) { q.Transfer = "t\n" }},
		{"transfer holds NUL", "status", func(q *Request) { q.Transfer = "t\x00" }},
		{"transfer too long", "status", func(q *Request) { q.Transfer = strings.Repeat("a", 65) }},
		{"hostile transfer of a do", "one-shot do", func(q *Request) { q.Transfer = "a/b" }},
		{"unknown verb", "status", func(q *Request) { q.Verb = "serve" }},
		{"part missing", "prepare", func(q *Request) { q.Prepare = nil }},
		{"part of another", "status", func(q *Request) { q.Stop = &Stop{} }},
		{"two parts", "stop", func(q *Request) { q.Recover = &Recover{} }},
		{"negative wait", "status", func(q *Request) { q.Wait = -1 }},
		{"endless wait", "status", func(q *Request) { q.Wait = 1 << 62 }},
		{"unknown phase", "status", func(q *Request) { q.Until = "soon" }},
		{"hostile seen", "status", func(q *Request) { q.Seen = map[string]uint64{"a/b": 1} }},
		{"no lease", "prepare", func(q *Request) { q.Prepare.Lease = 0 }},
		{"endless hold", "prepare", func(q *Request) { q.Prepare.Hold = 1 << 62 }},
		{"another's state", "resume", func(q *Request) { q.Prepare.Resume = "u" }},
		{"endless checkpoints", "resume", func(q *Request) { q.Prepare.Checkpoint = -1 }},
		{"nicer than there is", "prepare", func(q *Request) { q.Prepare.Nice = 20 }},
		{"a higher priority", "prepare", func(q *Request) { q.Prepare.Nice = -1 }},
		{"port", "prepare", func(q *Request) { q.Prepare.Port = 65536 }},
		{"a port alone", "prepare port", func(q *Request) { q.Prepare.Alone = true }},
		{"piece of no agent", "manifest", func(q *Request) { q.Manifest.Agent = "" }},
		{"piece before the first", "manifest", func(q *Request) { q.Manifest.Offset = -1 }},
		{"piece too large", "manifest", func(q *Request) { q.Manifest.Limit = MaxPiece + 1 }},
		{"empty piece", "manifest", func(q *Request) { q.Manifest.Limit = 0 }},
		{"check of a relative path", "verify", func(q *Request) { q.Verify.Dir = "srv" }},
		{"check against nothing", "verify", func(q *Request) { q.Verify.Parts = nil }},
		{"check with a relative part", "verify", func(q *Request) { q.Verify.Parts[0].Path = "x" }},
		{"check without a digest", "verify", func(q *Request) { q.Verify.Parts[0].Digest = "x" }},
		{"check that ignores content", "verify", func(q *Request) { q.Verify.Ignore = []string{"content"} }},
		{"relative question", "probe", func(q *Request) { q.Probe.Paths[0].Path = "srv" }},
		{"NUL in a question", "probe", func(q *Request) { q.Probe.Paths[0].Path = "/s\x00" }},
		{"question twice", "probe", func(q *Request) { q.Probe.Paths = append(q.Probe.Paths, q.Probe.Paths[0]) }},
		{"level of no codec", "start", func(q *Request) { q.Start.Settings.CodecLevel = 1 }},
		{"level of auto", "start", func(q *Request) { q.Start.Settings.Codec, q.Start.Settings.CodecLevel = "auto", 1 }},
		{"level too high", "start", func(q *Request) { q.Start.Settings.Codec, q.Start.Settings.CodecLevel = "zstd", CodecLevels+1 }},
		{"negative level", "start", func(q *Request) { q.Start.Settings.Codec, q.Start.Settings.CodecLevel = "minlz", -1 }},
		{"one member", "start", func(q *Request) { q.Start.Members = q.Start.Members[:1] }},
		{"member twice", "start", func(q *Request) { q.Start.Members[1].Name = "source" }},
		{"source with a destination", "start", func(q *Request) { q.Start.Members[0].Destination = &sdk.Destination{Dir: "/"} }},
		{"target without one", "start", func(q *Request) { q.Start.Members[1].Destination = nil }},
		{"no fingerprint", "start", func(q *Request) { q.Start.Members[1].Fingerprint = "" }},
		{"no signing key", "start", func(q *Request) { q.Start.Members[0].SigningKey = nil }},
		{"bad address", "start", func(q *Request) { q.Start.Members[0].Addresses = []string{"db1"} }},
		{"publishes a path", "start", func(q *Request) { q.Start.Members[1].Destination.Publish = []sdk.Raw{"../x"} }},
		{"writes outside", "start", func(q *Request) { q.Start.Write = sdk.Stage{Builtin: "file", Path: "../x"} }},
		{"stage twice", "start", func(q *Request) { q.Start.Write.Builtin = "tree" }},
		{"no stage", "start", func(q *Request) { q.Start.Write = sdk.Stage{} }},
		{"bad pattern", "start", func(q *Request) { q.Start.Write.Command.Redact = []string{"("} }},
		{"bad environment", "start", func(q *Request) { q.Start.Write.Command.Env = []sdk.Raw{"=x"} }},
		{"NUL in argv", "do", func(q *Request) { q.Do.Parts["a1"].Commands[0].Argv[1] = "a\x00b" }},
		{"no argv", "do", func(q *Request) { q.Do.Parts["a1"].Commands[0].Argv = nil }},
		{"undo without an id", "do", func(q *Request) { q.Do.Parts["a1"].Undo.ID = "" }},
		{"undo never due", "do", func(q *Request) { q.Do.Parts["a1"].Undo.When = "later" }},
		{"no argv in a further part", "do more", func(q *Request) { q.Do.Parts["a1"].Then[0].Commands[0].Argv = nil }},
		{"further parts of a further part", "do more", func(q *Request) { q.Do.Parts["a1"].Then[0].Then = []DoPart{{}} }},
		{"hostile network", "route", func(q *Request) { q.Route.Networks = []string{"here"} }},
		{"route to a name", "route", func(q *Request) { q.Route.To[0].Addresses = []string{"db2"} }},
		{"route to nobody", "route", func(q *Request) { q.Route.To[0].Member = "" }},
		{"endless opening", "start", func(q *Request) { q.Start.Settings.OpenFor = 1 << 62 }},
		{"hostile member", "commit", func(q *Request) { q.Commit.Members = []string{"a b"} }},
	}
	for _, tt := range tests {
		q := validRequests()[tt.of]
		tt.change(q)
		if _, err := EncodeRequest(q); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestRefusedBytes(t *testing.T) {
	ok, err := EncodeRequest(validRequests()["status"])
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		data string
		kind error
	}{
		"empty":            {"", sdk.ErrConfig},
		"cut":              {string(ok[:len(ok)-3]), sdk.ErrConfig},
		"two messages":     {string(ok) + string(ok), sdk.ErrConfig},
		"unknown field":    {`{"v":1,"verb":"status","call":"c","transfer":"t","wish":1}`, sdk.ErrConfig},
		"another version":  {`{"v":7,"verb":"fly","wish":1}`, sdk.ErrUnsupported},
		"no version":       {`{}`, sdk.ErrUnsupported},
		"too large":        {strings.Repeat(" ", MaxMessage+1), sdk.ErrConfig},
		"an array":         {`[1]`, sdk.ErrConfig},
		"a negative count": {`{"v":1,"verb":"status","call":"c","transfer":"t","generation":-1}`, sdk.ErrConfig},
	}
	for name, tt := range tests {
		if _, err := DecodeRequest(strings.NewReader(tt.data)); !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = DecodeRequest(strings.NewReader(`{"v":7}`))
	if !strings.Contains(err.Error(), "version 7") || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("the error does not name both versions: %v", err)
	}
}

func TestRefusedReplies(t *testing.T) {
	tests := []struct {
		name   string
		of     string
		change func(*Reply)
	}{
		{"agent is a path", "ready", func(a *Reply) { a.Agents[0].Agent = "../x" }},
		{"agent twice", "do", func(a *Reply) { a.Agents[1].Agent = "a1" }},
		{"short key", "ready", func(a *Reply) { a.Agents[0].Ready.SigningKey = someKey[:31] }},
		{"fingerprint", "ready", func(a *Reply) { a.Agents[0].Ready.Fingerprint = "x" }},
		{"port", "ready", func(a *Reply) { a.Agents[0].Ready.Port = 0 }},
		{"route by a name", "routes", func(a *Reply) { a.Routes["target-1"] = []string{"db1"} }},
		{"route of a path", "routes", func(a *Reply) { a.Routes["a/b"] = nil }},
		{"closed port of a path", "closed", func(a *Reply) { a.Agents[0].Status.Closed[0].Member = "../x" }},
		{"closed port untried", "closed", func(a *Reply) { a.Agents[0].Status.Closed[0].Rounds = 0 }},
		{"closed port by a name", "closed", func(a *Reply) { a.Agents[0].Status.Closed[0].Addresses[0].Address = "db1" }},
		{"closed to a name", "closed", func(a *Reply) { a.Agents[0].Status.Closed[0].Addresses[0].Local = "db1" }},
		{"closed ports without end", "closed", func(a *Reply) {
			a.Agents[0].Status.Closed = make([]ClosedPort, MaxClosed+1)
		}},
		{"phase", "status", func(a *Reply) { a.Agents[0].Status.Members[0].Phase = "x" }},
		{"negative", "status", func(a *Reply) { a.Agents[0].Status.Members[0].Bytes = -1 }},
		{"root", "status", func(a *Reply) { a.Agents[0].Status.Members[0].Root = "x" }},
		{"instance", "facts", func(a *Reply) { a.Facts.Instance = "/" }},
		{"state directory", "facts", func(a *Reply) { a.Facts.StateDir = "x" }},
		{"resolved", "facts", func(a *Reply) { a.Facts.Resolved["db2"] = []string{"x"} }},
		{"kept where nothing can be", "status", func(a *Reply) { a.Agents[0].Status.Members[0].Kept = "/s\x00" }},
		{"free bytes", "facts", func(a *Reply) { a.Facts.Paths["p"] = sdk.PathFacts{FreeBytes: -1} }},
		{"piece larger than all", "piece", func(a *Reply) { a.Agents[0].Piece.Size = 2 }},
		{"finding of no kind", "verified", func(a *Reply) { a.Agents[0].Verified.Findings[0].Kind = "x" }},
		{"finding too long", "verified", func(a *Reply) { a.Agents[0].Verified.Findings[0].Path = sdk.Raw(strings.Repeat("x", maxFinding+1)) }},
		{"found below zero", "verified", func(a *Reply) { a.Agents[0].Verified.Missing = -1 }},
		{"message", "error", func(a *Reply) { a.Error.Message = strings.Repeat("x", maxText+1) }},
	}
	for _, tt := range tests {
		a := validReplies()[tt.of]
		tt.change(a)
		if _, err := EncodeReply(a); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// What was decoded once is encoded in one form only, whatever it came from.
func FuzzRequest(f *testing.F) {
	for _, q := range validRequests() {
		data, _ := EncodeRequest(q)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := DecodeRequest(bytes.NewReader(data))
		if err != nil {
			return
		}
		first, err := EncodeRequest(q)
		if err != nil {
			t.Fatalf("decoded, but not encoded: %v", err)
		}
		back, err := DecodeRequest(bytes.NewReader(first))
		if err != nil {
			t.Fatalf("encoded, but not decoded: %v\n%s", err, first)
		}
		if second, err := EncodeRequest(back); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable (%v):\n%s%s", err, first, second)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, a := range validReplies() {
		data, _ := EncodeReply(a)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := DecodeReply(bytes.NewReader(data))
		if err != nil {
			return
		}
		first, err := EncodeReply(a)
		if err != nil {
			t.Fatalf("decoded, but not encoded: %v", err)
		}
		back, err := DecodeReply(bytes.NewReader(first))
		if err != nil {
			t.Fatalf("encoded, but not decoded: %v\n%s", err, first)
		}
		if second, err := EncodeReply(back); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("not stable (%v):\n%s%s", err, first, second)
		}
	})
}

// TestLastingForms: by status, stop and recover any release ends what any other
// has left.
func TestLastingForms(t *testing.T) {
	for _, verb := range []string{`"status"`, `"stop","stop":{"gently":1}`, `"recover","recover":{}`} {
		q, err := DecodeRequest(strings.NewReader(`{"v":7,"call":"c","transfer":"t","wish":1,"verb":` + verb + `}`))
		if err != nil || q.V != Version {
			t.Errorf("%s: %+v, %v", verb, q, err)
		}
	}
	a, err := DecodeReply(strings.NewReader(`{"v":7,"agents":[{"agent":"a","mood":"calm","status":{"change":1,"ended":true}}]}`))
	if err != nil || !a.Agents[0].Status.Ended {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := DecodeReply(strings.NewReader(`{"agents":[]}`)); !errors.Is(err, sdk.ErrUnsupported) {
		t.Errorf("no version: %v", err)
	}
}

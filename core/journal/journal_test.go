package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

func newDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "control")
}

func create(t *testing.T, dir string) (*Journal, string) {
	t.Helper()
	id := NewID(time.Now())
	j, err := Create(dir, id, "test", json.RawMessage(`{"mode":"file"}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, id
}

func TestRoundTrip(t *testing.T) {
	dir := newDir(t)
	j, id := create(t, dir)
	records := []Record{
		{Hosts: []Host{{Executor: "ssh", Host: "db1", Program: "/p"}, {Executor: "ssh", Host: "db2", Program: "/p"}}},
		{Hosts: []Host{{Executor: "ssh", Host: "db1", Program: "/p", Agent: "a1"}}},
		{Undo: &Undo{Host: "db1", Agent: "a1", Undo: sdk.Undo{ID: "u", What: "x", When: sdk.WhenEnd, Commands: []sdk.Command{{Argv: []sdk.Raw{"rm", "a\xffb"}}}}}},
		{Phase: "move"},
		{Done: &Done{Agent: "a1", ID: "u"}},
		{Committed: []string{"target-2"}},
		{Outcome: &Outcome{ExitCode: 1}},
		{Kept: &Kept{Time: time.Now().UTC(), Members: []string{"target-1"}}},
	}
	for _, r := range records {
		if err := j.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	got, held, err := Read(dir, id)
	if err != nil || !held {
		t.Fatalf("Read: held %v, %v", held, err)
	}
	if want := j.State(); !reflect.DeepEqual(got, want) {
		t.Errorf("read back\n%+v\nwant\n%+v", got, want)
	}
	if len(got.Hosts) != 2 || got.Hosts[0].Agent != "a1" {
		t.Errorf("hosts: %+v", got.Hosts)
	}
	if !got.Undos[0].Done || got.Kept == nil || got.Kept.Members[0] != "target-1" {
		t.Errorf("state: %+v", got)
	}
	if got.Undos[0].Undo.Commands[0].Argv[1] != "a\xffb" {
		t.Errorf("undo's argument: %q", got.Undos[0].Undo.Commands[0].Argv[1])
	}
	info, err := os.Stat(filepath.Join(dir, id+suffix))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestTakeover(t *testing.T) {
	dir := newDir(t)
	j, id := create(t, dir)
	if _, err := Takeover(dir, id); !errors.Is(err, sdk.ErrExists) || !strings.Contains(err.Error(), "living process") {
		t.Fatalf("takeover of a held journal: %v", err)
	}
	if err := j.Add(Record{Phase: "start"}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	path := filepath.Join(dir, id+suffix)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"phase":"mo`) // what a crash leaves
	f.Close()

	k, err := Takeover(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if s := k.State(); s.Generation() != 2 || s.Phase != "start" {
		t.Errorf("state after takeover: %+v", s)
	}
	if err := k.Add(Record{Ended: true}); err != nil {
		t.Fatal(err)
	}
	got, _, err := Read(dir, id)
	if err != nil || !got.Ended || got.Phase != "start" {
		t.Errorf("after the torn line: %+v, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Run("no such transfer", func(t *testing.T) {
		if _, err := Takeover(newDir(t), "20261123-153042-k3mq7xwa"); !errors.Is(err, sdk.ErrNotFound) {
			t.Error(err)
		}
	})
	t.Run("id that is a path", func(t *testing.T) {
		if _, err := Takeover(newDir(t), "../../etc/x"); !errors.Is(err, sdk.ErrConfig) {
			t.Error(err)
		}
	})
	t.Run("created twice", func(t *testing.T) {
		dir := newDir(t)
		_, id := create(t, dir)
		if _, err := Create(dir, id, "test", json.RawMessage(`{}`)); !errors.Is(err, sdk.ErrExists) {
			t.Error(err)
		}
	})
	t.Run("open directory", func(t *testing.T) {
		dir := t.TempDir()
		os.Chmod(dir, 0o755)
		if _, err := Create(dir, NewID(time.Now()), "test", json.RawMessage(`{}`)); !errors.Is(err, sdk.ErrPermission) {
			t.Error(err)
		}
	})
	t.Run("writable by others", func(t *testing.T) {
		dir := newDir(t)
		j, id := create(t, dir)
		j.Close()
		os.Chmod(filepath.Join(dir, id+suffix), 0o666)
		if _, err := Takeover(dir, id); !errors.Is(err, sdk.ErrPermission) {
			t.Error(err)
		}
	})
	t.Run("another user's", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root can make a file of another user")
		}
		dir := newDir(t)
		j, id := create(t, dir)
		j.Close()
		os.Chown(filepath.Join(dir, id+suffix), 65534, 65534)
		if _, err := Takeover(dir, id); !errors.Is(err, sdk.ErrPermission) {
			t.Error(err)
		}
	})
	t.Run("damaged in the middle", func(t *testing.T) {
		dir := newDir(t)
		j, id := create(t, dir)
		j.Close()
		path := filepath.Join(dir, id+suffix)
		data, _ := os.ReadFile(path)
		os.WriteFile(path, append(data, "garbage\n{\"phase\":\"x\"}\n"...), 0o600)
		if _, err := Takeover(dir, id); err == nil || !strings.Contains(err.Error(), "line 3") {
			t.Error(err)
		}
	})
}

func TestListAndPrune(t *testing.T) {
	dir := newDir(t)
	if list, err := List(dir); err != nil || len(list) != 0 {
		t.Fatalf("a directory that is not there: %v, %v", list, err)
	}
	now := time.Now()
	old := NewID(now.Add(-Keep - time.Hour))
	oldOpen := NewID(now.Add(-Keep - 2*time.Hour))
	for _, id := range []string{old, oldOpen} {
		j, err := Create(dir, id, "test", json.RawMessage(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		if id == old {
			j.Add(Record{Ended: true})
		}
		j.Close()
	}
	_, id := create(t, dir)
	Prune(dir, now)
	list, err := List(dir)
	if err != nil || len(list) != 2 {
		t.Fatalf("after Prune: %+v, %v", list, err)
	}
	if list[0].Transfer != oldOpen || list[0].Held || list[1].Transfer != id || !list[1].Held {
		t.Errorf("list: %+v", list)
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	at := time.Date(2026, 11, 23, 15, 30, 42, 0, time.UTC)
	for range 1000 {
		id := NewID(at)
		if err := checkID(id); err != nil || seen[id] || !strings.HasPrefix(id, "20261123-153042-") {
			t.Fatalf("id %q: %v, seen %v", id, err, seen[id])
		}
		seen[id] = true
	}
}

// TestAttempts holds what a journal tells of a transfer that failed, was
// resumed, and failed or ended again.
func TestAttempts(t *testing.T) {
	at := time.Date(2026, 11, 23, 15, 30, 42, 0, time.UTC)
	owner := func(n uint64) Record { return Record{Owner: &Owner{PID: 1, Generation: n, Time: at}} }
	kept := Record{Kept: &Kept{Time: at, Members: []string{"target-2"}}}
	resumed := Record{Resumed: &Resumed{Time: at, Members: []string{"target-2"}}}
	outcome := Record{Outcome: &Outcome{ExitCode: 1}}
	undo := Record{Undo: &Undo{Host: "h", Agent: "a", Undo: sdk.Undo{ID: "u"}}}
	done := Record{Done: &Done{Agent: "a", ID: "u"}}
	tests := []struct {
		name    string
		records []Record
		want    string // of Kept, Outcome, Ended, Resumes, Committed
	}{
		{"kept", []Record{owner(1), outcome, kept}, "kept outcome 0 []"},
		{"taken over, not resumed", []Record{owner(1), outcome, kept, owner(2)}, "kept outcome 0 []"},
		{"resumed", []Record{owner(1), outcome, kept, owner(2), resumed}, "1 []"},
		{"and failed again", []Record{owner(1), outcome, kept, owner(2), resumed, outcome, kept}, "kept outcome 1 []"},
		{"and ended", []Record{owner(1), kept, owner(2), resumed, {Committed: []string{"target-2"}}, outcome, {Ended: true}}, "outcome ended 1 [target-2]"},
		{"cleaned up", []Record{owner(1), kept, owner(2), {Ended: true}}, "ended 0 []"},
		{"published is told twice", []Record{owner(1), {Committed: []string{"t"}}, {Committed: []string{"t", "u"}}}, "0 [t u]"},
		{"resumed after its end", []Record{owner(1), {Ended: true}, resumed}, "after its end"},
		{"undo done", []Record{owner(1), undo, done}, "done 0 []"},
		{"the newest of two", []Record{owner(1), undo, undo, done}, "0 []"},
		{"done and never deferred", []Record{owner(1), done}, "never deferred"},
		{"members without a name", []Record{owner(1), {Kept: &Kept{Members: []string{""}}}}, "no member's name"},
		{"a member's name without an end", []Record{owner(1), {Resumed: &Resumed{Members: []string{strings.Repeat("x", 65)}}}}, "no member's name"},
		{"too many members", []Record{owner(1), {Committed: make([]string, maxMembers+1)}}, "members"},
		{"two kinds", []Record{owner(1), {Phase: "x", Ended: true}}, "2 kinds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, got := &State{}, ""
			for _, r := range tt.records {
				if err := s.apply(r); err != nil {
					got = err.Error()
				}
			}
			if got == "" {
				got = describe(s)
			}
			if !strings.Contains(got, tt.want) || len(tt.want) > 0 && tt.want[len(tt.want)-1] == ']' && got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func describe(s *State) string {
	var words []string
	for word, holds := range map[string]bool{"kept": s.Kept != nil, "outcome": s.Outcome != nil, "ended": s.Ended, "done": len(s.Undos) > 0 && s.Undos[0].Done} {
		if holds {
			words = append(words, word)
		}
	}
	slices.SortFunc(words, func(a, b string) int { return strings.Compare(order[a], order[b]) })
	return strings.Join(append(words, fmt.Sprint(s.Resumes, s.Committed)), " ")
}

var order = map[string]string{"kept": "1", "outcome": "2", "ended": "3", "done": "4"}

// FuzzDecode: whatever is understood of a file survives being written again.
func FuzzDecode(f *testing.F) {
	const header = `{"v":1,"transfer":"20261123-153042-k3mq7xwa","uid":0,"pid":1,"created":"2026-11-23T15:30:42Z","request":{}}` + "\n"
	f.Add([]byte(header))
	f.Add([]byte(header + `{"owner":{"pid":1,"generation":1,"time":"2026-11-23T15:30:42Z"}}` + "\n" + `{"phase":"x"}` + "\n" + `{"ph`))
	f.Add([]byte(header + `{"hosts":[{"executor":"ssh","host":"a","program":{"base64":"/w=="}}]}` + "\n" + `{"ended":true}` + "\n"))
	f.Add([]byte(header + `{"undo":{"host":"a","agent":"b","undo":{"id":"u","what":"w","when":"end","commands":[{"argv":["a"]}]}}}` + "\n"))
	f.Add([]byte(header + `{"undo":{"host":"a","agent":"b","undo":{"id":"u","what":"w","when":"end","commands":[]}}}` + "\n" + `{"done":{"agent":"b","id":"u"}}` + "\n" +
		`{"committed":["target-1"]}` + "\n" + `{"kept":{"time":"2026-11-23T15:30:42Z","members":["target-2"]}}` + "\n" +
		`{"resumed":{"time":"2026-11-23T15:30:42Z","members":["target-2"]}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, whole, err := decode(bytes.NewReader(data))
		if err != nil {
			return
		}
		if whole > int64(len(data)) || data[whole-1] != '\n' {
			t.Fatalf("understood %d of %d bytes", whole, len(data))
		}
		again := rewrite(t, s)
		s2, _, err := decode(bytes.NewReader(again))
		if err != nil {
			t.Fatalf("written again: %v\n%s", err, again)
		}
		if third := rewrite(t, s2); !bytes.Equal(again, third) {
			t.Fatalf("changed by being read:\n%s\n%s", again, third)
		}
	})
}

func rewrite(t *testing.T, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	write := func(v any) {
		line, err := encodeLine(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line)
	}
	write(s.Header)
	if s.Owner.Generation > 0 {
		write(Record{Owner: &s.Owner})
	}
	if len(s.Hosts) > 0 {
		write(Record{Hosts: s.Hosts})
	}
	for i := range s.Undos {
		write(Record{Undo: &s.Undos[i]})
	}
	for i := len(s.Undos) - 1; i >= 0; i-- { // marks go to the newest of a name
		if u := s.Undos[i]; u.Done && newest(s.Undos, i) {
			write(Record{Done: &Done{Agent: u.Agent, ID: u.Undo.ID}})
		}
	}
	if len(s.Committed) > 0 {
		write(Record{Committed: s.Committed})
	}
	for range s.Resumes {
		write(Record{Resumed: s.Resumed})
	}
	if s.Kept != nil {
		write(Record{Kept: s.Kept})
	}
	if s.Outcome != nil {
		write(Record{Outcome: s.Outcome})
	}
	if s.Phase != "" {
		write(Record{Phase: s.Phase})
	}
	if s.Ended {
		write(Record{Ended: true})
	}
	return b.Bytes()
}

// newest reports whether no later undo has the same agent and name.
func newest(undos []Undo, i int) bool {
	for _, u := range undos[i+1:] {
		if u.Agent == undos[i].Agent && u.Undo.ID == undos[i].Undo.ID {
			return false
		}
	}
	return true
}

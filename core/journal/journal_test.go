package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
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
		{Outcome: &Outcome{ExitCode: 1}},
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

// FuzzDecode: whatever is understood of a file survives being written again.
func FuzzDecode(f *testing.F) {
	const header = `{"v":1,"transfer":"20261123-153042-k3mq7xwa","uid":0,"pid":1,"created":"2026-11-23T15:30:42Z","request":{}}` + "\n"
	f.Add([]byte(header))
	f.Add([]byte(header + `{"owner":{"pid":1,"generation":1,"time":"2026-11-23T15:30:42Z"}}` + "\n" + `{"phase":"x"}` + "\n" + `{"ph`))
	f.Add([]byte(header + `{"hosts":[{"executor":"ssh","host":"a","program":{"base64":"/w=="}}]}` + "\n" + `{"ended":true}` + "\n"))
	f.Add([]byte(header + `{"undo":{"host":"a","agent":"b","undo":{"id":"u","what":"w","when":"end","commands":[{"argv":["a"]}]}}}` + "\n"))
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

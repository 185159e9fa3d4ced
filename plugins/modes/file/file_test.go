package file

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/transferpy/transferpy/sdk"
)

func transfer(source sdk.Raw, targets ...sdk.Raw) sdk.Transfer {
	t := sdk.Transfer{ID: "t1", Source: sdk.Endpoint{Host: "db1", Path: source}, Options: map[string]string{}}
	for i, dir := range targets {
		t.Targets = append(t.Targets, sdk.Endpoint{Host: []string{"db2", "db3", "db1"}[i%3], Path: dir})
	}
	return t
}

// world answers the questions of a transfer from facts by path; what has none
// does not exist.
func world(t *testing.T, tr sdk.Transfer, facts map[sdk.Raw]sdk.PathFacts) []sdk.Answers {
	t.Helper()
	questions, err := New().Questions(t.Context(), tr)
	if err != nil {
		t.Fatal(err)
	}
	var all []sdk.Answers
	for _, q := range questions {
		a := sdk.Answers{Host: q.Host, Paths: map[string]sdk.PathFacts{}, Commands: map[string]sdk.Result{}}
		for _, p := range q.Paths {
			if _, twice := a.Paths[p.ID]; twice {
				t.Fatalf("the question %s is asked twice", p.ID)
			}
			a.Paths[p.ID] = facts[sdk.Raw(q.Host+":")+p.Path]
		}
		for _, c := range q.Commands {
			a.Commands[c.ID] = sdk.Result{}
		}
		all = append(all, a)
	}
	return all
}

var (
	tree  = sdk.PathFacts{Exists: true, Type: sdk.FileDirectory, Readable: true, Entries: 10, Bytes: 1e6}
	plain = sdk.PathFacts{Exists: true, Type: sdk.FileRegular, Readable: true, Entries: 1, Size: 5000, Bytes: 5000}
	room  = sdk.PathFacts{Exists: true, Type: sdk.FileDirectory, Readable: true, Writable: true, FreeBytes: 1e9, FreeInodes: 1000}
)

func with(f sdk.PathFacts, change func(*sdk.PathFacts)) sdk.PathFacts {
	change(&f)
	return f
}

func TestInspect(t *testing.T) {
	type facts = map[sdk.Raw]sdk.PathFacts
	tests := []struct {
		name     string
		transfer sdk.Transfer
		facts    facts
		want     []string // kind, host and words of each refusal
	}{
		{"tree", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": tree, "db2:/srv": room}, nil},
		{"file", transfer("/srv/a/", "/srv//"), facts{"db1:/srv/a": plain, "db2:/srv": room}, nil},
		{"into the root", transfer("/srv/a", "/"), facts{"db1:/srv/a": plain, "db2:/": room}, nil},
		{"same host", transfer("/srv/a", "/x", "/y", "/srv/b"), facts{"db1:/srv/a": tree, "db2:/x": room, "db3:/y": room, "db1:/srv/b": room}, nil},
		{"all at once", transfer("/srv/a", "/x", "/y"), facts{"db3:/y": with(room, func(f *sdk.PathFacts) { f.Writable = false }), "db3:/y/a": plain}, []string{
			"not-found db1 source /srv/a does not exist", "not-found db2 /x does not exist mkdir -p", "permission db3 /y cannot be written", "exists db3 /y/a is there already",
		}},
		{"unreadable", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": with(tree, func(f *sdk.PathFacts) { f.Readable = false }), "db2:/srv": room},
			[]string{"permission db1 /srv/a cannot be read sudo"}},
		{"socket", transfer("/run/s", "/srv"), facts{"db1:/run/s": {Exists: true, Type: sdk.FileSocket}, "db2:/srv": room},
			[]string{"unsupported db1 /run/s is a socket name a regular file or a directory"}},
		{"link", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": {Exists: true, Type: sdk.FileSymlink}, "db2:/srv": {Exists: true, Type: sdk.FileSymlink}},
			[]string{"unsupported db1 symbolic link", "unsupported db2 symbolic link"}},
		{"target is a file", transfer("/srv/a", "/f"), facts{"db1:/srv/a": tree, "db2:/f": plain}, []string{"unsupported db2 /f is a file, not a directory"}},
		{"bytes", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": tree, "db2:/srv": with(room, func(f *sdk.PathFacts) { f.FreeBytes = 1e6 })},
			[]string{"no-space db2 /srv: 2.09 MB needed, 1.00 MB free 1.09 MB"}},
		{"inodes", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": tree, "db2:/srv": with(room, func(f *sdk.PathFacts) { f.FreeInodes = 20 })},
			[]string{"no-space db2 inodes in /srv: 26 needed, 20 free"}},
		{"no inode count", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": tree, "db2:/srv": with(room, func(f *sdk.PathFacts) { f.FreeInodes = -1 })}, nil},
		{"lower bound", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": with(tree, func(f *sdk.PathFacts) { f.Partial = true }), "db2:/srv": with(room, func(f *sdk.PathFacts) { f.FreeBytes = 1000 })},
			[]string{"no-space db2 at least 2.09 MB needed, 1.00 kB free"}},
		{"look failed", transfer("/srv/a", "/srv"), facts{"db1:/srv/a": {Err: &sdk.Error{Kind: sdk.KindPermission, Message: "permission denied"}}, "db2:/srv": room},
			[]string{"permission db1 cannot look at the source /srv/a: permission denied"}},
		{"onto itself", transfer("/srv/a", "/x", "/y", "/srv"), facts{"db1:/srv/a": tree, "db2:/x": room, "db3:/y": room, "db1:/srv": room},
			[]string{"config db1 source and target are the same: /srv/a", "exists db1 /srv/a"}},
		{"into itself", transfer("/srv/a", "/x", "/y", "/srv/a/b"), facts{"db1:/srv/a": tree, "db2:/x": room, "db3:/y": room, "db1:/srv/a/b": room},
			[]string{"config db1 /srv/a/b is inside the source /srv/a"}},
		{"not inside", transfer("/srv/a", "/x", "/y", "/srv/ab"), facts{"db1:/srv/a": tree, "db2:/x": room, "db3:/y": room, "db1:/srv/ab": room}, nil},
		{"twice", transfer("/srv/a", "/x", "/y", "/z", "/x"), facts{"db1:/srv/a": tree, "db2:/x": room, "db3:/y": room, "db1:/z": room},
			[]string{"config db2 /x is named twice"}},
		{"hostile names", transfer("/srv/a\n'\xff", "/-x y"), facts{"db2:/-x y": room},
			[]string{`not-found db1 "/srv/a\n'\xff"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found, err := New().Inspect(t.Context(), tt.transfer, world(t, tt.transfer, tt.facts), nil)
			if err != nil {
				t.Fatal(err)
			}
			checkRefusals(t, found.Refusals, tt.want)
		})
	}
}

// checkRefusals compares refusals with lines of kind, host and words.
func checkRefusals(t *testing.T, got []*sdk.Error, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d refusals, want %d: %v", len(got), len(want), got)
	}
	for i, line := range want {
		words := strings.Fields(line)
		e := got[i]
		if string(e.Kind) != words[0] || e.Host != words[1] {
			t.Errorf("refusal %d: kind %s of %s, want %s", i, e.Kind, e.Host, line)
		}
		if e.Hint == "" && e.Kind != sdk.KindPermission || (strings.Contains(e.Error(), "\n") || !utf8.ValidString(e.Error())) {
			t.Errorf("refusal %d has no hint or is not printable: %q", i, e.Error())
		}
		for _, word := range words[2:] {
			if !strings.Contains(e.Error(), word) {
				t.Errorf("refusal %d: %q is not in %q", i, word, e.Error())
			}
		}
	}
}

func TestNoAnswerIsARefusal(t *testing.T) {
	tr := transfer("/srv/a", "/srv")
	found, err := New().Inspect(t.Context(), tr, nil, nil)
	if err != nil || len(found.Refusals) != 3 || found.Refusals[0].Kind != sdk.KindUnreachable {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestWarnings(t *testing.T) {
	tr := transfer("/srv/a", "/srv")
	partial := with(tree, func(f *sdk.PathFacts) { f.Partial = true })
	found, err := New().Inspect(t.Context(), tr, world(t, tr, map[sdk.Raw]sdk.PathFacts{"db1:/srv/a": partial, "db2:/srv": room}), nil)
	if err != nil || !found.AtLeast || len(found.Refusals) != 0 || len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], "at least 1.00 MB in 10 entries") {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestPathsThatCannotBe(t *testing.T) {
	long := sdk.Raw("/" + strings.Repeat("x", 256))
	for _, bad := range []sdk.Raw{"", "a", "./a", "/a/../b", "/..", "/a\x00b", long, sdk.Raw(strings.Repeat("/x", 3000))} {
		for _, tr := range []sdk.Transfer{transfer(bad, "/srv"), transfer("/srv/a", bad)} {
			_, err := New().Questions(t.Context(), tr)
			if !errors.Is(err, sdk.ErrConfig) || sdk.AsError(err).Hint == "" {
				t.Errorf("%.40q: got %v, want KindConfig", bad, err)
			}
			if _, err := New().Plan(t.Context(), tr, sdk.Findings{}); err == nil {
				t.Errorf("%.40q was planned", bad)
			}
		}
	}
	_, err := New().Questions(t.Context(), transfer("/", "x", "y"))
	for _, part := range []string{"db1:/ has no name", "db2:x", "db3:y"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
}

func TestPlan(t *testing.T) {
	tr := transfer("/srv//a\n\xff/", "/x/", "/")
	plan, err := New().Plan(t.Context(), tr, sdk.Findings{Bytes: 77})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Read.Builtin != sdk.BuiltinTree || plan.Read.Path != "/srv/a\n\xff" || plan.Write.Builtin != sdk.BuiltinTree ||
		plan.Bytes != 77 || plan.Begins || plan.Finishes || !slices.Equal(plan.Verify, []sdk.Verify{sdk.VerifyDisk}) {
		t.Errorf("got %+v", plan)
	}
	for i, dir := range []sdk.Raw{"/x", "/"} {
		d := plan.Targets[i]
		if d.Dir != dir || !slices.Equal(d.Publish, []sdk.Raw{"a\n\xff"}) || d.External || d.MustEmpty {
			t.Errorf("destination %d: %+v", i, d)
		}
	}
}

// TestLiveDatadir holds a real lock and runs the real question.
func TestLiveDatadir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sql'data\n")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	inspect := func(force string) sdk.Findings {
		t.Helper()
		tr := transfer(sdk.Raw(dir), "/srv")
		tr.Options["force_live"] = force
		answers := world(t, tr, map[sdk.Raw]sdk.PathFacts{sdk.Raw("db1:" + dir): tree, "db2:/srv": room})
		answers[0].Commands[askLive] = ask(t, sdk.Raw(dir), true)
		found, err := New().Inspect(t.Context(), tr, answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if found := inspect("false"); len(found.Refusals)+len(found.Warnings) != 0 {
		t.Errorf("no datadir: %+v", found)
	}
	f, err := os.Create(filepath.Join(dir, "ibdata1"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if found := inspect("false"); len(found.Refusals)+len(found.Warnings) != 0 {
		t.Errorf("a datadir at rest: %+v", found)
	}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	checkRefusals(t, inspect("false").Refusals, []string{"config db1 source running MariaDB ibdata1 --force-live"})
	if found := inspect("true"); len(found.Refusals) != 0 || len(found.Warnings) != 1 {
		t.Errorf("forced: %+v", found)
	}
}

// TestLiveAround: what lies in a live data directory, and as a source what
// holds one, is refused too; what lies beside it is not.
func TestLiveAround(t *testing.T) {
	around := t.TempDir()
	live := filepath.Join(around, "sqldata")
	for _, d := range []string{filepath.Join(live, "enwiki"), filepath.Join(around, "beside")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(live, "aria_log_control"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path           string
		source, target bool // refused
	}{{live, true, true}, {filepath.Join(live, "enwiki"), true, true}, {around, true, false}, {filepath.Join(around, "beside"), false, false}} {
		path := sdk.Raw(tt.path)
		if file, _ := lockHolder(string(ask(t, path, true).Stdout), "ext4"); (file != "") != tt.source {
			t.Errorf("as a source, %s is held by %q", path, file)
		}
		tr := transfer("/srv/a", path)
		answers := world(t, tr, map[sdk.Raw]sdk.PathFacts{"db1:/srv/a": tree, "db2:" + path: room})
		answers[1].Commands[askLiveDir(0)] = ask(t, path, false)
		found, err := New().Inspect(t.Context(), tr, answers, nil)
		if err != nil || (len(found.Refusals) == 1) != tt.target {
			t.Errorf("as a target, %s: %v, %v", path, found.Refusals, err)
		}
	}
}

// ask runs the live question on this machine.
func ask(t *testing.T, dir sdk.Raw, below bool) sdk.Result {
	t.Helper()
	var argv []string
	for _, arg := range liveCommand(dir, below).Argv {
		argv = append(argv, string(arg))
	}
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return sdk.Result{Stdout: out}
}

func TestLockHolder(t *testing.T) {
	const lock = "3: POSIX  ADVISORY  WRITE 652 00:2f:8 0 EOF\n"
	for name, tt := range map[string]struct{ output, fs, pid string }{
		"held":         {"file ibdata1 2f 8\n" + lock, "ext4", "652"},
		"other device": {"file ibdata1 30 8\n" + lock, "ext4", ""},
		"btrfs":        {"file ibdata1 30 8\n" + lock, "btrfs", "652"},
		"other inode":  {"file ibdata1 2f 18\n" + lock, "ext4", ""},
		"read lock":    {"file ibdata1 2f 8\n" + strings.Replace(lock, "WRITE", "READ", 1), "ext4", ""},
		"large device": {"file ibdata1 fd00 8\n3: POSIX  ADVISORY  WRITE 0 fd:00:8 0 EOF\n", "xfs", "0"},
		"no file":      {lock, "ext4", ""},
		"garbage":      {"file x\nfile ibdata1 zz 8\n" + lock + ":::\n", "ext4", ""},
	} {
		if _, pid := lockHolder(tt.output, tt.fs); pid != tt.pid {
			t.Errorf("%s: held by %q, want %q", name, pid, tt.pid)
		}
	}
}

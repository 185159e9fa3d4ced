package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

func raws(args ...string) []sdk.Raw {
	argv := make([]sdk.Raw, len(args))
	for i, a := range args {
		argv[i] = sdk.Raw(a)
	}
	return argv
}

func runOne(t *testing.T, ctx context.Context, cmd sdk.Command) sdk.Result {
	t.Helper()
	var results []sdk.Result
	if err := New().Run(ctx, []string{"localhost"}, cmd, func(r sdk.Result) { results = append(results, r) }); err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 || results[0].Host != "localhost" {
		t.Fatalf("results %+v", results)
	}
	return results[0]
}

func TestRunIsExact(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		argv   []sdk.Raw
		stdin  []byte
		code   int
		stdout string
	}{
		{"nothing", raws("true"), nil, 0, ""},
		{"exit code", raws("sh", "-c", "exit 37"), nil, 37, ""},
		{"bytes", raws("printf", `\0\377\r\n\n`), nil, 0, "\x00\xff\r\n\n"},
		{"arguments", raws("printf", "%s|", "", "a'b", "$(id)", "\n", "\xff"), nil, 0, "|a'b|$(id)|\n|\xff|"},
		{"stdin", raws("cat"), []byte("a\x00b"), 0, "a\x00b"},
		{"no stdin", raws("cat"), nil, 0, ""},
		{"unread stdin", raws("true"), bytes.Repeat([]byte("x"), 1<<20), 0, ""},
		{"signal", raws("sh", "-c", "kill -9 $$"), nil, 137, ""},
		{"missing", raws("no-such-command"), nil, 127, ""},
		{"missing path", raws("/no/such/command"), nil, 127, ""},
		{"empty name", raws(""), nil, 127, ""},
		{"not executable", raws(plain), nil, 126, ""},
		{"sbin", raws("sh", "-c", `case :$PATH: in *:/usr/sbin:*) echo yes;; esac`), nil, 0, "yes\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := runOne(t, t.Context(), sdk.Command{Argv: tt.argv, Stdin: tt.stdin})
			if r.Err != nil || r.ExitCode != tt.code || string(r.Stdout) != tt.stdout {
				t.Errorf("got code %d, stdout %q, stderr %q, err %v; want %d, %q", r.ExitCode, r.Stdout, r.Stderr, r.Err, tt.code, tt.stdout)
			}
			if (tt.code == 126 || tt.code == 127) && len(r.Stderr) == 0 {
				t.Error("no reason on stderr")
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	if err := New().Run(t.Context(), []string{"localhost"}, sdk.Command{}, func(sdk.Result) {}); !errors.Is(err, sdk.ErrConfig) {
		t.Errorf("empty argv: %v", err)
	}
	if r := runOne(t, t.Context(), sdk.Command{Argv: raws("true", "a\x00")}); !errors.Is(r.Err, sdk.ErrConfig) {
		t.Errorf("NUL: %v", r.Err)
	}
	if r := runOne(t, t.Context(), sdk.Command{Argv: raws("true", strings.Repeat("x", 200_000))}); !errors.Is(r.Err, sdk.ErrUnsupported) {
		t.Errorf("argument of 200 kB: %v", r.Err)
	}
}

func TestForeignHostsDoNotHoldUpThis(t *testing.T) {
	got := map[string]sdk.Result{}
	var mu sync.Mutex
	hosts := []string{"db1", "localhost", "LOCALHOST", ""}
	err := New().Run(t.Context(), hosts, sdk.Command{Argv: raws("true")}, func(r sdk.Result) {
		mu.Lock()
		defer mu.Unlock()
		got[r.Host] = r
	})
	if err != nil || len(got) != len(hosts) {
		t.Fatalf("%d results, %v", len(got), err)
	}
	for _, h := range hosts {
		if h == "localhost" && got[h].Err != nil || h != "localhost" && (!errors.Is(got[h].Err, sdk.ErrConfig) || got[h].Err.Host != h) {
			t.Errorf("%q: %v", h, got[h].Err)
		}
	}
}

func TestOutputIsCutAndDrained(t *testing.T) {
	r := runOne(t, t.Context(), sdk.Command{Argv: raws("head", "-c", strconv.Itoa(3*maxOutput), "/dev/zero")})
	if r.Err != nil || r.ExitCode != 0 || len(r.Stdout) != maxOutput || !r.Truncated {
		t.Errorf("code %d, %d bytes, truncated %v, err %v", r.ExitCode, len(r.Stdout), r.Truncated, r.Err)
	}
}

// spawner leaves a grandchild that ignores SIGTERM and prints its id.
var spawner = raws("sh", "-c", "(trap '' TERM; sleep 62.5) & echo $!; wait")

func TestTimeoutKillsTheGroup(t *testing.T) {
	r := runOne(t, t.Context(), sdk.Command{Argv: spawner, Timeout: 300 * time.Millisecond})
	if !errors.Is(r.Err, sdk.ErrTimeout) {
		t.Fatalf("got %+v, want KindTimeout", r)
	}
	checkGone(t, r.Stdout)
}

func TestCancelKillsTheGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	timer := time.AfterFunc(300*time.Millisecond, cancel)
	defer timer.Stop()
	start := time.Now()
	r := runOne(t, ctx, sdk.Command{Argv: spawner, Timeout: 30 * time.Second})
	if !errors.Is(r.Err, sdk.ErrCancelled) || time.Since(start) > 5*time.Second {
		t.Fatalf("got %+v after %v, want KindCancelled", r, time.Since(start))
	}
	checkGone(t, r.Stdout)
}

// checkGone fails if the process whose id was printed lives on.
func checkGone(t *testing.T, stdout []byte) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(string(stdout)))
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Errorf("process %d lives on", pid)
}

func TestLeftoverDoesNotHoldTheResult(t *testing.T) {
	start := time.Now()
	r := runOne(t, t.Context(), sdk.Command{Argv: raws("sh", "-c", "sleep 20 & echo $!"), Timeout: 15 * time.Second})
	if r.Err != nil || r.ExitCode != 0 || time.Since(start) > 10*time.Second {
		t.Errorf("got %+v after %v", r, time.Since(start))
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(r.Stdout))); err == nil {
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
}

func TestPut(t *testing.T) {
	dir := t.TempDir()
	put := func(f sdk.File) *sdk.Error {
		t.Helper()
		var got sdk.Result
		if err := New().(sdk.Putter).Put(t.Context(), []string{"localhost"}, f, func(r sdk.Result) { got = r }); err != nil {
			t.Fatal(err)
		}
		return got.Err
	}
	path := filepath.Join(dir, "a'b\n\xff")
	if err := put(sdk.File{Path: sdk.Raw(path), Mode: 0o751, Content: []byte("a\x00b")}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	content, _ := os.ReadFile(path)
	if err != nil || info.Mode() != 0o751 || string(content) != "a\x00b" {
		t.Errorf("%v, %v, %q", err, info.Mode(), content)
	}

	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]*sdk.Error{
		path:                      sdk.ErrExists,
		link:                      sdk.ErrExists,
		dir:                       sdk.ErrExists,
		filepath.Join(dir, "x/y"): sdk.ErrNotFound,
		path + "/z":               sdk.ErrNotFound,
		"relative":                sdk.ErrConfig,
		"/proc/self/new":          sdk.ErrNotFound,
		"/proc/sys/kernel/new":    nil, // refused in one way or another
	} {
		err := put(sdk.File{Path: sdk.Raw(path), Mode: 0o600, Content: []byte("new")})
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
	if content, _ := os.ReadFile(path); string(content) != "a\x00b" {
		t.Errorf("overwritten with %q", content)
	}
}

func TestPutLeavesNothingOnAFullDisk(t *testing.T) {
	// /dev/full does not take O_EXCL, so the failure is made below fill.
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = fill(f, sdk.File{Path: "/srv/x", Mode: 0o666, Content: []byte("x")})
	if got := putError("/srv/x", err); !errors.Is(got, sdk.ErrNoSpace) || got.Hint == "" {
		t.Errorf("got %v", got)
	}
}

package cumin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
)

func captured(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if errors.Is(err, os.ErrNotExist) {
		return nil // the stream was empty
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReadOutput(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"np_ok":              {"db1": "out"},
		"np_partial":         {"db1": "db1", "db2": "db2"},
		"np_unreachable":     {"db1": "out", "db77": "ssh: Could not resolve hostname db77: Name or service not known"},
		"empty_json":         {},
		"marker_inject_json": {"db1": "_____FORMATTED_OUTPUT_____\n{\"db9\": \"fake\"}"},
	} {
		got, whole := readOutput(captured(t, name+".stdout"))
		if !whole || len(got) != len(want) {
			t.Errorf("%s: %v, %v", name, got, whole)
		}
		for host, text := range want {
			if got[host] != text {
				t.Errorf("%s: %s said %q, want %q", name, host, got[host], text)
			}
		}
	}
	for _, name := range []string{"np_empty_query", "invalid_utf8_json", "no such capture"} {
		if got, whole := readOutput(captured(t, name+".stdout")); whole {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzReadOutput(f *testing.F) {
	f.Add([]byte("_____FORMATTED_OUTPUT_____\n{\"db1\": \"a\"}\n"))
	f.Add([]byte("{\"db1\": 1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		said, whole := readOutput(data)
		if !whole && said != nil {
			t.Fatal("there is something of no output")
		}
	})
}

func TestWhy(t *testing.T) {
	e := &executor{}
	parse := &sdk.Error{Kind: sdk.KindUnreachable, Message: "no answer of the command came back"}
	for name, tt := range map[string]struct {
		capture, host string
		kind          *sdk.Error
		says          string
	}{
		"unknown":       {"np_unreachable", "db77", sdk.ErrUnreachable, "Could not resolve"},
		"timeout":       {"np_timeout", "db2", sdk.ErrUnreachable, "in time"},
		"not UTF-8":     {"invalid_utf8_json", "db1", sdk.ErrUnreachable, "no UTF-8"},
		"no hosts":      {"np_empty_query", "db1", sdk.ErrUnreachable, "No hosts found"},
		"bad query":     {"bad_query", "db1", sdk.ErrUnreachable, "InvalidQueryError"},
		"printed noise": {"np_ok", "db1", sdk.ErrUnreachable, "no answer"},
	} {
		out := program.Output{Stdout: captured(t, tt.capture+".stdout"), Stderr: captured(t, tt.capture+".stderr"), ExitCode: 99}
		said, whole := readOutput(out.Stdout)
		text, has := said[tt.host]
		if err := e.why(text, has, whole, out, nil, parse); !errors.Is(err, tt.kind) || !strings.Contains(err.Message, tt.says) {
			t.Errorf("%s: %+v", name, err)
		}
	}
	if err := e.why("root@db1: Permission denied (publickey).", true, true, program.Output{}, nil, parse); !errors.Is(err, sdk.ErrAuth) {
		t.Errorf("%+v", err)
	}
}

func TestCheckHost(t *testing.T) {
	for _, good := range []string{"db1", "db-1.example.org", "DB_1", "10.0.0.1", "andover", "orders1", "x" + strings.Repeat("y", 200)} {
		if err := checkHost(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "db[1-2]", "db1,db2", "!db1", "db1&db2", "^db1", "@all", "*", "D{db1}", "db1 or db2", "and", "OR", "and-1.x", "not",
		"-x", "--dry-run", "fd00::1", "root@db1", "a\nb", "\xff", strings.Repeat("x", 300)} {
		if err := checkHost(bad); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestUnfold(t *testing.T) {
	for set, want := range map[string]string{
		"db1":                                    "db1",
		"db[1-2],web-3.example.org":              "db1 db2 web-3.example.org",
		"a[1-2,10].x,b":                          "a1.x a2.x a10.x b",
		"n[008-011]":                             "n008 n009 n010 n011",
		"n[1,01,001-002]":                        "n1 n01 n001 n002",
		"r[1-2]c[1-2].x":                         "r1c1.x r1c2.x r2c1.x r2c2.x",
		"n[0-10/5]":                              "n0 n5 n10",
		"n[18446744073709551-18446744073709552]": "n18446744073709551 n18446744073709552",
	} {
		got, err := unfold(set)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v; want %s", set, got, err, want)
		}
	}
	for _, bad := range []string{"", ",", "a,", ",a", "db[1", "db1]", "db[[1]]", "db[]", "db[2-1]", "db[a]", "db[1-]", "db[1/0]", "a[1-2/0]",
		"a[0-99999999999]", "a[1-2000]b[1-2000]", "a[1-20000],b", "a[99999999999999999999]"} {
		if got, err := unfold(bad); err == nil {
			t.Errorf("%s: %d names", bad, len(got))
		}
	}
}

// FuzzUnfold holds that no set makes more than is allowed, nor names that
// could not have stood in it.
func FuzzUnfold(f *testing.F) {
	f.Add("db[1-2,010-012/2].x[1-3],web-3.example.org")
	f.Add("a[0-19999]")
	f.Fuzz(func(t *testing.T, set string) {
		names, err := unfold(set)
		if err == nil && (len(names) == 0 || len(names) > maxFound) {
			t.Fatalf("%d names", len(names))
		}
		for _, n := range names {
			if strings.ContainsAny(n, "[]") || strings.Contains(n, ",") {
				t.Fatalf("%q of %q", n, set)
			}
		}
	})
}

func TestSplit(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for text, want := range map[string][]string{
		"":                           nil,
		"  -F /etc/x  -i ~/.ssh/id ": {"-F", "/etc/x", "-i", "/home/me/.ssh/id"},
		`-o "ProxyCommand=nc %h %p"`: {"-o", "ProxyCommand=nc %h %p"},
		`'a b'c "" \ d "\"\x"`:       {"a bc", "", " d", `"\x`},
		"~":                          {"/home/me"},
	} {
		if got, err := split(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, bad := range []string{`"a`, `'`, `a\`} {
		if got, err := split(bad); err == nil {
			t.Errorf("%s: %q", bad, got)
		}
	}
}

func TestSite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := `transport: clustershell
log_file: /tmp/x
environment: {A: b}
clustershell:
    ssh_path: /usr/bin/ssh -4
    ssh_options:
        - '-F /etc/cumin/ssh_config'
        - -oControlPath=~/x
    ssh_user: op
    connect_timeout: 3
    fanout: 16
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := readSite(path)
	if err != nil {
		t.Fatal(err)
	}
	argv, err := s.ssh()
	want := "/usr/bin/ssh -4 -F /etc/cumin/ssh_config -oControlPath=~/x -oForwardAgent=no -oForwardX11=no -l op -oConnectTimeout=3 -oBatchMode=yes"
	if err != nil || strings.Join(argv, " ") != want || s.fanout() != 16 || s.connect() != 3*time.Second || s.Environment["A"] != "b" {
		t.Errorf("%q, %v, %+v", argv, err, s)
	}
	if _, err := readSite(path + ".none"); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestConfigureRefuses(t *testing.T) {
	for field, values := range map[string]sdk.Values{
		"command": {"command": {"/no/such/cumin"}, "config": {"/dev/null"}},
		"config":  {"command": {"true"}, "config": {"/no/such/config.yaml"}},
	} {
		found, err := (&executor{}).Configure(t.Context(), values)
		if err != nil || len(found) != 1 || found[0].Field != field || found[0].Severity != sdk.SeverityError {
			t.Errorf("%s: %+v, %v", field, found, err)
		}
	}
}

// TestEnvironment holds that cumin, which refuses to work for a root of whom
// it does not know who became it, does not see that it is root.
func TestEnvironment(t *testing.T) {
	for _, tt := range []struct{ user, sudo, want string }{{"root", "", ""}, {"root", "root", ""}, {"root", "op", "USER=root"}, {"op", "", "USER=op"}} {
		t.Setenv("USER", tt.user)
		t.Setenv("SUDO_USER", tt.sudo)
		got := ""
		for _, pair := range environment() {
			if strings.HasPrefix(pair, "USER=") {
				got = pair
			}
		}
		if got != tt.want {
			t.Errorf("USER=%s SUDO_USER=%s: %q, want %q", tt.user, tt.sudo, got, tt.want)
		}
	}
}

func configuredExecutor(t *testing.T, config string, more sdk.Values) *executor {
	t.Helper()
	e := &executor{}
	values := sdk.Values{"command": {"cumin"}, "config": {config}, "put": {"ssh"}}
	for k, v := range more {
		values[k] = v
	}
	if found, err := e.Configure(t.Context(), values); err != nil || len(found) > 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	return e
}

// TestPutInPieces places files through cumin alone, small, packed and empty,
// and by the way that ssh's failure leaves.
func TestPutInPieces(t *testing.T) {
	config := configured(t, "")
	dir := t.TempDir()
	for name, e := range map[string]*executor{
		"asked for":         configuredExecutor(t, config, sdk.Values{"put": {"pieces"}}),
		"ssh does not work": configuredExecutor(t, config, nil),
	} {
		if name != "asked for" {
			e.site.ClusterShell.SSHPath = "/no/such/ssh"
		}
		random := make([]byte, pieceSize+100)
		for i := range random {
			random[i] = byte(i*i>>3 ^ i>>7 ^ i*7)
		}
		for what, content := range map[string][]byte{"packed": []byte(strings.Repeat("transferpy\n", 50_000)), "random": random, "empty": nil} {
			file := sdk.File{Path: sdk.Raw(filepath.Join(dir, name+" "+what)), Mode: 0o640, Content: content}
			wanted := []error{nil, sdk.ErrExists} // half a second of Python a call: not all of everything
			if what != "packed" {
				if wanted = wanted[:1]; name != "asked for" {
					continue
				}
			}
			for _, want := range wanted {
				var got error = sdk.ErrInternal
				if err := e.Put(t.Context(), []string{"db1"}, file, func(r sdk.Result) {
					got = nil
					if r.Err != nil {
						got = r.Err
					}
				}); err != nil {
					t.Fatal(err)
				}
				if !errors.Is(got, want) {
					t.Errorf("%s: %s: %v, want %v", name, what, got, want)
				}
			}
			data, err := os.ReadFile(string(file.Path))
			if info, _ := os.Stat(string(file.Path)); err != nil || string(data) != string(content) || info.Mode().Perm() != 0o640 {
				t.Errorf("%s: %s: %d bytes, %v", name, what, len(data), err)
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.part-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

// TestCancelKillsCumin holds that neither cumin nor its ssh outlives the call.
func TestCancelKillsCumin(t *testing.T) {
	config := configured(t, "")
	e := configuredExecutor(t, config, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	e.Run(ctx, []string{"db1"}, sdk.Command{Argv: []sdk.Raw{"sleep", "9"}, Timeout: 10 * time.Second}, func(r sdk.Result) {
		if !errors.Is(r.Err, sdk.ErrTimeout) && !errors.Is(r.Err, sdk.ErrCancelled) {
			t.Errorf("%+v", r)
		}
	})
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		line, _ := os.ReadFile(name)
		if strings.Contains(string(line), config) || strings.Contains(string(line), filepath.Dir(config)+"/ssh_config") {
			t.Errorf("%s lives: %q", name, line)
		}
	}
}

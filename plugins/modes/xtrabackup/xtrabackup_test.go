package xtrabackup

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

func TestConventional(t *testing.T) {
	for socket, want := range map[string]string{
		"/run/mysqld/mysqld.sock": "/srv/sqldata", "/run/mysqld/mysqld.s1.sock": "/srv/sqldata.s1",
		"/run/mysqld/other.sock": "", "/run/mysqld/mysqld..sock": "", "/run/mysqld/mysqldx.sock": "", "/run/mysqld": "",
	} {
		if got := conventional(socket); got != want {
			t.Errorf("%s: %q, want %q", socket, got, want)
		}
	}
}

// FuzzConventional: what is found lies below /srv, whatever the socket's name.
func FuzzConventional(f *testing.F) {
	f.Add("/run/mysqld/mysqld.s1.sock")
	f.Fuzz(func(t *testing.T, socket string) {
		got := conventional(socket)
		if got != "" && filepath.Dir(got) != "/srv" {
			t.Errorf("%q: %q", socket, got)
		}
	})
}

const answered = "foreign\t/usr/bin/other\ntool\t/usr/bin/mariadb-backup\nclient\t/usr/bin/mariadb\n" +
	"server\t10.11.19-MariaDB\t/srv/sqldata/\t/srv/sqldata/bin\t\ndatadir\t/srv/sqldata/\nbytes\t1000\nfiles\t7\nlogs\t300\nlogs\t\nasked\tyes\n" +
	"replica\tConnecting\tYes\t\nreplica\tNo\tNo\ts1\nreplica\tNo\tYes\ta\\tb'\\\\\nreplica\tYes\tNo\ts 2\n"

func TestParseServer(t *testing.T) {
	s, err := parseServer(answered)
	if err != nil || s.tool != "/usr/bin/mariadb-backup" || s.bytes != 700 || s.files != 7 || s.version != "10.11.19-MariaDB" {
		t.Fatalf("%+v, %v", s, err)
	}
	want := []replica{{"", true, true}, {"a\tb'\\", false, true}, {"s 2", true, false}}
	if got := running(s.replicas); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got := words(want); got != `the default connection, "a\tb'\\" (SQL thread only), "s 2" (IO thread only)` {
		t.Error(got)
	}
	var threads []string
	for _, r := range want {
		threads = append(threads, r.threads())
	}
	if !slices.Equal(threads, []string{"both", "sql", "io"}) {
		t.Error(threads)
	}
	if _, err := parseServer("replica\tYes\n"); err == nil {
		t.Error("half a connection was taken")
	}
	if _, err := parseServer(strings.Repeat("replica\tYes\tYes\tx\n", maxReplicas+1)); err == nil {
		t.Error("no bound")
	}
}

// FuzzParseServer: numbers are never below -1, and a connection's name never
// becomes more than its hexadecimal form in a command.
func FuzzParseServer(f *testing.F) {
	f.Add(answered)
	f.Fuzz(func(t *testing.T, output string) {
		s, err := parseServer(output)
		if err == nil && (s.bytes < -1 || s.files < -1 || len(running(s.replicas)) > len(s.replicas)) {
			t.Errorf("%+v", s)
		}
	})
}

func TestConfigure(t *testing.T) {
	for _, tt := range []struct {
		key, value, field string
	}{
		{"extra", "--incremental-lsn=5", ""}, {"extra", "--password=secret", "extra"}, {"extra", "--pass_word=x", ""}, {"extra", "-psecret", "extra"},
		{"extra", "--pas=secret", "extra"}, {"extra", "--passw=secret", "extra"}, {"extra", "--targ=/x", "extra"}, {"extra", "--str=tar", "extra"},
		{"extra", "--defaults-extra-file=/x", "extra"}, {"extra", "--compress_threads=2", "extra"}, {"extra", "--", "extra"},
		{"extra", "--databases=a b", ""}, {"extra", "--port=3306", ""}, {"extra", "--safe-slave-backup", ""},
		{"extra", "--stream=tar", "extra"}, {"extra", "--target_dir=/x", "extra"}, {"parallel", "0", "parallel"}, {"defaults_file", "x", "defaults_file"},
	} {
		wrong, err := New().Configure(t.Context(), sdk.Values{tt.key: {tt.value}})
		if err != nil || (len(wrong) == 1) != (tt.field != "") && tt.value != "--pass_word=x" {
			t.Errorf("%s=%s: %+v, %v", tt.key, tt.value, wrong, err)
		}
		for _, w := range wrong {
			if strings.Contains(w.Message, "secret") {
				t.Errorf("it shows %q", w.Message)
			}
		}
	}
}

func TestPlan(t *testing.T) {
	m := New()
	if _, err := m.Configure(t.Context(), sdk.Values{"user": {"backup"}, "defaults_file": {"/root/b.cnf"}, "parallel": {"4"}, "throttle": {"9"}, "slave_info": {"true"}, "extra": {"--incremental-lsn=5"}}); err != nil {
		t.Fatal(err)
	}
	tr := sdk.Transfer{ID: "t", Source: sdk.Endpoint{Host: "a", Path: "/run/s.sock"}, Targets: []sdk.Endpoint{{Host: "b", Path: "/srv/x"}}, Options: map[string]string{"stop_slave": "true"}}
	plan, err := m.Plan(t.Context(), tr, sdk.Findings{Facts: map[string]string{"tool": "/usr/bin/mariadb-backup", "replica": "s1", "bytes": "77"}})
	if err != nil || !plan.Begins || plan.Finishes || plan.Bytes != 77 || !plan.Targets[0].MustEmpty {
		t.Errorf("%+v, %v", plan, err)
	}
	var argv []string
	for _, a := range plan.Read.Command.Argv {
		argv = append(argv, string(a))
	}
	want := "/usr/bin/mariadb-backup --defaults-file=/root/b.cnf --backup --stream=xbstream --target-dir={staging} --socket=/run/s.sock --skip-ssl --user=backup --parallel=4 --throttle=9 --slave-info --incremental-lsn=5"
	if got := strings.Join(argv, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if plan, _ := m.Plan(t.Context(), tr, sdk.Findings{}); plan.Begins || plan.Bytes != -1 {
		t.Errorf("where nothing is known: %+v", plan)
	}
}

// TestRefusals plays what needs no server; the questions are asked of this
// machine.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	tr := sdk.Transfer{ID: "t", Source: sdk.Endpoint{Host: "a", Path: sdk.Raw(filepath.Join(dir, "no.sock"))}, Targets: []sdk.Endpoint{{Host: "b", Path: sdk.Raw(dir)}}, Options: map[string]string{"stop_slave": "true"}}
	inspect := func(output string) string {
		t.Helper()
		m := New()
		questions, err := m.Questions(t.Context(), tr)
		if err != nil {
			t.Fatal(err)
		}
		answers := plugintest.Answer(t.Context(), questions)
		if output != "" {
			answers[0].Paths[askSocket] = sdk.PathFacts{Exists: true, Type: sdk.FileSocket}
			answers[0].Commands[askServer] = sdk.Result{Stdout: []byte(output)}
		}
		found, err := m.Inspect(t.Context(), tr, answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, e := range found.Refusals {
			kinds = append(kinds, string(e.Kind)+" "+e.Host)
			if e.Hint == "" || e.Message == "" {
				t.Errorf("no advice: %+v", e)
			}
		}
		return strings.Join(kinds, ", ")
	}
	const tool, client = "tool\t/usr/bin/mariadb-backup\n", "client\t/usr/bin/mariadb\n"
	for output, want := range map[string]string{
		"":     "not-found a",
		client: "missing-tool a, permission a",
		"foreign\t/usr/bin/xtrabackup\n" + client + "asked\tyes\n": "missing-tool a",
		tool: "missing-tool a",
		tool + client + "server\t8.0.36\t/srv/\t\t\nasked\tyes\n":                                 "unsupported a",
		tool + client + "refused\tERROR 1045 (28000): Access denied\nunasked\tERROR 1045\n":       "permission a",
		tool + client + "refused\tERROR 2002 (HY000): Can't connect\nunasked\tERROR 2002\n":       "unreachable a",
		tool + client + "server\t10.11-MariaDB\t/srv/\t\t\nunasked\tERROR 1227\n":                 "permission a",
		tool + client + "server\t10.11-MariaDB\t/srv/\t\t\nasked\tyes\nreplica\tYes\tYes\t\n":     "",
		tool + client + "server\t10.11-MariaDB\t/srv/\t\t\nasked\tyes\nbytes\t9000000000000000\n": "no-space b",
	} {
		if got := inspect(output); got != want {
			t.Errorf("%q: %q, want %q", output, got, want)
		}
	}
}

// TestScriptsAreShell holds the scripts to the grammar of sh.
func TestScriptsAreShell(t *testing.T) {
	for name, text := range map[string]string{"look": lookScript, "change": changeScript, "status": statusScript} {
		if out, err := exec.Command("sh", "-n", "-c", text).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

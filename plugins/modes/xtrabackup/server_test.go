package xtrabackup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// realServer is a real MariaDB of a test.
type realServer struct {
	dir, socket string
}

// newServer starts one, which ends with the test.
func newServer(t *testing.T) *realServer {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: no server is started")
	}
	for _, tool := range []string{"mariadbd", "mariadb-install-db", "mariadb", "mariadb-backup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	dir, err := os.MkdirTemp("", "x") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &realServer{dir: dir, socket: filepath.Join(dir, "mysqld.sock")}
	data := filepath.Join(dir, "data")
	run(t, "mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir="+data, "--auth-root-authentication-method=socket", "--skip-test-db")
	run(t, "chown", "mysql", dir)
	cmd := exec.Command("mariadbd", "--no-defaults", "--user=mysql", "--datadir="+data, "--socket="+s.socket, "--pid-file="+filepath.Join(dir, "pid"),
		"--skip-networking", "--server-id=7", "--log-bin=log-bin", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--log-error="+filepath.Join(dir, "log"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := exec.Command("mariadb", "--no-defaults", "--socket="+s.socket, "-e", "select 1").Run()
		if err == nil {
			return s
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("the server does not answer: %v\n%s", err, log)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (s *realServer) sql(t *testing.T, statements string) string {
	t.Helper()
	return run(t, "mariadb", "--no-defaults", "--batch", "--socket="+s.socket, "-e", statements)
}

// replication is the state of all connections.
func (s *realServer) replication(t *testing.T) string {
	t.Helper()
	found, err := parseServer(run(t, "sh", "-c", statusScript, "sh", s.socket, "", "", "mariadb"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%+v", found.replicas)
}

func (s *realServer) transfer(target string, stop bool) sdk.Transfer {
	return sdk.Transfer{ID: "t-1", Source: sdk.Endpoint{Host: "db1", Path: sdk.Raw(s.socket)},
		Targets: []sdk.Endpoint{{Host: "db2", Path: sdk.Raw(filepath.Join(s.dir, target))}},
		Options: map[string]string{"stop_slave": fmt.Sprint(stop)}}
}

// TestWithServer: the mode keeps its contract with a real server, whose
// replication has connections in every state and with a hostile name; and
// exactly what ran runs again.
func TestWithServer(t *testing.T) {
	s := newServer(t)
	for _, d := range []string{"empty", "taken/x"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	to := func(target string) sdk.Transfer { return s.transfer(target, false) }
	noSocket, noServer := to("empty"), to("empty")
	noSocket.Source.Path = sdk.Raw(filepath.Join(s.dir, "data"))
	noServer.Source.Path = sdk.Raw(filepath.Join(s.dir, "missing.sock"))
	plugintest.Mode(t, New(), plugintest.ModeCase{Transfer: to("empty"), Refused: []sdk.Transfer{to("taken"), to("missing"), noSocket, noServer}})

	found := s.look(t, s.transfer("empty", true), func([]sdk.HostQuestions) {})
	if len(found.Warnings) == 0 || !strings.Contains(found.Warnings[0], "is no replica") || found.Bytes < 10<<20 {
		t.Errorf("no replica: %+v", found)
	}
	// A data directory that takes too long to count is no refusal.
	slow := t.TempDir()
	if err := os.WriteFile(filepath.Join(slow, "du"), []byte("#!/bin/sh\ncase $1 in -s*) exec sleep 20 ;; esac\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", slow+":"+path)
	found = s.look(t, to("empty"), func(q []sdk.HostQuestions) {
		argv := q[0].Commands[0].Command.Argv
		argv[len(argv)-2], argv[len(argv)-1] = "0.2", "0.1"
	})
	t.Setenv("PATH", path)
	if len(found.Warnings) != 1 || found.Bytes != -1 {
		t.Errorf("too slow to be counted: %+v", found)
	}
	s.sql(t, `CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='u'; START SLAVE;
		CHANGE MASTER 'x2' TO MASTER_HOST='127.0.0.1', MASTER_PORT=2, MASTER_USER='u'; START SLAVE 'x2' SQL_THREAD;
		CHANGE MASTER 'x3' TO MASTER_HOST='127.0.0.1', MASTER_PORT=3, MASTER_USER='u'; START SLAVE 'x3' IO_THREAD;
		CHANGE MASTER 'off' TO MASTER_HOST='127.0.0.1', MASTER_PORT=4, MASTER_USER='u';
		CHANGE MASTER 'we''ird \\ name' TO MASTER_HOST='127.0.0.1', MASTER_PORT=5, MASTER_USER='u'; START SLAVE 'we''ird \\ name';`)
	before := s.replication(t)
	if strings.Count(before, "true") != 6 {
		t.Fatalf("replication does not run: %s", before)
	}
	m := New()
	host := plugintest.NewHost("db1", "db2")
	if err := m.Begin(t.Context(), s.transfer("empty", true), host); err != nil {
		t.Fatal(err)
	}
	if stopped := s.replication(t); strings.Contains(stopped, "true") {
		t.Errorf("stopped: %s", stopped)
	}
	host.Undo(t, sdk.WhenSourceDone)
	if after := s.replication(t); after != before {
		t.Errorf("replication was %s and is %s", before, after)
	}
}

// look answers the questions about the server, with changes made to them.
func (s *realServer) look(t *testing.T, tr sdk.Transfer, change func([]sdk.HostQuestions)) sdk.Findings {
	t.Helper()
	m := New()
	questions, err := m.Questions(t.Context(), tr)
	if err != nil {
		t.Fatal(err)
	}
	change(questions)
	found, err := m.Inspect(t.Context(), tr, plugintest.Answer(t.Context(), questions), nil)
	if err != nil || len(found.Refusals) > 0 {
		t.Fatalf("%+v, %v", found.Refusals, err)
	}
	return found
}

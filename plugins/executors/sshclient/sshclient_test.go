package sshclient

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/plugins/executors/sshdtest"
	"github.com/transferpy/transferpy/sdk"
)

func TestFailure(t *testing.T) {
	for text, want := range map[string]*sdk.Error{
		"ssh: Could not resolve hostname db77: Name or service not known": {Kind: sdk.KindUnreachable, Message: "ssh: Could not resolve hostname db77: Name or service not known"},
		"banner\nssh: connect to host db1 port 22: Connection refused\n":  {Kind: sdk.KindUnreachable, Message: "ssh: connect to host db1 port 22: Connection refused"},
		"ssh: connect to host db1 port 22: Connection timed out":          {Kind: sdk.KindUnreachable, Message: "ssh: connect to host db1 port 22: Connection timed out"},
		"root@db1: Permission denied (publickey).":                        {Kind: sdk.KindAuth, Message: "root@db1: Permission denied (publickey)."},
		"@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n":   {Kind: sdk.KindAuth, Message: "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!"},
		"\x1b[31mssh: connect: No route to host":                          {Kind: sdk.KindUnreachable, Message: `"\x1b[31mssh: connect: No route to host"`},
	} {
		if got := Failure(text); got == nil || got.Kind != want.Kind || got.Message != want.Message {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	if got := Failure("something else"); got != nil {
		t.Errorf("%+v", got)
	}
}

func client(t *testing.T) (Client, *sshdtest.Server) {
	t.Helper()
	s := sshdtest.Start(t)
	return Client{Program: []string{"ssh", "-F", s.Conf, "-oBatchMode=yes"}, Env: program.Environ(nil), Connect: 10 * time.Second, MaxOutput: 1000}, s
}

// TestPut places bytes of all kinds, once, and says why where it cannot.
func TestPut(t *testing.T) {
	c, s := client(t)
	file := sdk.File{Path: sdk.Raw(filepath.Join(t.TempDir(), "f '$(id)\xff")), Mode: 0o640, Content: []byte(strings.Repeat("\x00\xff\n$'", 50_000))}
	for _, want := range []error{nil, sdk.ErrExists} {
		r := c.Put(t.Context(), "db1", file, time.Minute)
		if want == nil && r.Err != nil || want != nil && !errors.Is(r.Err, want) {
			t.Errorf("%v, want %v", r.Err, want)
		}
	}
	if data, err := os.ReadFile(string(file.Path)); err != nil || string(data) != string(file.Content) {
		t.Errorf("%d bytes lie there, %v", len(data), err)
	}
	file.Path = "relative"
	if r := c.Put(t.Context(), "db1", file, time.Minute); !errors.Is(r.Err, sdk.ErrConfig) || r.Err.Host != "db1" {
		t.Errorf("%+v", r)
	}
	s.Cmd.Process.Kill()
	s.Cmd.Wait()
	file.Path = "/tmp/never-there"
	if r := c.Put(t.Context(), "db1", file, time.Minute); !errors.Is(r.Err, sdk.ErrUnreachable) {
		t.Errorf("without sshd: %+v", r)
	}
}

// TestRunTellsWhoFailed tells a command's 255 from ssh's, and no shell from a
// command without output.
func TestRunTellsWhoFailed(t *testing.T) {
	c, s := client(t)
	if r := c.Run(t.Context(), "db1", sdk.Command{Argv: []sdk.Raw{"sh", "-c", "exit 255"}}); r.Err != nil || r.ExitCode != 255 {
		t.Errorf("%+v", r)
	}
	c.Program = []string{"ssh", "-F", s.Conf, "-oBatchMode=yes", "-oIdentityFile=/dev/null", "-oIdentitiesOnly=yes", "-F", "/dev/null", "-p", "1"}
	if r := c.Run(t.Context(), "127.0.0.1", sdk.Command{Argv: []sdk.Raw{"true"}}); !errors.Is(r.Err, sdk.ErrUnreachable) || !strings.Contains(r.Err.Message, "refused") {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{"-oProxyCommand=x", "", "a b", "@x", "x;y", "\xff"} {
		if r := c.Run(t.Context(), bad, sdk.Command{Argv: []sdk.Raw{"true"}}); !errors.Is(r.Err, sdk.ErrConfig) {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

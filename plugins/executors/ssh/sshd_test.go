package ssh

import (
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/transferpy/transferpy/plugins/executors/sshdtest"
	"github.com/transferpy/transferpy/sdk"
)

// lab is a real sshd on loopback.
type lab struct {
	*sshdtest.Server
	dir  string
	port int
	cmd  *exec.Cmd
	conf string // of ssh
}

func startSSHD(t *testing.T, more ...string) *lab {
	t.Helper()
	s := sshdtest.Start(t, more...)
	return &lab{Server: s, dir: s.Dir, port: s.Port, cmd: s.Cmd, conf: s.Conf}
}

func (l *lab) path(name string) string { return l.Path(name) }

func (l *lab) write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	return l.Write(t, name, text, mode)
}

func (l *lab) config(t *testing.T, name, first string) string {
	t.Helper()
	return l.Config(t, name, first)
}

func freePort(t *testing.T) int {
	t.Helper()
	return sshdtest.FreePort(t)
}

func writeKey(t *testing.T, path string) ssh.PublicKey {
	t.Helper()
	return sshdtest.WriteKey(t, path)
}

// executor returns a configured executor that is closed with the test.
func (l *lab) executor(t *testing.T, more ...string) sdk.Executor {
	t.Helper()
	values := sdk.Values{"config": {l.conf}}
	for i := 0; i+1 < len(more); i += 2 {
		values[more[i]] = []string{more[i+1]}
	}
	e := New()
	diagnostics, err := e.Configure(t.Context(), values)
	if err != nil || len(diagnostics) > 0 {
		t.Fatalf("Configure: %v, %v", diagnostics, err)
	}
	t.Cleanup(func() { e.(io.Closer).Close() })
	return e
}

func raws(args ...string) []sdk.Raw {
	argv := make([]sdk.Raw, len(args))
	for i, a := range args {
		argv[i] = sdk.Raw(a)
	}
	return argv
}

// runOne runs a command on one host.
func runOne(t *testing.T, e sdk.Executor, host string, cmd sdk.Command) sdk.Result {
	t.Helper()
	var results []sdk.Result
	if err := e.Run(t.Context(), []string{host}, cmd, func(r sdk.Result) { results = append(results, r) }); err != nil {
		t.Fatal(err)
	}
	if len(results) != 1 || results[0].Host != host {
		t.Fatalf("results %+v", results)
	}
	return results[0]
}

package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/transferpy/transferpy/sdk"
)

// lab is a real sshd on loopback with keys of its own, and an ssh_config by
// which every name leads to it.
type lab struct {
	dir  string
	port int
	cmd  *exec.Cmd
	conf string // of ssh
}

// startSSHD starts sshd with more lines of configuration. Everything goes
// with the test.
func startSSHD(t *testing.T, more ...string) *lab {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("sshd is not installed: apt-get install openssh-server")
	}
	if os.Getuid() == 0 {
		os.MkdirAll("/run/sshd", 0o755) // sshd as root refuses to start without it
	}
	l := &lab{dir: t.TempDir(), port: freePort(t)}
	host, login := writeKey(t, l.path("host_key")), writeKey(t, l.path("user_key"))
	l.write(t, "authorized_keys", string(ssh.MarshalAuthorizedKey(login)), 0o600)
	l.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", l.port, ssh.MarshalAuthorizedKey(host)), 0o600)
	l.write(t, "sshd_config", fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 200
%s
`, l.port, l.path("host_key"), l.path("authorized_keys"), strings.Join(more, "\n")), 0o600)
	l.conf = l.config(t, "ssh_config", "")

	log, err := os.Create(l.path("sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	l.cmd = exec.Command(sshd, "-D", "-e", "-f", l.path("sshd_config"))
	l.cmd.Stderr = log
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.cmd.Process.Kill()
		l.cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(l.path("sshd.log"))
			t.Logf("sshd said: %s", text[max(0, len(text)-3000):])
		}
	})
	l.awaitListening(t)
	return l
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(l.path(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return l.path(name)
}

// config writes an ssh_config; first stands before what holds for all hosts
// and so takes precedence.
func (l *lab) config(t *testing.T, name, first string) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return l.write(t, name, fmt.Sprintf(`%s
Host *
  HostName 127.0.0.1
  Port %d
  User %s
  IdentityFile %s
  IdentityAgent none
  UserKnownHostsFile %s
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
`, first, l.port, me.Username, l.path("user_key"), l.path("known_hosts")), 0o600)
}

func (l *lab) awaitListening(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.port))
		if err == nil {
			nc.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
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

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// writeKey makes a key pair in the files path and path.pub.
func writeKey(t *testing.T, path string) ssh.PublicKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer.PublicKey()
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

// Package sshdtest starts a real sshd on loopback for the tests of executors.
package sshdtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// Server is a real sshd on loopback with keys of its own, and an ssh_config
// by which every name leads to it.
type Server struct {
	Dir  string
	Port int
	Cmd  *exec.Cmd
	Conf string // an ssh_config by which every name leads to it
}

// Start starts sshd with more lines of configuration. Everything goes with
// the test, which is skipped where sshd is not installed.
func Start(t *testing.T, more ...string) *Server {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("sshd is not installed: apt-get install openssh-server")
	}
	if os.Getuid() == 0 {
		os.MkdirAll("/run/sshd", 0o755) // sshd as root refuses to start without it
	}
	s := &Server{Dir: t.TempDir(), Port: FreePort(t)}
	host, login := WriteKey(t, s.Path("host_key")), WriteKey(t, s.Path("user_key"))
	s.Write(t, "authorized_keys", string(ssh.MarshalAuthorizedKey(login)), 0o600)
	s.Write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", s.Port, ssh.MarshalAuthorizedKey(host)), 0o600)
	s.Write(t, "sshd_config", fmt.Sprintf(`Port %d
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
`, s.Port, s.Path("host_key"), s.Path("authorized_keys"), strings.Join(more, "\n")), 0o600)
	s.Conf = s.Config(t, "ssh_config", "")

	log, err := os.Create(s.Path("sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	s.Cmd = exec.Command(sshd, "-D", "-e", "-f", s.Path("sshd_config"))
	s.Cmd.Stderr = log
	if err := s.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Cmd.Process.Kill()
		s.Cmd.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(s.Path("sshd.log"))
			t.Logf("sshd said: %s", text[max(0, len(text)-3000):])
		}
	})
	s.awaitListening(t)
	return s
}

// Path is a file of the server's directory.
func (s *Server) Path(name string) string { return filepath.Join(s.Dir, name) }

// Write writes a file there and returns its path.
func (s *Server) Write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(s.Path(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return s.Path(name)
}

// Config writes an ssh_config; first stands before what holds for all hosts
// and so takes precedence.
func (s *Server) Config(t *testing.T, name, first string) string {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return s.Write(t, name, fmt.Sprintf(`%s
Host *
  HostName 127.0.0.1
  Port %d
  User %s
  IdentityFile %s
  IdentityAgent none
  UserKnownHostsFile %s
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
`, first, s.Port, me.Username, s.Path("user_key"), s.Path("known_hosts")), 0o600)
}

func (s *Server) awaitListening(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		nc, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
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

// FreePort is a port of loopback on which nobody listens.
func FreePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// WriteKey makes a key pair in the files path and path.pub.
func WriteKey(t *testing.T, path string) ssh.PublicKey {
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

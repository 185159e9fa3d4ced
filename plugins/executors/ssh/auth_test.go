package ssh

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/transferpy/transferpy/sdk"
)

var nothing = sdk.Command{Argv: raws("true")}

// wantAuth fails unless the login was refused with KindAuth and every text is
// in what the operator reads.
func wantAuth(t *testing.T, r sdk.Result, texts ...string) {
	t.Helper()
	if !errors.Is(r.Err, sdk.ErrAuth) {
		t.Fatalf("got %+v, want KindAuth", r)
	}
	for _, text := range texts {
		if !strings.Contains(r.Err.Error(), text) {
			t.Errorf("%q is not in: %v", text, r.Err)
		}
	}
}

func TestUnknownHostKey(t *testing.T) {
	l := startSSHD(t)
	kh := l.write(t, "known_hosts", "", 0o600)
	r := runOne(t, l.executor(t), "db1", nothing)
	wantAuth(t, r, "not known", "SHA256:", fmt.Sprintf("ssh-keyscan -p %d 127.0.0.1 >> %s", l.port, kh))
	if text, _ := os.ReadFile(kh); len(text) > 0 {
		t.Errorf("known_hosts was written: %s", text)
	}
}

func TestChangedHostKey(t *testing.T) {
	l := startSSHD(t)
	other := writeKey(t, l.path("other"))
	for _, strict := range []string{"yes", "accept-new", "no"} {
		kh := l.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", l.port, ssh.MarshalAuthorizedKey(other)), 0o600)
		l.conf = l.config(t, "ssh_config", "Host *\n  StrictHostKeyChecking "+strict)
		wantAuth(t, runOne(t, l.executor(t), "db1", nothing), "has changed", kh+":1",
			fmt.Sprintf("ssh-keygen -R '[127.0.0.1]:%d' -f %s", l.port, kh))
	}
}

func TestAcceptNewWritesTheKeyDown(t *testing.T) {
	l := startSSHD(t)
	kh := l.write(t, "known_hosts", "", 0o600)
	l.conf = l.config(t, "ssh_config", "Host *\n  StrictHostKeyChecking accept-new")
	if r := runOne(t, l.executor(t), "db1", nothing); r.Err != nil {
		t.Fatal(r.Err)
	}
	host, _ := os.ReadFile(l.path("host_key.pub"))
	text, _ := os.ReadFile(kh)
	if !bytes.HasPrefix(text, fmt.Appendf(nil, "[127.0.0.1]:%d ssh-ed25519 ", l.port)) {
		t.Errorf("known_hosts: %s (host key %s)", text, host)
	}
	l.conf = l.config(t, "ssh_config", "")
	if r := runOne(t, l.executor(t), "db1", nothing); r.Err != nil {
		t.Errorf("the written line is not known: %v", r.Err)
	}
}

func TestHostKeyAlias(t *testing.T) {
	l := startSSHD(t)
	text, _ := os.ReadFile(l.path("known_hosts"))
	_, key, _ := strings.Cut(string(text), " ")
	l.write(t, "known_hosts", "the-alias "+key, 0o600)
	l.conf = l.config(t, "ssh_config", "Host *\n  HostKeyAlias the-alias")
	if r := runOne(t, l.executor(t), "db1", nothing); r.Err != nil {
		t.Error(r.Err)
	}
}

func TestKnownHostsOption(t *testing.T) {
	l := startSSHD(t)
	empty := l.write(t, "empty", "", 0o600)
	wantAuth(t, runOne(t, l.executor(t, "known_hosts", empty), "db1", nothing), empty)
}

func TestWrongUserKey(t *testing.T) {
	l := startSSHD(t)
	writeKey(t, l.path("user_key")) // another one than in authorized_keys
	wantAuth(t, runOne(t, l.executor(t), "db1", nothing), "login as", "1 keys offered", "BatchMode")
}

func TestEncryptedKey(t *testing.T) {
	l := startSSHD(t)
	private := writeEncrypted(t, l)
	wantAuth(t, runOne(t, l.executor(t), "db1", nothing), "passphrase", "ssh-add "+l.path("user_key"))

	// The same with an agent that holds it.
	socket := startAgent(t, l, private)
	l.conf = l.config(t, "ssh_config", "Host *\n  IdentitiesOnly yes\n  IdentityAgent "+socket)
	if r := runOne(t, l.executor(t), "db1", nothing); r.Err != nil {
		t.Errorf("with the agent: %v", r.Err)
	}
}

// writeEncrypted makes the user key anew with a passphrase and admits it.
func writeEncrypted(t *testing.T, l *lab) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "user_key", string(pem.EncodeToMemory(block)), 0o600)
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "authorized_keys", string(ssh.MarshalAuthorizedKey(signer.PublicKey())), 0o600)
	return private
}

// startAgent serves an agent with the key, behind six others that the server
// would not have the patience to try.
func startAgent(t *testing.T, l *lab, private ed25519.PrivateKey) string {
	t.Helper()
	keys := agent.NewKeyring()
	for range 6 {
		_, other, _ := ed25519.GenerateKey(rand.Reader)
		if err := keys.Add(agent.AddedKey{PrivateKey: other}); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	socket := l.path("agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			agent.ServeAgent(keys, c)
			c.Close()
		}
	})
	return socket
}

func TestProxyJump(t *testing.T) {
	l := startSSHD(t, "LogLevel VERBOSE")
	l.conf = l.config(t, "ssh_config", `Host db*
  ProxyJump jump1,jump2
Host lost
  ProxyJump nowhere
Host nowhere
  HostName no-such-host.invalid
Host circle
  ProxyJump circle
`)
	e := l.executor(t)
	checkExact(t, e)
	if r := runOne(t, e, "db2", nothing); r.Err != nil {
		t.Error(r.Err)
	}
	log, _ := os.ReadFile(l.path("sshd.log"))
	if n := bytes.Count(log, []byte("Accepted publickey")); n != 4 {
		t.Errorf("%d logins for two jump hosts and two hosts, want 4", n)
	}
	if r := runOne(t, e, "lost", nothing); !errors.Is(r.Err, sdk.ErrUnreachable) || !strings.Contains(r.Err.Message, "jump host nowhere") {
		t.Errorf("lost: %v", r.Err)
	}
	if r := runOne(t, e, "circle", nothing); r.Err == nil {
		t.Error("a circle of jump hosts led somewhere")
	}
}

func TestBrokenConfiguration(t *testing.T) {
	l := startSSHD(t)
	l.conf = l.write(t, "broken", "NoSuchOption yes\n", 0o600)
	if r := runOne(t, l.executor(t), "db1", nothing); !errors.Is(r.Err, sdk.ErrConfig) || !strings.Contains(strings.ToLower(r.Err.Stderr), "nosuchoption") {
		t.Errorf("got %+v", r.Err)
	}
}

func TestConfigure(t *testing.T) {
	for field, value := range map[string]string{
		"config": "/no/such/file", "known_hosts": "/no/such/file", "user": "-oX=y", "port": "70000", "connect_timeout": "-1s",
	} {
		got, err := New().Configure(t.Context(), sdk.Values{field: {value}})
		if err != nil || len(got) != 1 || got[0].Field != field || got[0].Severity != sdk.SeverityError {
			t.Errorf("%s = %s: %+v, %v", field, value, got, err)
		}
	}
}

func TestSudo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, who may use sudo without a password")
	}
	l := startSSHD(t)
	e := l.executor(t, "sudo", "true")
	checkExact(t, e)
	r := runOne(t, e, "db1", sdk.Command{Argv: spawner, Timeout: 500e6})
	if !errors.Is(r.Err, sdk.ErrTimeout) {
		t.Fatalf("got %+v, want KindTimeout", r)
	}
	checkGone(t, r.Stdout)
}

func TestSudoRefuses(t *testing.T) {
	// A sudo of our own, first in PATH, that speaks as the real one does.
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/sudo", []byte("#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	l := startSSHD(t, "SetEnv PATH="+dir+":/usr/bin:/bin")
	r := runOne(t, l.executor(t, "sudo", "true"), "db1", nothing)
	if !errors.Is(r.Err, sdk.ErrPermission) || !strings.Contains(r.Err.Hint, "NOPASSWD") {
		t.Errorf("got %+v", r.Err)
	}
}

func TestForcedCommand(t *testing.T) {
	l := startSSHD(t, "ForceCommand echo 'This account is not available'; exit 1")
	r := runOne(t, l.executor(t), "db1", nothing)
	if !errors.Is(r.Err, sdk.ErrPermission) || !strings.Contains(r.Err.Stderr, "not available") {
		t.Errorf("got %+v", r.Err)
	}
}

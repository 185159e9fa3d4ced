package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// TestProxyCommand reaches sshd through a program, which ends with the
// executor.
func TestProxyCommand(t *testing.T) {
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip("busybox is not installed: scripts/test-deps")
	}
	l := startSSHD(t)
	mark := filepath.Join(l.dir, "proxy.pid")
	l.conf = l.config(t, "ssh_config", fmt.Sprintf("Host db1\n  HostName localhost\n  HostKeyAlias proxied\n  ProxyCommand sh -c 'echo $$ >%s; exec busybox nc 127.0.0.1 %%p'\n"+
		"Host broken\n  ProxyCommand sh -c 'echo no way to %%h >&2; exit 1'\n", mark))
	text, err := os.ReadFile(l.path("known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(text), " ")
	l.write(t, "known_hosts", string(text)+"proxied "+key, 0o600)
	e := l.executor(t)
	if r := runOne(t, e, "db1", sdk.Command{Argv: raws("echo", "here")}); r.Err != nil || string(r.Stdout) != "here\n" {
		t.Errorf("%+v", r)
	}
	if r := runOne(t, e, "broken", nothing); !errors.Is(r.Err, sdk.ErrUnreachable) || !strings.Contains(r.Err.Message, "ProxyCommand") || !strings.Contains(r.Err.Stderr, "no way to 127.0.0.1") {
		t.Errorf("broken: %+v", r.Err)
	}
	e.(io.Closer).Close()
	pid, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/cmdline"); err == nil && len(line) > 0 {
		t.Errorf("the ProxyCommand lives: %q", line)
	}
}

// authority makes a key and a signer of certificates.
func authority(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// certificate has an authority sign the public key in a file.
func certificate(t *testing.T, ca ssh.Signer, private string, kind uint32, principals ...string) string {
	t.Helper()
	data, err := os.ReadFile(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: kind, KeyId: "test", ValidPrincipals: principals,
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix())}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(cert))
}

// TestCertificates logs in by a user's certificate, at a host that shows one
// of its own.
func TestCertificates(t *testing.T) {
	ca := authority(t)
	l := startSSHD(t)
	me := strings.TrimSpace(whoami(t))
	l.write(t, "ca.pub", string(ssh.MarshalAuthorizedKey(ca.PublicKey())), 0o600)
	l.write(t, "host_key-cert.pub", certificate(t, ca, l.path("host_key"), ssh.HostCert, "127.0.0.1"), 0o600)
	other := startSSHD(t, "TrustedUserCAKeys "+l.path("ca.pub"), "HostCertificate "+l.path("host_key-cert.pub"), "HostKey "+l.path("host_key"))
	other.write(t, "authorized_keys", "", 0o600)
	other.write(t, "known_hosts", fmt.Sprintf("@cert-authority [127.0.0.1]:%d %s", other.port, ssh.MarshalAuthorizedKey(ca.PublicKey())), 0o600)
	wantAuth(t, runOne(t, other.executor(t), "db1", nothing), "login as")

	cert := certificate(t, ca, other.path("user_key"), ssh.UserCert, me)
	named := other.write(t, "elsewhere.pub", cert, 0o600)
	other.conf = other.config(t, "named", "Host *\n  CertificateFile "+named+"\n")
	if r := runOne(t, other.executor(t), "db1", nothing); r.Err != nil {
		t.Errorf("CertificateFile: %v", r.Err)
	}
	other.conf = other.config(t, "beside", "")
	other.write(t, "user_key-cert.pub", cert, 0o600)
	if r := runOne(t, other.executor(t), "db1", nothing); r.Err != nil {
		t.Errorf("IDENTITY-cert.pub: %v", r.Err)
	}
	other.write(t, "user_key-cert.pub", certificate(t, authority(t), other.path("user_key"), ssh.UserCert, me), 0o600)
	wantAuth(t, runOne(t, other.executor(t), "db1", nothing), "login as")
}

func whoami(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestPubkeyAcceptedAlgorithms(t *testing.T) {
	l := startSSHD(t)
	l.conf = l.config(t, "ssh_config", "Host *\n  PubkeyAcceptedAlgorithms rsa-sha2-512\n")
	wantAuth(t, runOne(t, l.executor(t), "db1", nothing), "0 keys offered", "PubkeyAcceptedAlgorithms")

	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	limited, ok := restrict(signer, []string{"ssh-ed25519", ssh.KeyAlgoRSASHA512}).(ssh.MultiAlgorithmSigner)
	if !ok || !slices.Equal(limited.Algorithms(), []string{ssh.KeyAlgoRSASHA512}) {
		t.Errorf("an RSA key signs by %v", limited)
	}
}

func TestAlgorithmsOfSSHConfig(t *testing.T) {
	l := startSSHD(t, "Ciphers aes256-ctr")
	l.conf = l.config(t, "ssh_config", "Host other\n  Ciphers aes128-ctr\nHost *\n  AddressFamily inet\n  BindAddress 127.0.0.1\n")
	e := l.executor(t)
	if r := runOne(t, e, "db1", nothing); r.Err != nil {
		t.Error(r.Err)
	}
	if r := runOne(t, e, "other", nothing); r.Err == nil || !strings.Contains(r.Err.Message, "no common algorithm") {
		t.Errorf("other: %+v", r.Err)
	}
}

// TestSystemClientConformance runs the suite over the installed ssh.
func TestSystemClientConformance(t *testing.T) {
	l := startSSHD(t)
	l.conf = l.config(t, "ssh_config", fmt.Sprintf("Host refused\n  Port %d\nHost unknown\n  HostName no-such-host.invalid\n", freePort(t)))
	t.Setenv("XDG_CACHE_HOME", shortDir(t))
	plugintest.Executor(t, New(), plugintest.ExecutorCase{
		Config:      map[string][]string{"config": {l.conf}, "client": {"system"}},
		Good:        []string{"db1", "db2", "db3"},
		Unreachable: "refused", Unknown: "unknown",
		Once: os.Getenv("PLUGINTEST_TWICE") == "",
	})
}

// shortDir is a directory short enough for a socket's path, whose connections
// are ended with the test.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sockets, _ := filepath.Glob(dir + "/transferpy/ssh/*")
		for _, s := range sockets {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			exec.CommandContext(ctx, "ssh", "-oControlPath="+s, "-O", "exit", "x").Run()
			cancel()
		}
		os.RemoveAll(dir)
	})
	return dir
}

// TestSystemClientSharesAConnection holds that the second call uses the first
// one's.
func TestSystemClientSharesAConnection(t *testing.T) {
	l := startSSHD(t)
	dir := shortDir(t)
	t.Setenv("XDG_CACHE_HOME", dir)
	e := l.executor(t, "client", "system")
	show := sdk.Command{Argv: raws("sh", "-c", `printf %s "$SSH_CONNECTION"`)}
	first, second := runOne(t, e, "db1", show), runOne(t, e, "db1", show)
	if first.Err != nil || len(first.Stdout) == 0 || string(first.Stdout) != string(second.Stdout) {
		t.Errorf("%q (%v) and then %q (%v)", first.Stdout, first.Err, second.Stdout, second.Err)
	}
	if info, err := os.Stat(dir + "/transferpy/ssh"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	t.Setenv("XDG_CACHE_HOME", dir+strings.Repeat("/long", 20))
	if d, ok := socketDir(); ok {
		t.Errorf("%s is too long for a socket", d)
	}
}

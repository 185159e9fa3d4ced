package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// The accounts that every host has beside the machine's own.
const (
	// Operator may log in as root may, and may do all by sudo without a
	// password; its number is the same everywhere.
	Operator   = "op"
	operatorID = 2000
	// Service owns data; its number is another one on every host, so that
	// owners mapped by number are seen.
	Service   = "labdb"
	serviceID = 3000
)

// etcFile is a file of a host's own, with text and owner.
type etcFile struct {
	Path string `json:"path"`
	Text string `json:"text"`
	Mode uint32 `json:"mode"`
	UID  int    `json:"uid"`
}

// keys are the ssh keys of a lab.
type keys struct {
	client, clientPublic string
	host, hostPublic     map[string]string
}

// makeKeys makes one key for each host and one for who logs in.
func makeKeys(ctx context.Context, dir string, hosts []Host) (*keys, error) {
	k := &keys{host: map[string]string{}, hostPublic: map[string]string{}}
	var wg sync.WaitGroup
	private, public, errs := make([]string, len(hosts)), make([]string, len(hosts)), make([]error, len(hosts))
	for i, h := range hosts {
		wg.Go(func() { private[i], public[i], errs[i] = makeKey(ctx, filepath.Join(dir, h.Name+".key")) })
	}
	wg.Wait()
	for i, h := range hosts {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if h.Name == Control { // it runs no sshd, so its key is the one to log in with
			k.client, k.clientPublic = private[i], public[i]
		} else {
			k.host[h.Name], k.hostPublic[h.Name] = private[i], public[i]
		}
	}
	return k, nil
}

func makeKey(ctx context.Context, path string) (private, public string, err error) {
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", path).CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	a, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	b, err := os.ReadFile(path + ".pub")
	return string(a), string(b), err
}

// files are a host's share of the keys, and what it knows of the others.
func (k *keys) files(name string, hosts []Host) []etcFile {
	list := []etcFile{{"/etc/hosts", hostsFile(hosts), 0o644, 0}}
	if name == Control {
		known := k.knownHosts(hosts)
		return append(list,
			etcFile{"/root/.ssh/id_ed25519", k.client, 0o600, 0},
			etcFile{"/root/.ssh/known_hosts", known, 0o600, 0},
			etcFile{"/home/op/.ssh/id_ed25519", k.client, 0o600, operatorID},
			etcFile{"/home/op/.ssh/known_hosts", known, 0o600, operatorID})
	}
	return append(list,
		etcFile{"/etc/ssh/ssh_host_ed25519_key", k.host[name], 0o600, 0},
		etcFile{"/etc/ssh/ssh_host_ed25519_key.pub", k.hostPublic[name], 0o644, 0},
		etcFile{"/etc/ssh/sshd_config", sshdConfig, 0o644, 0},
		etcFile{"/root/.ssh/authorized_keys", k.clientPublic, 0o600, 0},
		etcFile{"/home/op/.ssh/authorized_keys", k.clientPublic, 0o600, operatorID})
}

// sshdConfig keeps Debian's defaults (PAM, 10 sessions a connection), with
// keys alone.
const sshdConfig = `HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM yes
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
`

// names are what a host may be called: db1, db1.lab, and one alias.
func (h Host) names() []string {
	return []string{h.Name, h.Name + ".lab", h.Name + "-alias"}
}

func hostsFile(hosts []Host) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s %s\n", h.IPv4, strings.Join(h.names(), " "))
		if h.IPv6 != "" {
			fmt.Fprintf(&b, "%s %s\n", h.IPv6, strings.Join(h.names(), " "))
		}
	}
	return b.String()
}

func (k *keys) knownHosts(hosts []Host) string {
	var b strings.Builder
	for _, h := range hosts {
		if key := k.hostPublic[h.Name]; key != "" {
			all := append(h.names(), h.IPv4)
			if h.IPv6 != "" {
				all = append(all, h.IPv6)
			}
			fmt.Fprintf(&b, "%s %s", strings.Join(all, ","), key)
		}
	}
	return b.String()
}

// writeEtc fills /etc and the home directories below c.Root. No secret of the
// machine (host keys, password hashes, what it sets in environments) is left.
func writeEtc(c initConfig) error {
	if err := copyEtc(c.Root); err != nil {
		return err
	}
	for _, name := range []string{"ssh", "shadow-", "passwd-", "group-", "gshadow", "gshadow-", "sudoers.d", "resolv.conf", "mtab", "transferpy"} {
		if err := os.RemoveAll(filepath.Join(c.Root, "etc", name)); err != nil {
			return err
		}
	}
	files, err := accounts(c)
	if err != nil {
		return err
	}
	files = append(files,
		etcFile{"/etc/hostname", c.Name + "\n", 0o644, 0},
		etcFile{"/etc/environment", "", 0o644, 0},
		etcFile{"/etc/resolv.conf", "", 0o644, 0},
		etcFile{"/etc/sudoers", "root ALL=(ALL:ALL) ALL\n" + Operator + " ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440, 0},
		etcFile{"/run/sshd/.keep", "", 0o600, 0})
	for _, f := range append(files, c.Files...) {
		if err := f.write(c.Root); err != nil {
			return err
		}
	}
	home := filepath.Join(c.Root, "home", Operator)
	if err := os.Chmod(home, 0o700); err != nil {
		return err
	}
	return os.Lchown(home, operatorID, operatorID)
}

func (f etcFile) write(root string) error {
	path := filepath.Join(root, f.Path)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if filepath.Base(dir) == ".ssh" {
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		if err := os.Lchown(dir, f.UID, f.UID); err != nil {
			return err
		}
	}
	// The machine's file may be a link to somewhere else.
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(path, []byte(f.Text), 0o600); err != nil {
		return err
	}
	if err := os.Lchown(path, f.UID, f.UID); err != nil {
		return err
	}
	return os.Chmod(path, os.FileMode(f.Mode))
}

// accounts are the machine's accounts without passwords, and the lab's own.
func accounts(c initConfig) ([]etcFile, error) {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	users, groups := string(passwd), string(group)
	for _, a := range []struct {
		name  string
		id    int
		shell string
	}{{Operator, operatorID, "/bin/bash"}, {Service, serviceID + c.Account, "/usr/sbin/nologin"}} {
		users += fmt.Sprintf("%s:x:%d:%d::/home/%s:%s\n", a.name, a.id, a.id, a.name, a.shell)
		groups += fmt.Sprintf("%s:x:%d:\n", a.name, a.id)
	}
	var shadow strings.Builder
	for line := range strings.Lines(users) {
		name, _, ok := strings.Cut(line, ":")
		if ok && name != "" {
			fmt.Fprintf(&shadow, "%s:*:19000:0:99999:7:::\n", name)
		}
	}
	return []etcFile{
		{"/etc/passwd", users, 0o644, 0},
		{"/etc/group", groups, 0o644, 0},
		{"/etc/shadow", shadow.String(), 0o600, 0},
	}, nil
}

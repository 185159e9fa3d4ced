package ssh

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/plugins/executors/sshclient"
	"github.com/transferpy/transferpy/sdk"
)

const (
	// systemAtOnce bounds the processes of one call.
	systemAtOnce = 16
	// persist is how long a connection of the system's ssh stays open unused.
	persist = "60"
	// maxSocketDir leaves room for ssh's name of 40 digits, and its temporary
	// one, in the 104 bytes of a socket's path.
	maxSocketDir = 45
)

// system runs the installed ssh for each call, for what this package's own
// client cannot do: FIDO keys, GSSAPI, PKCS#11. Calls to a host share a
// connection through a control socket.
func (o *options) system() sshclient.Client {
	argv := []string{"ssh", "-T", "-oBatchMode=yes", "-oForwardAgent=no", "-oForwardX11=no"}
	if o.config != "" {
		argv = append(argv, "-F", o.config)
	}
	if o.user != "" {
		argv = append(argv, "-l", o.user)
	}
	if o.port != 0 {
		argv = append(argv, "-p", strconv.Itoa(o.port))
	}
	if o.knownHosts != "" {
		argv = append(argv, "-oUserKnownHostsFile="+o.knownHosts, "-oGlobalKnownHostsFile=none")
	}
	connect := defaultConnectTimeout
	if o.connectTimeout != 0 {
		connect = o.connectTimeout
	}
	argv = append(argv, fmt.Sprintf("-oConnectTimeout=%d", int((connect+time.Second-1)/time.Second)))
	if dir, ok := socketDir(); ok {
		argv = append(argv, "-oControlMaster=auto", "-oControlPersist="+persist, "-oControlPath="+dir+"/%C")
	}
	return sshclient.Client{
		Program: argv, Env: program.Environ(nil),
		Connect: connect + handshakeExtra, MaxOutput: maxOutput, Sudo: o.sudo,
	}
}

// socketDir is the directory of the control sockets, which only we may use:
// who can speak through one is logged in. Where there is none that is short
// enough, each call makes a connection of its own.
func socketDir() (string, bool) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", false
	}
	dir := filepath.Join(cache, "transferpy", "ssh")
	if len(dir) > maxSocketDir || os.MkdirAll(dir, 0o700) != nil {
		return "", false
	}
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return "", false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return dir, ok && int(owner.Uid) == os.Getuid()
}

// runSystem is Run by the installed ssh.
func (e *executor) runSystem(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) {
	client := e.opts.system()
	sdk.EachHost(ctx, hosts, systemAtOnce, func(ctx context.Context, host string) sdk.Result {
		return client.Run(ctx, host, cmd)
	}, emit)
}

// putSystem is Put by the installed ssh.
func (e *executor) putSystem(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) {
	client := e.opts.system()
	sdk.EachHost(ctx, hosts, systemAtOnce, func(ctx context.Context, host string) sdk.Result {
		return client.Put(ctx, host, file, maxWait)
	}, emit)
}

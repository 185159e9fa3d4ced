package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/transferpy/transferpy/sdk"
)

// handshakeExtra is what key exchange and login may take beyond the connect
// timeout: directories that a host asks about users can be slow.
const handshakeExtra = 10 * time.Second

// handshake makes an SSH connection of a network connection, which it closes
// when it fails.
func handshake(ctx context.Context, nc net.Conn, s *settings, known *knownHosts) (*ssh.Client, *sdk.Error) {
	deadline := time.Now().Add(s.connectTimeout + handshakeExtra)
	keys, failure := newHostKeys(s, known)
	if failure != nil {
		nc.Close()
		return nil, failure
	}
	ring := newKeyring(s, deadline)
	defer ring.close()

	// A channel of a jump host takes no deadline: closing it does the same.
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	stop := context.AfterFunc(limited, func() { nc.Close() })
	defer stop()

	address := net.JoinHostPort(s.hostName, strconv.Itoa(s.port))
	supported := ssh.SupportedAlgorithms()
	conn, chans, reqs, err := ssh.NewClientConn(nc, address, &ssh.ClientConfig{
		Config: ssh.Config{
			Ciphers:      common(s.ciphers, supported.Ciphers),
			KeyExchanges: common(s.kexAlgorithms, supported.KeyExchanges),
			MACs:         common(s.macs, supported.MACs),
		},
		User:              s.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(ring.signers...)},
		HostKeyCallback:   keys.check,
		HostKeyAlgorithms: keys.algorithms(),
	})
	if err == nil {
		return ssh.NewClient(conn, chans, reqs), nil
	}
	nc.Close()
	switch {
	case keys.err != nil:
		return nil, keys.err
	case limited.Err() != nil:
		return nil, &sdk.Error{
			Kind:    sdk.KindUnreachable,
			Message: fmt.Sprintf("%s accepts connections but the SSH handshake did not end within %v", address, s.connectTimeout+handshakeExtra),
			Hint:    "is it sshd that listens there, and is the host healthy?",
		}
	case strings.Contains(err.Error(), "unable to authenticate"):
		return nil, ring.refused(err)
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return nil, &sdk.Error{
			Kind:    sdk.KindAuth,
			Message: fmt.Sprintf("%s offers no host key of a type that known_hosts has for it: %v", address, err),
			Hint:    "if the host was given new keys: ssh-keygen -R its name, then " + keys.keyscan(),
		}
	}
	return nil, &sdk.Error{Kind: sdk.KindUnreachable, Message: fmt.Sprintf("no SSH connection to %s: %v", address, err), Hint: "is it sshd that listens there?"}
}

// common are those of ssh_config's algorithms, in its order, that we have too;
// nil, which means the usual ones, where it names none or none of ours.
func common(wanted, have []string) []string {
	var both []string
	for _, a := range wanted {
		if slices.Contains(have, a) {
			both = append(both, a)
		}
	}
	return both
}

// dialTCP connects to the host itself.
func dialTCP(ctx context.Context, s *settings) (net.Conn, *sdk.Error) {
	address := net.JoinHostPort(s.hostName, strconv.Itoa(s.port))
	dialer := &net.Dialer{Timeout: s.connectTimeout, KeepAlive: 15 * time.Second}
	if s.bindAddress != "" {
		ip := net.ParseIP(s.bindAddress)
		if ip == nil {
			return nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("BindAddress %s is no address", s.bindAddress), Hint: "write an address in ssh_config, or use -o ssh.client=system"}
		}
		dialer.LocalAddr = &net.TCPAddr{IP: ip}
	}
	nc, err := dialer.DialContext(ctx, s.network, address)
	if err != nil {
		return nil, unreachable(address, s.connectTimeout, err)
	}
	return nc, nil
}

// dialThrough connects to the host from a jump host.
func dialThrough(ctx context.Context, jump *ssh.Client, s *settings) (net.Conn, *sdk.Error) {
	ctx, cancel := context.WithTimeout(ctx, s.connectTimeout)
	defer cancel()
	address := net.JoinHostPort(s.hostName, strconv.Itoa(s.port))
	nc, err := jump.DialContext(ctx, "tcp", address)
	if err != nil {
		e := unreachable(address, s.connectTimeout, err)
		e.Message += " (from its jump host)"
		return nil, e
	}
	return nc, nil
}

// unreachable says why there is no connection, and what to look at.
func unreachable(address string, limit time.Duration, err error) *sdk.Error {
	e := &sdk.Error{Kind: sdk.KindUnreachable, Message: fmt.Sprintf("cannot connect to %s: %v", address, err)}
	var dns *net.DNSError
	var refusal *ssh.OpenChannelError
	switch {
	case errors.As(err, &dns):
		e.Message = fmt.Sprintf("the name in %s cannot be resolved: %s", address, dns.Err)
		e.Hint = "check the spelling, or HostName in ssh_config"
	case errors.As(err, &refusal):
		e.Message = fmt.Sprintf("cannot connect to %s: %s", address, strings.TrimSpace(refusal.Message))
		e.Hint = "check AllowTcpForwarding and the way from there"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message = "connection refused by " + address
		e.Hint = "is sshd running there, on that port?"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		e.Message = "no route to " + address
		e.Hint = "is the host up, and its network reachable from here?"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		e.Message = fmt.Sprintf("%s did not answer within %v", address, limit)
		e.Hint = "is the host up, and its port open to this machine?"
	}
	return e
}

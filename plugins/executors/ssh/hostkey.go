package ssh

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/transferpy/transferpy/sdk"
)

// hostKeys checks a server's key against the known_hosts files of its
// settings.
type hostKeys struct {
	s      *settings
	db     *knownhosts.HostKeyDB
	lookup string     // host:port as known_hosts knows it
	err    *sdk.Error // why check refused; the handshake's own error loses the kind
}

func newHostKeys(s *settings, known *knownHosts) (*hostKeys, *sdk.Error) {
	db, err := known.load(s.knownHosts)
	if err != nil {
		return nil, err
	}
	k := &hostKeys{s: s, db: db, lookup: net.JoinHostPort(s.hostName, strconv.Itoa(s.port))}
	if s.hostKeyAlias != "" {
		k.lookup = net.JoinHostPort(s.hostKeyAlias, "22") // an alias stands without a port
	}
	return k, nil
}

// algorithms returns what to ask the server for: the types of the keys that
// are known, or else it might show another key of its own and look changed.
func (k *hostKeys) algorithms() []string {
	known := k.db.HostKeyAlgorithms(k.lookup)
	if len(known) == 0 {
		known = ssh.SupportedAlgorithms().HostKeys
	}
	var wanted []string
	for _, a := range k.s.hostKeyAlgorithms { // in the order of ssh_config
		if slices.Contains(known, a) {
			wanted = append(wanted, a)
		}
	}
	if len(wanted) == 0 {
		return known
	}
	return wanted
}

// check is the ssh.HostKeyCallback.
func (k *hostKeys) check(_ string, remote net.Addr, key ssh.PublicKey) error {
	err := k.db.HostKeyCallback()(k.lookup, remote, key)
	if err == nil {
		return nil
	}
	if knownhosts.IsHostUnknown(err) && k.s.strictHostKeys != "yes" {
		if k.err = k.accept(key); k.err == nil {
			return nil
		}
		return k.err
	}
	k.err = k.explain(err, key)
	return k.err
}

// accept writes down a key that ssh_config asked to accept, and says so.
func (k *hostKeys) accept(key ssh.PublicKey) *sdk.Error {
	slog.Warn(fmt.Sprintf("%s: accepted the unknown host key %s, since StrictHostKeyChecking is %s", k.s.host, fingerprint(key), k.s.strictHostKeys))
	if len(k.s.knownHosts) == 0 {
		return nil
	}
	file := k.s.knownHosts[0]
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteString(knownhosts.Line([]string{k.lookup}, key) + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return &sdk.Error{Kind: sdk.KindAuth, Message: "the host key is accepted by ssh_config but cannot be written down: " + err.Error(), Hint: "mend the rights of " + file}
	}
	return nil
}

// explain turns a refusal into what the operator can do about it.
func (k *hostKeys) explain(err error, key ssh.PublicKey) *sdk.Error {
	file := "~/.ssh/known_hosts"
	if len(k.s.knownHosts) > 0 {
		file = k.s.knownHosts[0]
	}
	name := knownhosts.Normalize(k.lookup)
	var revoked *xknownhosts.RevokedError
	var keyErr *xknownhosts.KeyError
	switch {
	case errors.As(err, &revoked):
		return &sdk.Error{
			Kind:    sdk.KindAuth,
			Message: fmt.Sprintf("the host key %s is marked as revoked in %s:%d", fingerprint(key), revoked.Revoked.Filename, revoked.Revoked.Line),
			Hint:    "do not connect before its owner has explained it",
		}
	case knownhosts.IsHostUnknown(err):
		return &sdk.Error{
			Kind:    sdk.KindAuth,
			Message: fmt.Sprintf("the host key of %s is not known: it showed %s", name, fingerprint(key)),
			Hint: fmt.Sprintf("compare that fingerprint with the host's own, then: %s >> %s",
				k.keyscan(), file),
		}
	case errors.As(err, &keyErr):
		place := keyErr.Want[0]
		return &sdk.Error{
			Kind: sdk.KindAuth,
			Message: fmt.Sprintf("the host key of %s has changed: it showed %s, but %s:%d has %s",
				name, fingerprint(key), place.Filename, place.Line, ssh.FingerprintSHA256(place.Key)),
			Hint: fmt.Sprintf("somebody may be in between; only if the host was set up anew: ssh-keygen -R '%s' -f %s, then %s >> %s",
				name, place.Filename, k.keyscan(), file),
		}
	}
	return &sdk.Error{Kind: sdk.KindAuth, Message: "the host key of " + name + " was refused: " + err.Error()}
}

// keyscan returns the command that prints the host's keys in the form of
// known_hosts, under the name that is looked up.
func (k *hostKeys) keyscan() string {
	b := strings.Builder{}
	b.WriteString("ssh-keyscan")
	if k.s.port != 22 {
		fmt.Fprintf(&b, " -p %d", k.s.port)
	}
	b.WriteString(" " + k.s.hostName)
	if k.s.hostKeyAlias != "" {
		fmt.Fprintf(&b, " | sed 's/^[^ ]*/%s/'", k.s.hostKeyAlias)
	}
	return b.String()
}

func fingerprint(key ssh.PublicKey) string { return key.Type() + " " + ssh.FingerprintSHA256(key) }

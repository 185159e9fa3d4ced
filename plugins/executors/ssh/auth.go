package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/transferpy/transferpy/sdk"
)

// maxKeyFile bounds what is read as a key.
const maxKeyFile = 1 << 20

// keyring is what a host is shown of us, and what could not be shown.
type keyring struct {
	s       *settings
	agent   net.Conn // must stay open while signers are used; nil: none
	signers []ssh.Signer
	notes   []string // keys that could not be used, each with what to do
}

// newKeyring collects keys in the order of ssh: certificates, the agent's keys
// that match an identity file, the agent's others (unless IdentitiesOnly), then
// the files that no agent holds.
func newKeyring(s *settings, deadline time.Time) *keyring {
	k := &keyring{s: s}
	held := k.askAgent(deadline)
	used := make(map[string]bool)
	var files []ssh.Signer
	for _, path := range s.identityFiles {
		signer, public := k.readIdentity(path)
		if public == nil && signer != nil {
			public = signer.PublicKey()
		}
		if public == nil {
			continue
		}
		blob := string(public.Marshal())
		switch fromAgent := held[blob]; {
		case used[blob]:
		case fromAgent != nil:
			k.signers = append(k.signers, fromAgent)
			used[blob] = true
		case signer != nil:
			files = append(files, signer)
			used[blob] = true
		default:
			k.note("the key %s has a passphrase and no agent holds it: ssh-add %s", path, path)
		}
	}
	if !s.identitiesOnly {
		for blob, signer := range held {
			if !used[blob] {
				k.signers = append(k.signers, signer)
			}
		}
	}
	k.signers = append(k.signers, files...)
	k.certify()
	k.accept()
	return k
}

func (k *keyring) note(format string, args ...any) {
	k.notes = append(k.notes, fmt.Sprintf(format, args...))
}

// askAgent returns the agent's keys by their public half.
func (k *keyring) askAgent(deadline time.Time) map[string]ssh.Signer {
	if k.s.identityAgent == "" {
		return nil
	}
	conn, err := (&net.Dialer{Deadline: deadline}).Dial("unix", k.s.identityAgent)
	if err != nil {
		k.note("the agent does not answer: %v", err)
		return nil
	}
	conn.SetDeadline(deadline)
	k.agent = conn
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		k.note("the agent lists no keys: %v", err)
		return nil
	}
	held := make(map[string]ssh.Signer, len(signers))
	for _, signer := range signers {
		held[string(signer.PublicKey().Marshal())] = signer
	}
	return held
}

// readIdentity reads a key file. A key with a passphrase has a public half
// and no signer; a file that does not exist has neither, and is no fault: the
// default list names many.
func (k *keyring) readIdentity(path string) (ssh.Signer, ssh.PublicKey) {
	data, err := readLimited(path, maxKeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, readPublic(path) // the private half may be in the agent alone
	case err != nil:
		k.note("the key %s cannot be read: %v", path, err)
		return nil, nil
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err == nil {
		return signer, signer.PublicKey()
	}
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if locked.PublicKey != nil {
			return nil, locked.PublicKey
		}
		if public := readPublic(path); public != nil {
			return nil, public
		}
		k.note("the key %s has a passphrase: ssh-add %s", path, path)
		return nil, nil
	}
	if public, _, _, _, perr := ssh.ParseAuthorizedKey(data); perr == nil {
		return nil, public // IdentityFile may name the public half
	}
	k.note("the key %s is not understood: %v", path, err)
	return nil, nil
}

func readPublic(path string) ssh.PublicKey {
	data, err := readLimited(path+".pub", maxKeyFile)
	if err != nil {
		return nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(bytes.TrimSpace(data))
	if err != nil {
		return nil
	}
	return public
}

func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("no regular file of at most %d bytes", limit)
	}
	return os.ReadFile(path)
}

func (k *keyring) close() {
	if k.agent != nil {
		k.agent.Close()
	}
}

// refused says why the host did not let us in.
func (k *keyring) refused(cause error) *sdk.Error {
	e := &sdk.Error{
		Kind:    sdk.KindAuth,
		Message: fmt.Sprintf("login as %s was refused with %d keys offered: %v", k.s.user, len(k.signers), cause),
		Hint:    fmt.Sprintf("check that `ssh -o BatchMode=yes %s true` works", k.s.host),
	}
	if len(k.notes) > 0 {
		e.Message += "; " + strings.Join(k.notes, "; ")
	}
	return e
}

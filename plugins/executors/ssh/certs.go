package ssh

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/crypto/ssh"
)

// certify puts in front of the keys, for each certificate of ssh_config whose
// private key is among them, the key with the certificate: those that
// CertificateFile names, and IDENTITY-cert.pub beside each identity.
func (k *keyring) certify() {
	var certified []ssh.Signer
	offered := map[string]bool{}
	for _, cert := range k.certificates() {
		i := slices.IndexFunc(k.signers, func(s ssh.Signer) bool {
			return bytes.Equal(s.PublicKey().Marshal(), cert.Key.Marshal())
		})
		if i < 0 || offered[string(cert.Marshal())] {
			continue
		}
		signer, err := ssh.NewCertSigner(cert, k.signers[i])
		if err != nil {
			k.note("the certificate of %s cannot be used: %v", cert.KeyId, err)
			continue
		}
		offered[string(cert.Marshal())] = true
		certified = append(certified, signer)
	}
	k.signers = append(certified, k.signers...)
}

// certificates reads the files that may hold some.
func (k *keyring) certificates() []*ssh.Certificate {
	var certs []*ssh.Certificate
	read := func(path string, named bool) {
		data, err := readLimited(path, maxKeyFile)
		if err != nil {
			if named || !errors.Is(err, fs.ErrNotExist) {
				k.note("the certificate %s cannot be read: %v", path, err)
			}
			return
		}
		public, _, _, _, err := ssh.ParseAuthorizedKey(bytes.TrimSpace(data))
		if cert, ok := public.(*ssh.Certificate); ok && err == nil && cert.CertType == ssh.UserCert {
			certs = append(certs, cert)
			return
		}
		k.note("%s holds no user certificate", path)
	}
	for _, path := range k.s.certificateFiles {
		read(path, true)
	}
	for _, path := range k.s.identityFiles {
		read(path+"-cert.pub", false)
	}
	return certs
}

// accept leaves of the keys those that PubkeyAcceptedAlgorithms allows.
func (k *keyring) accept() {
	if len(k.s.pubkeyAlgorithms) == 0 {
		return
	}
	var allowed []ssh.Signer
	for _, s := range k.signers {
		if s = restrict(s, k.s.pubkeyAlgorithms); s != nil {
			allowed = append(allowed, s)
		}
	}
	if n := len(k.signers) - len(allowed); n > 0 {
		k.note("%d keys are of types that PubkeyAcceptedAlgorithms leaves out", n)
	}
	k.signers = allowed
}

// restrict has a key sign by the allowed algorithms alone; nil if none is.
func restrict(s ssh.Signer, allowed []string) ssh.Signer {
	kind := s.PublicKey().Type()
	algorithms := []string{kind}
	switch kind {
	case ssh.KeyAlgoRSA:
		algorithms = []string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512}
	case ssh.CertAlgoRSAv01:
		algorithms = []string{ssh.CertAlgoRSASHA256v01, ssh.CertAlgoRSASHA512v01}
	}
	kept := slices.DeleteFunc(slices.Clone(algorithms), func(a string) bool { return !slices.Contains(allowed, a) })
	if len(kept) == 0 {
		return nil
	}
	if signer, ok := s.(ssh.AlgorithmSigner); ok && kind == ssh.KeyAlgoRSA && len(kept) < len(algorithms) {
		if limited, err := ssh.NewSignerWithAlgorithms(signer, kept); err == nil {
			return limited
		}
		return nil
	}
	return s
}

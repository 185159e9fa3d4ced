// Package link is one hop of the data plane: it makes keys, dials, accepts
// and proves a connection between two members, and guards it with deadlines
// and heartbeats. It knows nothing of what is sent.
package link

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

// Identity is an agent's key pairs for one transfer: one for TLS, one for
// signing segments. They are made in memory and never leave it.
type Identity struct {
	cert        tls.Certificate
	signing     ed25519.PrivateKey
	fingerprint string
}

// NewIdentity makes fresh key pairs.
func NewIdentity() (*Identity, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the TLS key: %w", err)
	}
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the signing key: %w", err)
	}
	// Peers pin the key and look at nothing else; the fixed times only make
	// the certificate well-formed, whatever the clocks say.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Unix(1<<33, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	return &Identity{
		cert:        tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf},
		signing:     signing,
		fingerprint: fingerprint(leaf),
	}, nil
}

// Fingerprint is the hex SHA-256 of the TLS key's SubjectPublicKeyInfo, by
// which peers pin this agent.
func (id *Identity) Fingerprint() string { return id.fingerprint }

// SigningKey is the Ed25519 public key that checks this agent's segments.
func (id *Identity) SigningKey() ed25519.PublicKey {
	return id.signing.Public().(ed25519.PublicKey)
}

// Sign signs a segment's digest.
func (id *Identity) Sign(message []byte) []byte { return ed25519.Sign(id.signing, message) }

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

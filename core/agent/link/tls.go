package link

import (
	"crypto/tls"
	"errors"
	"fmt"
)

const alpn = "transferpy/1"

// config is the TLS configuration of both sides: 1.3 only, both show their
// certificates, only the pinned keys count, nothing is remembered between
// connections.
func (id *Identity) config(allowed func(fingerprint string) bool) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{id.cert},
		NextProtos:             []string{alpn},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		// Full records from the first on: nobody waits for the first byte.
		DynamicRecordSizingDisabled: true,
		// The chain and the name mean nothing here: the key is compared with
		// the one that the controller told us.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 || s.DidResume || s.NegotiatedProtocol != alpn {
				return errors.New("not an agent of this transfer")
			}
			if got := fingerprint(s.PeerCertificates[0]); !allowed(got) {
				return fmt.Errorf("key %.16s… is not one of this transfer", got)
			}
			return nil
		},
	}
}

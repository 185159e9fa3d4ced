package link

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// Outcome is what came of dialling one address, as far as it tells whether a
// packet filter may stand before it.
type Outcome string

// The outcomes.
const (
	OutcomeTimeout   Outcome = "timeout"   // nothing came back
	OutcomeRefused   Outcome = "refused"   // a reset, or ICMP that means the same to the kernel
	OutcomeNoRoute   Outcome = "no-route"  // the kernel knows no way, or ICMP said so
	OutcomeConnected Outcome = "connected" // TCP had connected: the port is open, whatever came then
	OutcomeOther     Outcome = "other"     // the address could not be tried at all
)

// Attempt is one address that was tried and did not prove to be the peer.
type Attempt struct {
	Address string // host:port, a literal
	Local   string // the address that this host's kernel picks towards it; empty: none
	Outcome Outcome
}

// Closed reports whether a round of attempts shows a closed port: none of them
// has connected, and at least one has met what a filter may have done.
func Closed(round []Attempt) bool {
	closed := false
	for _, a := range round {
		switch a.Outcome {
		case OutcomeConnected:
			return false
		case OutcomeTimeout, OutcomeRefused, OutcomeNoRoute:
			closed = true
		}
	}
	return closed
}

// outcome reads the error of try. All that fails after TCP has connected is
// no error of a dial.
func outcome(err error) Outcome {
	var silent *silentError
	var op *net.OpError
	switch {
	case errors.As(err, &silent), !errors.As(err, &op), op.Op != "dial":
		return OutcomeConnected
	case errors.Is(err, context.Canceled):
		return OutcomeOther
	case errors.Is(err, syscall.ECONNREFUSED):
		return OutcomeRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return OutcomeNoRoute
	case op.Timeout():
		return OutcomeTimeout
	}
	return OutcomeOther
}

// Local returns the address that this host's kernel picks to reach a host:port
// by; empty where it knows no way. No packet is sent.
func Local(address string) string {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("").String()
	}
	return ""
}

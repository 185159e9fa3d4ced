package link

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reach is what is known of a peer's whereabouts.
type Reach struct {
	Host        string   // the operator's name
	DataAddress string   // configured; tried first
	Addresses   []string // what the peer says of itself
	Port        int
	SameHost    bool     // same boot id and network namespace as the dialler
	Networks    []string // CIDR; where set, only addresses within count
}

const resolveTimeout = 2 * time.Second

// Candidates returns the addresses to be dialled, best first: the configured
// one; those in the data network (only these, where one is set); what the
// operator's name resolves to here; the rest. An address that this host owns
// itself is left out, unless the peer is on this very host: then loopback
// comes first.
func Candidates(ctx context.Context, r Reach) []string {
	var list []netip.Addr
	add := func(texts ...string) {
		for _, t := range texts {
			if a, err := netip.ParseAddr(t); err == nil {
				list = append(list, a.Unmap())
			}
		}
	}
	if r.SameHost {
		add("127.0.0.1", "::1")
	}
	add(r.DataAddress)
	if nets := prefixes(r.Networks); len(nets) > 0 {
		for _, t := range r.Addresses {
			if a, err := netip.ParseAddr(t); err == nil && within(nets, a.Unmap()) {
				list = append(list, a.Unmap())
			}
		}
	} else {
		if !r.SameHost { // loopback will do; a slow resolver would cost time for nothing
			ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
			defer cancel()
			if names, err := net.DefaultResolver.LookupHost(ctx, r.Host[strings.LastIndexByte(r.Host, '@')+1:]); err == nil { // without a user
				add(names...)
			}
		}
		add(r.Addresses...)
	}
	own := ownAddresses()
	var out []string
	for _, a := range list {
		if !r.SameHost && (a.IsLoopback() || own[a.WithZone("")]) {
			continue
		}
		hostport := net.JoinHostPort(a.String(), strconv.Itoa(r.Port))
		if !slices.Contains(out, hostport) {
			out = append(out, hostport)
		}
	}
	return out
}

func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func within(nets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ownAddresses are the addresses of this host's interfaces.
func ownAddresses() map[netip.Addr]bool {
	own := make(map[netip.Addr]bool)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return own
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	return own
}

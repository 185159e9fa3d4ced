package netfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// maxSources bounds the addresses of one hole: a source and two predecessors
// have a few each.
const maxSources = 256

// LastExpiry is the latest expiry of a rule: what iptables keeps as a time
// ends here.
var LastExpiry = time.Unix(1<<31-1, 0)

// Hole is an sdk.Hole that was checked: nothing in it needs quoting.
type Hole struct {
	Port    int
	Sources []netip.Addr // unmapped, without zone, sorted, each once
	Expiry  time.Time    // to the second, at most LastExpiry
}

// Of gives the sources of one family.
func (h Hole) Of(v6 bool) []netip.Addr {
	var list []netip.Addr
	for _, a := range h.Sources {
		if a.Is6() == v6 {
			list = append(list, a)
		}
	}
	return list
}

// HostHoles are the holes in one host, by port.
type HostHoles struct {
	Host  string
	Holes []Hole
}

// Ports are the holes' ports.
func (h HostHoles) Ports() []int {
	ports := make([]int, len(h.Holes))
	for i, hole := range h.Holes {
		ports[i] = hole.Port
	}
	return ports
}

// Check checks an id and holes and sorts them by host, in the order of their
// first hole. Holes of one port become one, with all sources and the latest
// expiry.
func Check(id string, holes []sdk.Hole) ([]HostHoles, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	var hosts []HostHoles
	for _, h := range holes {
		hole, err := checkHole(h)
		if err != nil {
			return nil, &sdk.Error{Kind: sdk.KindConfig, Host: h.Host, Message: "this hole cannot be opened: " + err.Error()}
		}
		i := slices.IndexFunc(hosts, func(o HostHoles) bool { return o.Host == h.Host })
		if i < 0 {
			i = len(hosts)
			hosts = append(hosts, HostHoles{Host: h.Host})
		}
		hosts[i].add(hole)
	}
	return hosts, nil
}

// CheckID refuses what cannot be a transfer's id.
func CheckID(id string) error {
	if !idForm.MatchString(id) {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%.80q is no transfer's id", id)}
	}
	return nil
}

func (h *HostHoles) add(hole Hole) {
	for i := range h.Holes {
		if old := &h.Holes[i]; old.Port == hole.Port {
			old.Sources = unique(append(old.Sources, hole.Sources...))
			if hole.Expiry.After(old.Expiry) {
				old.Expiry = hole.Expiry
			}
			return
		}
	}
	h.Holes = append(h.Holes, hole)
	slices.SortFunc(h.Holes, func(a, b Hole) int { return a.Port - b.Port })
}

func checkHole(h sdk.Hole) (Hole, error) {
	switch {
	case h.Port < 1 || h.Port > 65535:
		return Hole{}, fmt.Errorf("%d is no port", h.Port)
	case h.Expiry.Unix() <= 0:
		return Hole{}, fmt.Errorf("port %d has no expiry", h.Port)
	case len(h.Sources) > maxSources:
		return Hole{}, fmt.Errorf("%d source addresses for port %d; %d are the most", len(h.Sources), h.Port, maxSources)
	}
	hole := Hole{Port: h.Port, Expiry: h.Expiry.Truncate(time.Second)}
	if hole.Expiry.After(LastExpiry) {
		hole.Expiry = LastExpiry
	}
	for _, s := range h.Sources {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return Hole{}, fmt.Errorf("the source %.80q is no address", s)
		}
		a = a.Unmap().WithZone("")
		if a.IsUnspecified() || a.IsMulticast() {
			return Hole{}, fmt.Errorf("the source %s is not the address of one host", a)
		}
		hole.Sources = append(hole.Sources, a)
	}
	hole.Sources = unique(hole.Sources)
	return hole, nil
}

func unique(list []netip.Addr) []netip.Addr {
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

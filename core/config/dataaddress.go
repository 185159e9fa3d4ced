package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/transferpy/transferpy/core/transfer"
)

// addresses reads data_address: HOST=ADDRESS, one or several.
func (v *values) addresses() map[string]string {
	by := map[string]string{}
	for _, text := range splitList(v.list("data_address")) {
		host, address, err := parseDataAddress(text)
		if _, twice := by[host]; err == nil && twice {
			err = fmt.Errorf("host %s has two addresses", show(host))
		}
		if err != nil {
			v.fail(v.get("data_address"), err)
			continue
		}
		by[host] = address
	}
	return by
}

func parseDataAddress(text string) (host, address string, err error) {
	host, address, ok := strings.Cut(text, "=")
	host, address = strings.TrimFunc(host, isSpace), strings.TrimFunc(address, isSpace)
	addr, bad := netip.ParseAddr(address)
	if !ok || bad != nil {
		return "", "", fmt.Errorf("%q is not of the form HOST=ADDRESS; write for example db1=10.64.0.1", text)
	}
	if host, err = ParseHost(host); err != nil {
		return "", "", err
	}
	return host, addr.Unmap().String(), nil
}

// ofHosts picks what belongs to a transfer's hosts; a user before a host's name
// makes it no other host.
func ofHosts(by map[string]string, ends []transfer.Endpoint) map[string]string {
	var mine map[string]string
	for _, e := range ends {
		value, ok := by[e.Host]
		if !ok {
			value, ok = by[withoutUser(e.Host)]
		}
		if ok {
			if mine == nil {
				mine = map[string]string{}
			}
			mine[e.Host] = value
		}
	}
	return mine
}

// DataAddress is the configured address at which an end is dialled first;
// empty: none.
func (s *Settings) DataAddress(end transfer.Endpoint) string {
	return ofHosts(s.addresses, []transfer.Endpoint{end})[end.Host]
}

package config

import (
	"fmt"
	"strings"
)

// firewalls reads host_firewall: HOST=NAME, one or several. What the command
// line says decides for all hosts.
func (v *values) firewalls() map[string]string {
	by := map[string]string{}
	for _, text := range splitList(v.list("host_firewall")) {
		host, name, err := parseHostFirewall(text)
		if _, twice := by[host]; err == nil && twice {
			err = fmt.Errorf("host %s has two firewalls", show(host))
		}
		if err != nil {
			v.fail(v.get("host_firewall"), err)
			continue
		}
		by[host] = name
	}
	if v.byFlag("firewall") {
		return nil
	}
	return by
}

func parseHostFirewall(text string) (host, name string, err error) {
	host, name, ok := strings.Cut(text, "=")
	if !ok {
		return "", "", fmt.Errorf("%q is not of the form HOST=NAME; write for example db1=nftables", text)
	}
	if host, err = ParseHost(strings.TrimFunc(host, isSpace)); err != nil {
		return "", "", err
	}
	name, err = parseName(strings.TrimFunc(name, isSpace))
	return host, name, err
}

package config

import (
	"reflect"
	"testing"
)

// TestHostFirewalls: the file decides for single hosts, the command line for
// all.
func TestHostFirewalls(t *testing.T) {
	const file = "[DEFAULT]\nfirewall = iptables\nhost_firewall = db2=nftables, db3 = none\n  db9=auto\n[firewall site]\nkey = value\n"
	for _, c := range []struct {
		flags   Flags
		all     string
		hosts   map[string]string
		plugins []string
	}{
		{nil, "iptables", map[string]string{"root@db2": "nftables", "db3": "none"}, []string{"iptables", "nftables"}},
		{Flags{"firewall": {"auto"}}, "auto", nil, []string{"alpha", "site"}},
		{Flags{"firewall": {"none"}}, "none", nil, nil},
	} {
		s, err := resolve(t, c.flags, nil, file)
		if err == nil {
			err = s.Operands([]string{"db9:/a", "root@db2:/b", "db3:/b", "db4:/b"})
		}
		if err != nil {
			t.Fatal(err)
		}
		if r := s.Request; r.Firewall != c.all || !reflect.DeepEqual(r.HostFirewalls, c.hosts) {
			t.Errorf("%v: %s, %v", c.flags, r.Firewall, r.HostFirewalls)
		}
		if got := s.Request.FirewallPlugins([]string{"alpha", "site"}); !reflect.DeepEqual(got, c.plugins) {
			t.Errorf("%v: needs %q, want %q", c.flags, got, c.plugins)
		}
		if _, kept := s.Request.PluginConfig["firewall/site"]; kept != (c.all == "auto") {
			t.Errorf("%v: keeps %v", c.flags, s.Request.PluginConfig)
		}
	}
}

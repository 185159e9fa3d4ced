package firewalls

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// cases are rulesets, and which of the firewalls has to open a hole there.
var cases = []struct {
	name  string
	setup string
	opens string   // the firewalls, with a blank between
	words []string // that Detect says
}{
	{"nothing filters", `true`, "", nil},
	{"iptables, a final DROP rule", `for i in iptables ip6tables; do
		$i -A INPUT -i lo -j ACCEPT
		$i -A INPUT -p tcp --dport 22 -j ACCEPT
		$i -A INPUT -p ipv6-icmp -j ACCEPT
		$i -A INPUT -m comment --comment 'all "others' -j DROP; done`,
		"iptables", []string{"iptables-nft: filter INPUT", "ip6tables-nft: filter INPUT", "-j DROP"}},
	{"iptables, policy DROP", `for i in iptables ip6tables; do $i -A INPUT -p ipv6-icmp -j ACCEPT; $i -P INPUT DROP; done`,
		"iptables", []string{"policy drop"}},
	{"iptables, a REJECT rule", `iptables -A INPUT -p tcp -j REJECT; ip6tables -A INPUT -p tcp -j REJECT --reject-with tcp-reset`,
		"iptables", []string{"REJECT"}},
	{"iptables, a chain that is called", `for i in iptables ip6tables; do
		$i -N site; $i -N last; $i -A last -p tcp -j DROP; $i -A site -p tcp -g last; $i -A INPUT -j site; done`,
		"iptables", []string{"in last"}},
	{"iptables, table mangle", `for i in iptables ip6tables; do $i -t mangle -A INPUT -p tcp --dport 4400 -j DROP; $i -A INPUT -p tcp -j DROP; done`,
		"iptables", []string{"mangle INPUT", "filter INPUT"}},
	{"iptables-legacy", `for i in iptables-legacy ip6tables-legacy; do $i -A INPUT -p ipv6-icmp -j ACCEPT; $i -P INPUT DROP; done`,
		"iptables", []string{"iptables-legacy: filter INPUT: policy drop"}},
	{"iptables of both kinds", `for i in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do
		$i -A INPUT -p ipv6-icmp -j ACCEPT; $i -A INPUT -j DROP; done`,
		"iptables", []string{"iptables-legacy: filter INPUT", "iptables-nft: filter INPUT"}},
	{"ufw", `ufw default deny incoming >/dev/null; ufw allow 22/tcp >/dev/null; ufw --force enable >/dev/null`,
		"iptables", []string{"set up by ufw"}},
	{"nftables, policy drop", `nft -f - <<-END
		table inet base {
			chain input {
				type filter hook input priority filter; policy drop;
				ct state vmap { established : accept, related : accept, invalid : drop }
				iifname lo accept
				meta l4proto ipv6-icmp accept
				tcp dport { 22, 80 } accept comment "a # handle 7"
			}
		}
		END`, "nftables", []string{"inet base input: policy drop"}},
	{"nftables, a final drop rule", `nft -f - <<-END
		table inet base {
			chain input {
				type filter hook input priority filter; policy accept;
				meta l4proto ipv6-icmp accept
				tcp dport 22 accept
				counter log prefix "jump transferpy-x-1 " drop
			}
		}
		END`, "nftables", []string{"drop"}},
	{"nftables, a reject rule in a chain that is called", `nft -f - <<-END
		table inet base {
			chain last {
				meta l4proto tcp reject with tcp reset
			}
			chain input {
				type filter hook input priority filter; policy accept;
				jump last
			}
		}
		END`, "nftables", []string{"in last"}},
	{"nftables, several base chains", `nft -f - <<-END
		table inet base {
			chain early {
				type filter hook input priority -10; policy accept;
				tcp dport 4000-5000 drop
			}
			chain input {
				type filter hook input priority filter; policy drop;
				meta l4proto ipv6-icmp accept
			}
		}
		table ip old {
			chain in {
				type filter hook input priority 5; policy drop;
			}
		}
		table ip6 old {
			chain in {
				type filter hook input priority 6; policy accept;
				tcp dport vmap { 22 : accept, 4400 : drop }
			}
		}
		END`, "nftables", []string{"inet base early", "inet base input", "ip old in", "ip6 old in"}},
	{"nftables as firewalld has it", `nft -f - <<-END
		table inet firewalld {
			chain filter_INPUT {
				type filter hook input priority 10; policy accept;
				ct state { established, related } accept
				iifname lo accept
				ct state invalid drop
				jump filter_INPUT_ZONES
				reject with icmpx admin-prohibited
			}
			chain filter_INPUT_ZONES {
				tcp dport 22 accept
				meta l4proto ipv6-icmp accept
			}
		}
		END`, "nftables", []string{"set up by firewalld", "reject with icmpx"}},
	{"nftables in tables that iptables cannot read", `nft -f - <<-END
		table ip filter {
			chain INPUT {
				type filter hook input priority filter; policy drop;
				meta time > 1700000000 tcp dport { 22, 80 } accept
			}
		}
		table ip6 filter {
			chain INPUT {
				type filter hook input priority filter; policy drop;
				meta l4proto ipv6-icmp accept
				meta time > 1700000000 tcp dport { 22, 80 } accept
			}
		}
		END`, "nftables", []string{"ip filter INPUT", "ip6 filter INPUT"}},
	{"nftables in the table of iptables", `for i in ip ip6; do
			${i}tables -A INPUT -p tcp --dport 22 -j ACCEPT
			nft add chain $i filter mine '{ type filter hook input priority 1; policy accept; }'
			nft add rule $i filter mine meta l4proto tcp counter drop
		done`, "nftables", []string{"ip filter mine"}},
	{"iptables and nftables", `iptables -A INPUT -p tcp -j DROP; ip6tables -A INPUT -p tcp -j DROP
		nft add table inet base
		nft add chain inet base input '{ type filter hook input priority 0; policy drop; }'
		nft add rule inet base input meta l4proto ipv6-icmp accept`,
		"iptables nftables", []string{"inet base input: policy drop", "iptables-nft: filter INPUT"}},
}

// TestOpen opens the peer's hole in every ruleset with the firewalls that
// Detect names, and takes it back by Close and by the undo.
func TestOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t, len(cases))
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := target(i)
			r.sh(t, to, c.setup)
			before, unreadable := r.state(t, to), r.unreadable(t, to)
			closed := c.opens == ""
			r.want(t, "before", to, closed, closed)

			host := r.control(to)
			var rules []sdk.Rule
			var said, opened []string
			firewalls := both(t)
			for _, name := range []string{"iptables", "nftables"} {
				filters, err := firewalls[name].Detect(t.Context(), []string{to}, host)
				if err != nil || len(filters) != 1 || filters[0].Err != nil {
					t.Fatalf("Detect: %+v, %v", filters, err)
				}
				said = append(said, filters[0].What)
				if !filters[0].Filters {
					continue
				}
				opened = append(opened, name)
				made, err := firewalls[name].Open(t.Context(), "20261123-210000-aaaaaaaa", []sdk.Hole{r.hole(t, to, time.Hour)}, host)
				if err != nil {
					t.Fatal(err, sdk.AsError(err).Stderr)
				}
				rules = append(rules, made...)
			}
			if got := strings.Join(opened, " "); got != c.opens {
				t.Errorf("Detect names %q, want %q: %q", got, c.opens, said)
			}
			for _, w := range c.words {
				if !strings.Contains(strings.Join(said, "; "), w) {
					t.Errorf("Detect does not say %q: %q", w, said)
				}
			}
			r.want(t, "open", to, true, closed)
			if now := r.unreadable(t, to); now != unreadable {
				t.Errorf("iptables-save cannot read what it could: %q, then %q", unreadable, now)
			}
			if t.Failed() {
				t.Logf("%+v\n%s", rules, r.state(t, to))
			}
			if closed {
				if len(rules) > 0 || r.state(t, to) != before {
					t.Errorf("something was changed where nothing filters: %+v", rules)
				}
				return
			}
			host.Undo(t, sdk.WhenEnd)
			r.want(t, "after", to, false, false)
			if after := r.state(t, to); after != before {
				t.Errorf("the undo left something behind:\n--- before\n%s\n--- after\n%s", before, after)
			}
		})
	}
}

// unreadable says which tables iptables-save cannot show.
func (r *rig) unreadable(t *testing.T, host string) string {
	t.Helper()
	return r.sh(t, host, `{ iptables-nft-save; ip6tables-nft-save; } 2>&1 | grep "is incompatible" || true`)
}

// TestOthers sees that Detect names what may drop and is not opened.
func TestOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	to := target(0)
	r.sh(t, to, `iptables -t raw -A PREROUTING -s 192.0.2.1 -j DROP
		iptables -A OUTPUT -p tcp -j REJECT
		iptables -A INPUT -p tcp -j DROP
		iptables -t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 80
		nft -f - <<-END
		table netdev edge {
			chain in {
				type filter hook ingress device eth0 priority 0; policy accept;
				ip saddr 192.0.2.2 drop
			}
		}
		table inet base {
			chain pre {
				type filter hook prerouting priority -300; policy accept;
				ip saddr 192.0.2.3 drop
			}
			chain input {
				type filter hook input priority 0; policy accept;
				ip saddr 192.0.2.4 drop
			}
			chain quiet {
				type filter hook input priority 1; policy accept;
				ct state invalid drop
				tcp dport 22 accept
			}
		}
		table inet off {
			flags dormant
			chain input {
				type filter hook input priority 2; policy drop;
			}
		}
		END`)
	firewalls := both(t)
	want := map[string][]string{ // hook, firewall, words
		"iptables": {"prerouting||raw PREROUTING", "output||filter OUTPUT", "ingress||netdev edge in", "prerouting||inet base pre", "input|nftables|inet base input"},
		"nftables": {"prerouting||raw PREROUTING", "output||filter OUTPUT", "ingress||netdev edge in", "prerouting||inet base pre", "input|iptables|filter INPUT"},
	}
	for name, barriers := range want {
		filters, err := firewalls[name].Detect(t.Context(), []string{to}, r.control(to))
		if err != nil {
			t.Fatal(err)
		}
		f := filters[0]
		if !f.Filters || len(f.Others) != len(barriers) {
			t.Errorf("%s: %+v", name, f)
		}
		for _, b := range barriers {
			words := strings.Split(b, "|")
			if !slices.ContainsFunc(f.Others, func(o sdk.Barrier) bool {
				return o.Hook == words[0] && o.Firewall == words[1] && strings.Contains(o.What, words[2])
			}) {
				t.Errorf("%s does not tell of %s: %+v", name, b, f.Others)
			}
		}
		if strings.Contains(f.What, "quiet") || strings.Contains(f.What, "off") {
			t.Errorf("%s tells of what drops no new connection: %s", name, f.What)
		}
	}
}

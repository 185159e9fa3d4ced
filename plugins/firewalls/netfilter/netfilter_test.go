package netfilter

import (
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// levelOf is the level and reason of the first input chain.
func levelOf(chains []Chain) (Level, string) {
	for _, c := range chains {
		if c.Hook == "input" {
			return c.Level, c.Reason
		}
	}
	return -1, "there is no input chain"
}

func TestSaveLevels(t *testing.T) {
	for _, c := range []struct {
		name, policy, rules string
		level               Level
		reason              string
	}{
		{"nothing", "ACCEPT", "", Passes, ""},
		{"policy", "DROP", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", Drops, "policy drop"},
		{"a final rule", "ACCEPT", "-A INPUT -i lo -j ACCEPT\n-A INPUT -j DROP", Drops, `"-A INPUT -j DROP"`},
		{"a final reject with options", "ACCEPT", "-A INPUT -j REJECT --reject-with icmp-port-unreachable", Drops, "REJECT"},
		{"a final rule with a comment", "ACCEPT", `-A INPUT -m comment --comment "it is \"the last\" -p tcp" -j DROP`, Drops, "the last"},
		{"a comment is no target", "ACCEPT", `-A INPUT -m comment --comment "x -j DROP" -j ACCEPT`, Passes, ""},
		{"all is accepted before", "DROP", "-A INPUT -j ACCEPT\n-A INPUT -j DROP", Passes, ""},
		{"some are dropped", "ACCEPT", "-A INPUT -s 192.0.2.1/32 -j DROP", MayDrop, "what matches"},
		{"packets that begin nothing", "ACCEPT", "-A INPUT -m conntrack --ctstate INVALID -j DROP", Passes, ""},
		{"packets that begin something", "ACCEPT", "-A INPUT -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP", MayDrop, "ESTABLISHED"},
		{"all but what begins nothing", "ACCEPT", "-A INPUT -m conntrack ! --ctstate INVALID -j DROP", MayDrop, "INVALID"},
		{"a chain that is called", "ACCEPT", ":site - [0:0]\n-A INPUT -j site\n-A site -p tcp -j LOG\n-A site -j DROP", Drops, "in site"},
		{"a chain that some are sent to", "ACCEPT", ":site - [0:0]\n-A INPUT -p tcp -j site\n-A site -j DROP", MayDrop, "in site"},
		{"a chain that comes back", "ACCEPT", ":site - [0:0]\n-A INPUT -j site\n-A site -j RETURN\n-A site -j DROP", Passes, ""},
		{"a chain that does not come back", "DROP", ":site - [0:0]\n-A INPUT -g site\n-A INPUT -j ACCEPT\n-A site -p udp -j ACCEPT", Drops, "policy drop"},
		{"a chain that calls itself", "ACCEPT", ":a - [0:0]\n:b - [0:0]\n-A INPUT -j a\n-A a -j b\n-A b -j a\n-A b -p tcp -j DROP", MayDrop, "in b"},
		{"a queue", "ACCEPT", "-A INPUT -j NFQUEUE --queue-num 3", MayDrop, "NFQUEUE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := parseSave("*filter\n:INPUT " + c.policy + " [1:2]\n" + c.rules + "\nCOMMIT\n")
			s.tool = "iptables-nft"
			level, reason := levelOf(saveChains("ip", s))
			if level != c.level || !strings.Contains(reason, c.reason) {
				t.Errorf("level %d (%s), want %d (%s)", level, reason, c.level, c.reason)
			}
		})
	}
}

func TestListingLevels(t *testing.T) {
	for _, c := range []struct {
		name, policy, rules string
		level               Level
		reason              string
	}{
		{"nothing", "accept", "", Passes, ""},
		{"policy", "drop", "tcp dport 22 accept # handle 3", Drops, "policy drop"},
		{"a final rule", "accept", `counter packets 0 bytes 7 log prefix "a drop" level info drop # handle 9`, Drops, "log prefix"},
		{"a reject with words", "accept", "reject with icmpx admin-prohibited # handle 9", Drops, "admin-prohibited"},
		{"quotes are no rule", "accept", `tcp dport 22 log prefix "drop goto site " accept comment "jump site" # handle 9`, Passes, ""},
		{"some are dropped", "accept", "ip saddr @bad drop # handle 9", MayDrop, "@bad"},
		{"a limit", "accept", "limit rate over 10/second drop # handle 9", MayDrop, "limit"},
		{"packets that begin nothing", "accept", "ct state invalid drop # handle 9", Passes, ""},
		{"a map of states", "accept", "ct state vmap { established : accept, invalid : drop, related : accept } # handle 9", Passes, ""},
		{"a map of states that drops new", "accept", "ct state vmap { established : accept, new : drop } # handle 9", MayDrop, "new"},
		{"a map of chains", "accept", "tcp dport vmap { 22 : accept, 23 : jump site } # handle 9", MayDrop, "in site"},
		{"a map that is not listed", "accept", "tcp dport vmap @ports # handle 9", MayDrop, "@ports"},
		{"a chain that is called", "accept", "jump site # handle 9", Drops, "in site"},
		{"a chain that some are sent to", "drop", "iifname \"lo\" goto site # handle 9\n\t\taccept # handle 10", MayDrop, "in site"},
		{"a target of iptables", "accept", `xt target "REJECT" # handle 9`, MayDrop, "xt"},
		{"a queue", "accept", "tcp dport 80 queue to 3 # handle 9", MayDrop, "queue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tables := parseListing("table inet base { # handle 1\n\tset bad {\n\t\ttype ipv4_addr\n\t}\n\n\tchain site { # handle 2\n\t\tdrop # handle 3\n\t}\n\n" +
				"\tchain input { # handle 4\n\t\tcomment \"ours\"\n\t\ttype filter hook input priority filter + 5; policy " + c.policy + ";\n\t\t" + c.rules + "\n\t}\n}\n")
			if len(tables) != 1 {
				t.Fatalf("%+v", tables)
			}
			level, reason := levelOf(nativeChains(tables[0], owners{make([]save, len(sources))}.of(tables[0]), false))
			if level != c.level || !strings.Contains(reason, c.reason) {
				t.Errorf("level %d (%s), want %d (%s)", level, reason, c.level, c.reason)
			}
		})
	}
}

// results are those of Look's commands, nft's first.
func results(nft string, saves ...sdk.Result) sdk.HostResults {
	res := sdk.HostResults{Host: "db1", Results: []sdk.Result{{Stdout: []byte(nft)}}}
	for i := range sources {
		r := sdk.Result{ExitCode: exitMissing}
		if i < len(saves) {
			r = saves[i]
		}
		res.Results = append(res.Results, r)
	}
	return res
}

func said(text string) sdk.Result { return sdk.Result{Stdout: []byte(text)} }

const filterInput = "table ip filter { # handle 1\n\tchain INPUT { # handle 2\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n%\n}\n"

// TestOwners decides who may change the chains of a table with one of
// iptables' names.
func TestOwners(t *testing.T) {
	shown := "iptables-nft\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n"
	unreadable := "iptables-nft\n# Table `filter' is incompatible, use 'nft' tool.\n"
	mine := "\tchain mine { # handle 5\n\t\ttype filter hook input priority 1; policy drop;\n\t}"
	for _, c := range []struct {
		name, more string
		res        []sdk.Result
		want       []string // owner tool chain shared
	}{
		{"iptables shows it", "", []sdk.Result{said(shown)}, []string{"iptables iptables-nft INPUT false"}},
		{"iptables cannot read it", "", []sdk.Result{said(unreadable)}, []string{"nftables nft INPUT false"}},
		{"iptables is not there", "", nil, []string{" nft INPUT true"}},
		{"another chain beside", mine, []sdk.Result{said(shown)}, []string{"iptables iptables-nft INPUT false", "nftables nft mine true"}},
		{"another owner", "\tflags owner", []sdk.Result{said("iptables-nft\n")}, []string{" nft INPUT false"}},
		{"legacy is loaded and not installed", "\tflags dormant", []sdk.Result{said("iptables-nft\n"), said("ip6tables-nft\n"), {ExitCode: exitUnread}},
			[]string{" iptables-legacy INPUT false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := understand("db1", results(strings.Replace(filterInput, "%", c.more, 1), c.res...))
			var got []string
			for _, ch := range r.Chains {
				shared := " false"
				if ch.Shared {
					shared = " true"
				}
				got = append(got, ch.Owner+" "+ch.Tool+" "+ch.Name+shared)
			}
			if r.Err != nil || strings.Join(got, "; ") != strings.Join(c.want, "; ") {
				t.Errorf("%v %q, want %q", r.Err, got, c.want)
			}
		})
	}
}

func TestUnderstandFailures(t *testing.T) {
	r := understand("db1", results("", sdk.Result{ExitCode: 4, Stderr: []byte("Could not fetch rule set generation id: Permission denied (you must be root)\n")}))
	if r.Err == nil || r.Err.Kind != sdk.KindPermission || r.Err.Host != "db1" || !strings.Contains(r.Err.Hint, "sudo") {
		t.Errorf("not root: %+v", r.Err)
	}
	if f := r.Filter(IPTables); f.Err == nil || f.What == "" || f.Why == "" || f.Filters {
		t.Errorf("%+v", f)
	}
	if r := understand("db1", results("", said("rm -rf /\n"))); r.Err == nil {
		t.Error("a host names the command that is run there")
	}
	none := sdk.HostResults{Host: "db1"}
	for range len(sources) + 1 {
		none.Results = append(none.Results, sdk.Result{ExitCode: exitMissing})
	}
	if f := understand("db1", none).Filter(NFTables); f.Err != nil || f.Filters || !strings.Contains(f.Why, "installed") {
		t.Errorf("no tools: %+v", f)
	}
	cut := results("table inet base {\n\tchain input { # handle 1\n\t\ttype filter hook input priority 0; policy accept;\n\t\ttcp dpo")
	cut.Results[0].Truncated = true
	if f := understand("db1", cut).Filter(NFTables); !f.Filters || !strings.Contains(f.What, "more than could be read") {
		t.Errorf("a listing that was cut: %+v", f)
	}
}

func TestTag(t *testing.T) {
	tag := Tag{ID: "20261123-153042-k3mq7xwa", Expiry: time.Unix(1796083200, 0)}
	if s := tag.String(); s != "transferpy:20261123-153042-k3mq7xwa:1796083200" {
		t.Error(s)
	}
	for _, bad := range []string{"", "transferpy:", "transferpy:a", "transferpy:a:", "transferpy:a:1x", "transferpy:a:01", "transferpy:-a:1", "transferpy:a b:1", "x:a:1"} {
		if tag, ok := ParseTag(bad); ok {
			t.Errorf("%q is taken for %+v", bad, tag)
		}
	}
}

func TestCheck(t *testing.T) {
	soon, later := time.Unix(1796083200, 5), time.Unix(1796086800, 0)
	hosts, err := Check("t1", []sdk.Hole{
		{Host: "b", Port: 4401, Sources: []string{"fe80::1%eth0", "::ffff:192.0.2.1"}, Expiry: later},
		{Host: "a", Port: 4400, Sources: []string{"2001:DB8::0:1"}, Expiry: time.Unix(1<<40, 0)},
		{Host: "b", Port: 4400, Sources: nil, Expiry: soon},
		{Host: "b", Port: 4401, Sources: []string{"192.0.2.1", "192.0.2.0"}, Expiry: soon},
	})
	if err != nil || len(hosts) != 2 || hosts[0].Host != "b" || len(hosts[0].Holes) != 2 || hosts[0].Holes[0].Port != 4400 {
		t.Fatalf("%+v, %v", hosts, err)
	}
	if h := hosts[0].Holes[1]; len(h.Sources) != 3 || len(h.Of(false)) != 2 || h.Of(true)[0].String() != "fe80::1" || !h.Expiry.Equal(later) {
		t.Errorf("%+v", h)
	}
	if h := hosts[0].Holes[0]; h.Expiry.Nanosecond() != 0 {
		t.Errorf("%+v", h)
	}
	if h := hosts[1].Holes[0]; !h.Expiry.Equal(LastExpiry) || h.Sources[0].String() != "2001:db8::1" {
		t.Errorf("%+v", h)
	}
	for name, h := range map[string]sdk.Hole{
		"a name":       {Port: 1, Sources: []string{"db1"}, Expiry: soon},
		"a network":    {Port: 1, Sources: []string{"192.0.2.0/24"}, Expiry: soon},
		"anybody":      {Port: 1, Sources: []string{"0.0.0.0"}, Expiry: soon},
		"a group":      {Port: 1, Sources: []string{"ff02::1"}, Expiry: soon},
		"an option":    {Port: 1, Sources: []string{"-j ACCEPT"}, Expiry: soon},
		"port 0":       {Port: 0, Expiry: soon},
		"a large port": {Port: 65536, Expiry: soon},
		"no expiry":    {Port: 1},
		"many":         {Port: 1, Sources: make([]string, maxSources+1), Expiry: soon},
	} {
		if _, err := Check("t1", []sdk.Hole{h}); sdk.AsError(err) == nil || sdk.AsError(err).Kind != sdk.KindConfig {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestByHost(t *testing.T) {
	hosts, err := ByHost([]sdk.Rule{{Host: "a", ID: "4401 inet base input"}, {Host: "b", ID: "4400 x"}, {Host: "a", ID: "4400 ip x y"}, {Host: "a", ID: "4401 z"}})
	if err != nil || len(hosts) != 2 || len(hosts[0].Ports()) != 2 || hosts[0].Ports()[0] != 4400 {
		t.Errorf("%+v, %v", hosts, err)
	}
	for _, bad := range []string{"", "x", "4400;reboot", "-1 x", "70000 x"} {
		if _, err := ByHost([]sdk.Rule{{Host: "a", ID: bad}}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSwept(t *testing.T) {
	rules := swept("a", "t1 4400 1796083200 nft inet base\nt1 4400 x nft\n$(x) 1 2 3\nt1 4400 1796083200 \x1b[31m\nt2 70000 1 x\nshort\n")
	if len(rules) != 1 || rules[0].ID != "4400 nft inet base" || rules[0].Expiry.Unix() != 1796083200 {
		t.Errorf("%+v", rules)
	}
}

package firewalls

import (
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/plugins/firewalls/iptables"
	"github.com/transferpy/transferpy/plugins/firewalls/nftables"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// rejecting are rulesets that say no at once, which makes a test quick; by a
// reset, since the kernel sends only so many ICMP errors a second.
var rejecting = []struct {
	name  string
	f     sdk.Firewall
	setup string
}{
	{"iptables-nft", iptables.New(), `for i in iptables ip6tables; do
		$i -A INPUT -p tcp --dport 22 -j ACCEPT; $i -A INPUT -p tcp -j REJECT --reject-with tcp-reset; done`},
	{"iptables-legacy", iptables.New(), `for i in iptables-legacy ip6tables-legacy; do
		$i -A INPUT -p tcp --dport 22 -j ACCEPT; $i -A INPUT -p tcp -j REJECT --reject-with tcp-reset; done`},
	{"nftables", nftables.New(), `nft -f - <<-END
		table inet base {
			chain input {
				type filter hook input priority 0; policy accept;
				tcp dport 22 accept
				meta l4proto tcp reject with tcp reset
			}
			chain late {
				type filter hook input priority 5; policy accept;
				meta l4proto tcp reject with tcp reset
			}
		}
		END`},
}

// TestConformance runs the suite for authors over the firewalls, with rules
// that packets really meet.
func TestConformance(t *testing.T) {
	t.Parallel()
	r := newRig(t, len(rejecting))
	for i, c := range rejecting {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := target(i)
			r.sh(t, to, c.setup)
			plugintest.Firewall(t, c.f, plugintest.FirewallCase{
				Via:   r.via,
				Holes: []sdk.Hole{r.hole(t, to, time.Hour)},
				Check: func(t *testing.T, open bool) { r.want(t, "now", to, open, false) },
				State: func(t *testing.T) string { return r.state(t, to) },
			})
		})
	}
}

// TestExpiry sees the kernel close a hole at its expiry, with nobody there,
// and Sweep remove what is left, and nothing else.
func TestExpiry(t *testing.T) {
	t.Parallel()
	r := newRig(t, len(rejecting))
	for i, c := range rejecting {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := target(i)
			r.sh(t, to, c.setup)
			before := r.state(t, to)
			name := c.f.Describe().Name
			f := both(t)[name]
			host := r.control(to)
			if _, err := f.Open(t.Context(), "long", []sdk.Hole{{Host: to, Port: 4401, Sources: []string{"192.0.2.1"}, Expiry: time.Now().Add(time.Hour)}}, host); err != nil {
				t.Fatal(err)
			}
			living := r.state(t, to)
			const lasts = 5 * time.Second
			end := time.Now().Add(lasts)
			rules, err := f.Open(t.Context(), "short", []sdk.Hole{r.hole(t, to, lasts)}, host)
			if err != nil {
				t.Fatal(err)
			}
			// Both may be late on a machine that is busy: only what was seen
			// before the end, or after it, says something.
			got := r.reaches(t, peer, to, patient)
			if time.Now().Before(end.Add(-time.Second)) && got[0] != "open" {
				t.Errorf("before its expiry the hole is not open: %q", got)
			}
			time.Sleep(time.Until(end.Add(1200 * time.Millisecond)))
			r.want(t, "expired", to, false, false)
			if r.state(t, to) == living {
				t.Error("the rule is gone: the test shows nothing")
			}
			removed, err := f.Sweep(t.Context(), []string{to}, r.control(to))
			if err != nil {
				t.Fatal(err)
			}
			if len(removed) == 0 || removed[0].Host != to || !removed[0].Expiry.Equal(rules[0].Expiry) {
				t.Errorf("Sweep tells of %+v, want %+v", removed, rules)
			}
			if now := r.state(t, to); now != living {
				t.Errorf("Sweep left something of the dead, or took something of the living:\n--- want\n%s\n--- got\n%s", living, now)
			}
			host.Undo(t, sdk.WhenEnd)
			if now := r.state(t, to); now != before {
				t.Errorf("the undo left something behind:\n%s", now)
			}
		})
	}
}

// TestSweepAbandoned sees that a rule lives as long as an agent of its
// transfer holds its lock, and goes when none does any more.
func TestSweepAbandoned(t *testing.T) {
	t.Parallel()
	r := newRig(t, len(rejecting))
	for i, c := range rejecting {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := target(i)
			r.sh(t, to, c.setup)
			f := both(t)[c.f.Describe().Name]
			if _, err := f.Open(t.Context(), "elsewhere", []sdk.Hole{r.hole(t, to, time.Hour)}, r.control(to)); err != nil {
				t.Fatal(err)
			}
			r.sh(t, to, `mkdir -p /var/lib/transferpy/run/living/a /var/lib/transferpy/run/living/b /var/lib/transferpy/run/dead/a
				cd /var/lib/transferpy/run
				touch living/a/lock living/b/lock dead/a/lock
				setsid -f flock living/b/lock sleep 60 </dev/null >/dev/null 2>&1
				until ! flock -n living/b/lock true; do sleep 0.05; done`)
			kept := r.openFor(t, f, to, "living")
			r.openFor(t, f, to, "dead")
			removed, err := f.Sweep(t.Context(), []string{to}, r.control(to))
			if err != nil || len(removed) == 0 {
				t.Errorf("Sweep tells of %+v, %v", removed, err)
			}
			if now := r.state(t, to); now != kept {
				t.Errorf("Sweep takes or leaves the wrong rules:\n--- want\n%s\n--- got\n%s", kept, now)
			}
		})
	}
}

// openFor opens the peer's hole for a transfer and returns the rules there
// are then.
func (r *rig) openFor(t *testing.T, f sdk.Firewall, to, id string) string {
	t.Helper()
	if _, err := f.Open(t.Context(), id, []sdk.Hole{r.hole(t, to, time.Hour)}, r.control(to)); err != nil {
		t.Fatal(err)
	}
	return r.state(t, to)
}

// TestWithoutTimeMatch has a kernel that knows no time match, as its tools
// would show it: the rule is made without, says so, and is taken back.
func TestWithoutTimeMatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, len(rejecting))
	for i, c := range rejecting {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := target(i)
			r.sh(t, to, c.setup)
			before := r.state(t, to)
			r.sh(t, to, `mkdir -p /usr/local/sbin; cd /usr/local/sbin
				for tool in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do
					{
						echo '#!/bin/sh'
						echo 'case "$*" in *"-m time"*) echo "iptables: No chain/target/match by that name." >&2; exit 1 ;; esac'
						echo "exec /usr/sbin/$tool \"\$@\""
					} >$tool
				done
				cat >nft <<'END'
#!/bin/sh
case "$*" in
*"-f -"*)
	batch=$(cat)
	timed=$(printf '%s\n' "$batch" | grep 'meta time ') && {
		printf '/dev/stdin:2:1-99: Error: Could not process rule: Operation not supported\n%s\n^^^^^\n' "$timed" >&2
		exit 1
	}
	printf '%s\n' "$batch" | /usr/sbin/nft "$@"
	exit ;;
esac
exec /usr/sbin/nft "$@"
END
				chmod 0755 *`)
			host := r.control(to)
			f := both(t)[c.f.Describe().Name]
			for range 2 {
				rules, err := f.Open(t.Context(), "untimed", []sdk.Hole{r.hole(t, to, time.Hour)}, host)
				if err != nil {
					t.Fatal(err, sdk.AsError(err).Stderr)
				}
				if len(rules) == 0 || !strings.Contains(rules[0].Text, "does not expire by itself") {
					t.Errorf("%+v", rules)
				}
			}
			r.want(t, "open", to, true, false)
			host.Undo(t, sdk.WhenEnd)
			r.want(t, "after", to, false, false)
			if now := r.state(t, to); now != before {
				t.Errorf("the undo left something behind:\n%s", now)
			}
		})
	}
}

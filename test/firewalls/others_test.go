package firewalls

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// busy are rulesets that somebody keeps changing. Each script defines reload N,
// which loads a whole ruleset with N rules anew, change, which adds a rule at
// either end and removes both, and print, which prints the rules of others.
var busy = []struct {
	name, firewall, script string
}{
	{"iptables-nft", "iptables", iptablesOfOthers("iptables-nft")},
	{"iptables-legacy", "iptables", iptablesOfOthers("iptables-legacy")},
	{"nftables", "nftables", `
		reload() {
			{
				echo 'table inet base'
				echo 'delete table inet base'
				echo 'table inet base { chain input { type filter hook input priority 0; policy drop; }; }'
				i=0
				while [ $i -lt $1 ]; do
					echo "add rule inet base input tcp dport $((5000 + i)) accept"
					i=$((i + 1))
				done
			} | nft -f -
		}
		change() {
			first=$(nft -a -e insert rule inet base input udp dport 1 accept | sed -n 's/.*# handle //p')
			last=$(nft -a -e add rule inet base input udp dport 2 accept | sed -n 's/.*# handle //p')
			nft delete rule inet base input handle $first
			nft delete rule inet base input handle $last
		}
		print() { nft list chain inet base input | grep -v transferpy; }
		`},
}

func iptablesOfOthers(tool string) string {
	return strings.ReplaceAll(`
		reload() {
			{
				echo '*filter'
				echo ':INPUT DROP [0:0]'
				i=0
				while [ $i -lt $1 ]; do
					echo "-A INPUT -p tcp -m tcp --dport $((5000 + i)) -j ACCEPT"
					i=$((i + 1))
				done
				echo COMMIT
			} | TOOL-restore -w 30
		}
		change() {
			TOOL -w 30 -I INPUT -p udp --dport 1 -j ACCEPT
			TOOL -w 30 -A INPUT -p udp --dport 2 -j ACCEPT
			TOOL -w 30 -D INPUT -p udp --dport 1 -j ACCEPT
			TOOL -w 30 -D INPUT -p udp --dport 2 -j ACCEPT
		}
		print() { TOOL -w 30 -S INPUT | grep -v transferpy; }
		`, "TOOL", tool)
}

// others is the loop of foreign changes: after each it sees that the rules are
// those that were meant. It ends when there is a file /run/stop, and then the
// rules are those of the beginning.
const others = `
	n=0
	while ! [ -e /run/stop ]; do
		n=$((n + 1))
		size=$((n * 7 % 40 + 1))
		reload $size
		reloaded=$(print)
		for i in 1 2 3; do change; done
		if [ "$(print)" != "$reloaded" ]; then
			echo "round $n, loaded: $reloaded" >&2
			echo "afterwards: $(print)" >&2
			exit 1
		fi
		if [ "$(print | grep -c 50)" != $size ]; then
			echo "round $n: not all of $size rules: $(print)" >&2
			exit 1
		fi
	done
	reload 5
	echo "rounds: $n"
`

// TestOthersAreSafe opens and closes 20 holes at once, of two control hosts,
// beside a loop of changes by others: from a single rule to the whole ruleset.
// Theirs are what they made them, ours are gone.
func TestOthersAreSafe(t *testing.T) {
	t.Parallel()
	r := newRig(t, len(busy))
	for i, c := range busy {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := target(i)
			r.sh(t, to, c.script+"reload 5")
			before := r.state(t, to)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			done := make(chan error, 1)
			go func() {
				out, err := r.Run(ctx, to, "sh", "-euc", c.script+others)
				t.Log(strings.TrimSpace(out))
				done <- err
			}()
			var all sync.WaitGroup
			for controller := range 2 {
				f := both(t)[c.firewall]
				host := r.control(to)
				for n := range 10 {
					all.Go(func() { r.openAndClose(ctx, t, f, host, to, controller, n) })
				}
			}
			all.Wait()
			r.sh(t, to, "touch /run/stop")
			if err := <-done; err != nil {
				t.Errorf("a change by others failed, or their rules are not what they made them: %v", err)
			}
			if after := r.state(t, to); after != before {
				t.Errorf("afterwards the rules are others:\n--- before\n%s\n--- after\n%s", before, after)
			}
		})
	}
}

// openAndClose is one transfer's hole in a target whose rules others change.
func (r *rig) openAndClose(ctx context.Context, t *testing.T, f sdk.Firewall, host sdk.Host, to string, controller, n int) {
	id := fmt.Sprintf("20261123-21000%d-control%d", n, controller)
	hole := sdk.Hole{Host: to, Port: 4400 + n, Sources: []string{fmt.Sprintf("192.0.2.%d", 1+n), fmt.Sprintf("2001:db8::%d", 1+n)},
		Expiry: time.Now().Add(time.Hour)}
	rules, err := f.Open(ctx, id, []sdk.Hole{hole}, host)
	if err != nil {
		t.Errorf("Open %s: %v\n%s", id, err, sdk.AsError(err).Stderr)
		return
	}
	if len(rules) == 0 {
		t.Errorf("Open %s made no rule", id)
	}
	if err := f.Close(ctx, id, rules, host); err != nil {
		t.Errorf("Close %s: %v\n%s", id, err, sdk.AsError(err).Stderr)
	}
}

// TestOpenAgain has others put a rule before ours, and then load their rules
// anew without ours: to open again helps both times.
func TestOpenAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, len(rejecting))
	before := map[string]string{
		"iptables-nft":    "for i in iptables ip6tables; do $i -I INPUT -p tcp --dport 4000:5000 -j REJECT --reject-with tcp-reset; done",
		"iptables-legacy": "for i in iptables-legacy ip6tables-legacy; do $i -I INPUT -p tcp --dport 4000:5000 -j REJECT --reject-with tcp-reset; done",
		"nftables":        "nft insert rule inet base late tcp dport 4000-5000 reject with tcp reset",
	}
	empty := map[string]string{
		"iptables-nft":    "for i in iptables ip6tables; do $i -F; done;",
		"iptables-legacy": "for i in iptables-legacy ip6tables-legacy; do $i -F; done;",
		"nftables":        "nft flush ruleset;",
	}
	for i, c := range rejecting {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			to := target(i)
			r.sh(t, to, c.setup)
			host := r.control(to)
			f := both(t)[c.f.Describe().Name]
			hole := r.hole(t, to, time.Hour)
			open := func() {
				t.Helper()
				if _, err := f.Open(t.Context(), "again", []sdk.Hole{hole}, host); err != nil {
					t.Fatal(err, sdk.AsError(err).Stderr)
				}
			}
			open()
			r.want(t, "open", to, true, false)
			r.sh(t, to, before[c.name])
			others := r.state(t, to)
			r.want(t, "behind a rule of others", to, false, false)
			open()
			r.want(t, "opened again", to, true, false)
			if now := r.state(t, to); strings.Count(now, "4400") != strings.Count(others, "4400") {
				t.Errorf("to open again made another rule:\n--- before\n%s\n--- after\n%s", others, now)
			}
			r.sh(t, to, empty[c.name]+c.setup)
			loaded := r.state(t, to)
			r.want(t, "loaded anew", to, false, false)
			open()
			r.want(t, "opened anew", to, true, false)
			host.Undo(t, sdk.WhenEnd)
			r.want(t, "after", to, false, false)
			if now := r.state(t, to); now != loaded {
				t.Errorf("the undo left something behind:\n%s", now)
			}
		})
	}
}

// TestReloadInBetween has the ruleset loaded anew after our scripts have
// listed it and before they change it, with more rules, so that the handle of
// our rule is one of somebody else's by then.
func TestReloadInBetween(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	to := target(0)
	load := func(rules int) string {
		return fmt.Sprintf(`{
			echo 'table inet base'
			echo 'delete table inet base'
			echo 'table inet base { chain input { type filter hook input priority 0; policy drop; }; }'
			for i in $(seq %d); do echo "add rule inet base input tcp dport $i accept"; done
		} | /usr/sbin/nft -f -
		`, rules)
	}
	// From then on the next change through nft meets another ruleset.
	r.sh(t, to, load(20)+`mkdir -p /usr/local/sbin
		cat >/usr/local/sbin/nft <<'END'
#!/bin/sh
case "$*" in
*-f*) if rm /run/reload 2>/dev/null; then sh /run/load; fi ;;
esac
exec /usr/sbin/nft "$@"
END
		chmod 0755 /usr/local/sbin/nft
		cat >/run/load <<'END'
`+load(40)+`
END`)
	f := both(t)["nftables"]
	host := r.control(to)
	holes := []sdk.Hole{{Host: to, Port: 4400, Sources: []string{"192.0.2.1"}, Expiry: time.Now().Add(time.Hour)}}
	open := func() []sdk.Rule {
		rules, err := f.Open(t.Context(), "between", holes, host)
		if err != nil {
			t.Fatal(err, sdk.AsError(err).Stderr)
		}
		return rules
	}
	count := func(when string) {
		if n := strings.TrimSpace(r.sh(t, to, `test ! -e /run/reload && nft list chain inet base input | grep -c "dport [0-9]* accept"`)); n != "40" {
			t.Errorf("%s: %s of 40 rules of others are left", when, n)
		}
	}
	rules := open()
	r.sh(t, to, "touch /run/reload")
	if err := f.Close(t.Context(), "between", rules, host); err != nil {
		t.Error(err)
	}
	count("Close")

	r.sh(t, to, load(20))
	open()
	// A rule of somebody else's before ours, so that ours is to be moved.
	r.sh(t, to, "nft insert rule inet base input udp dport 1 drop; touch /run/reload")
	holes[0].Expiry = holes[0].Expiry.Add(time.Hour)
	open()
	count("Open")
	r.sh(t, to, "touch /run/reload")
	host.Undo(t, sdk.WhenEnd)
	count("the undo")
	if now := r.state(t, to); strings.Contains(now, "transferpy") {
		t.Errorf("a rule of ours is left:\n%s", now)
	}
}

// TestKilledRemoval finds the chain that a removal makes for a moment where it
// was killed: the next one, and Sweep, take it away.
func TestKilledRemoval(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	to, host := target(0), r.control(target(0))
	const id, guard = "20261123-230003-doa2a3ve", "transferpy-3-230003-doa2a3ve"
	r.sh(t, to, "iptables-nft -P INPUT DROP")
	before := r.state(t, to)
	f := both(t)["iptables"]
	rules, err := f.Open(t.Context(), id, []sdk.Hole{r.hole(t, to, time.Hour)}, host)
	if err != nil {
		t.Fatal(err)
	}
	r.sh(t, to, "iptables-nft -N "+guard)
	host.Undo(t, sdk.WhenEnd)
	if now := r.state(t, to); now != before {
		t.Errorf("the removal left something:\n%s", now)
	}
	r.sh(t, to, "iptables-nft -N "+guard)
	if err := f.Close(t.Context(), id, rules, host); err != nil {
		t.Fatal(err)
	}
	if now := r.state(t, to); now != before {
		t.Errorf("a removal that finds no rule left something:\n%s", now)
	}
	r.sh(t, to, "iptables-nft -N "+guard)
	if _, err := f.Sweep(t.Context(), []string{to}, host); err != nil {
		t.Fatal(err)
	}
	if now := r.state(t, to); now != before {
		t.Errorf("Sweep left something:\n%s", now)
	}
}

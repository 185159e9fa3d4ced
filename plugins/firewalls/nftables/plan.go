package nftables

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/plugins/firewalls/netfilter"
	"github.com/transferpy/transferpy/sdk"
)

// batch is a transaction for nft, and the rules that it makes.
type batch struct {
	lines []string
	rules []sdk.Rule
}

// plan makes the transaction that opens holes in a ruleset; timed says that
// the rules expire by themselves.
func plan(id string, h netfilter.HostHoles, ruleset netfilter.Ruleset, timed bool) batch {
	var b batch
	for _, t := range ruleset.Native {
		var inputs []netfilter.Chain
		for _, c := range ruleset.Chains {
			if c.Opens(netfilter.NFTables) && c.Family == t.Family && c.Table == t.Name {
				inputs = append(inputs, c)
			}
		}
		for _, hole := range h.Holes {
			if sources := reachable(hole, t.Family); len(inputs) > 0 && len(sources) > 0 {
				// `meta time` in a table of iptables-nft would hide its rules.
				b.open(id, h.Host, hole, sources, t, inputs, timed && !inputs[0].Shared)
			}
		}
	}
	return b
}

// reachable gives the sources whose packets a table of this family sees.
func reachable(hole netfilter.Hole, family string) []netip.Addr {
	switch family {
	case "ip":
		return hole.Of(false)
	case "ip6":
		return hole.Of(true)
	case "inet":
		return hole.Sources
	}
	return nil
}

// open adds what opens one hole in one table: our chain with a rule for each
// source, and a jump to it in front of each chain that drops. Sources that an
// earlier opening has let in stay.
func (b *batch) open(id, host string, hole netfilter.Hole, sources []netip.Addr, t netfilter.Table, inputs []netfilter.Chain, timed bool) {
	name := fmt.Sprintf("transferpy-%s-%d", id, hole.Port)
	table := t.Family + " " + t.Name
	latest := map[netip.Addr]time.Time{}
	begin := "create chain " + table + " " + name
	if i := slices.IndexFunc(t.Chains, func(c netfilter.NativeChain) bool { return c.Name == name }); i >= 0 {
		begin = "flush chain " + table + " " + name
		latest = known(id, t.Chains[i].Rules)
	}
	expiry := netfilter.LastExpiry
	for _, a := range sources {
		if hole.Expiry.After(latest[a]) {
			latest[a] = hole.Expiry
		}
		if latest[a].Before(expiry) {
			expiry = latest[a]
		}
	}
	b.lines = append(b.lines, begin)
	var accepts []string
	for _, a := range sorted(latest) {
		accepts = append(accepts, accept(a, hole.Port, netfilter.Tag{ID: id, Expiry: latest[a]}, timed))
		b.lines = append(b.lines, "add rule "+table+" "+name+" "+accepts[len(accepts)-1])
	}
	for _, c := range inputs {
		jump := fmt.Sprintf("tcp dport %d jump %s comment \"transferpy:%s\"", hole.Port, name, id)
		b.jump(table, c.Name, name, jump, t)
		text := fmt.Sprintf("%s %s: %s; %s: %s", table, c.Name, jump, name, strings.Join(accepts, ", "))
		if !timed {
			text += " (without a time match: it does not expire by itself)"
		}
		b.rules = append(b.rules, sdk.Rule{Host: host, ID: fmt.Sprintf("%d %s %s", hole.Port, table, c.Name), Text: text, Expiry: expiry})
	}
}

// jump adds the jump to our chain at the front of an input chain. One that is
// there already stays, unless somebody else's rule stands before it by now.
func (b *batch) jump(table, chain, name, jump string, t netfilter.Table) {
	i := slices.IndexFunc(t.Chains, func(c netfilter.NativeChain) bool { return c.Name == chain })
	front := true
	for _, r := range t.Chains[i].Rules {
		ours := strings.Contains(r.Text, "jump transferpy-") && strings.HasPrefix(r.Comment, "transferpy:")
		if ours && strings.HasSuffix(r.Text, " jump "+name) {
			if front {
				return
			}
			b.lines = append(b.lines, "delete rule "+table+" "+chain+" handle "+r.Handle)
		}
		front = front && ours
	}
	b.lines = append(b.lines, "insert rule "+table+" "+chain+" "+jump)
}

// accept is the rule that lets one source in.
func accept(a netip.Addr, port int, tag netfilter.Tag, timed bool) string {
	family := "ip"
	if a.Is6() {
		family = "ip6"
	}
	text := fmt.Sprintf("%s saddr %s tcp dport %d", family, a, port)
	if timed {
		text += " meta time < " + strconv.FormatInt(tag.Expiry.Unix(), 10)
	}
	return text + " counter accept comment \"" + tag.String() + "\""
}

var sourceForm = regexp.MustCompile(`^ip6? saddr ([0-9a-f.:]+) `)

// known gives the sources that our chain lets in already, and until when.
func known(id string, rules []netfilter.NativeRule) map[netip.Addr]time.Time {
	latest := map[netip.Addr]time.Time{}
	for _, r := range rules {
		tag, ok := netfilter.ParseTag(r.Comment)
		m := sourceForm.FindStringSubmatch(r.Text)
		if !ok || tag.ID != id || m == nil {
			continue
		}
		if a, err := netip.ParseAddr(m[1]); err == nil && tag.Expiry.After(latest[a]) {
			latest[a] = tag.Expiry
		}
	}
	return latest
}

func sorted(m map[netip.Addr]time.Time) []netip.Addr {
	var list []netip.Addr
	for a := range m {
		list = append(list, a)
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

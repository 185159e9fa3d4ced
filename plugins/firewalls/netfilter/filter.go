package netfilter

import (
	"fmt"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// maxNamed bounds the chains that are named in a sentence, and the barriers.
const maxNamed = 12

// Filter says what firewall finds in the ruleset.
func (r Ruleset) Filter(firewall string) sdk.Filter {
	f := sdk.Filter{Host: r.Host, Err: r.Err}
	if r.Err != nil {
		f.What, f.Why = "unknown", r.Err.Message
		return f
	}
	var found []string
	for _, c := range r.Chains {
		switch {
		case c.Opens(firewall):
			f.Filters = true
			found = append(found, c.String())
		case c.Level > Passes:
			f.Others = append(f.Others, sdk.Barrier{Hook: c.Hook, What: c.String(), Firewall: opener(c)})
		}
	}
	f.Others = f.Others[:min(len(f.Others), maxNamed)]
	f.What = firewall + ": nothing that drops"
	if f.Filters {
		f.What = sentence(found)
	}
	f.Why = "neither nft nor iptables is installed there"
	if len(r.Read) > 0 {
		f.Why = "read with " + strings.Join(r.Read, ", ")
	}
	return f
}

// opener is the firewall that opens c.
func opener(c Chain) string {
	if c.Opens(c.Owner) {
		return c.Owner
	}
	return ""
}

func sentence(list []string) string {
	if len(list) > maxNamed {
		list = append(list[:maxNamed:maxNamed], fmt.Sprintf("and %d more", len(list)-maxNamed))
	}
	return strings.Join(list, "; ")
}

package netfilter

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/transferpy/transferpy/sdk"
)

// FuzzUnderstand reads whatever a hostile host prints. What it says is
// printable and bounded, and a chain that is to be changed has names that need
// no quotes.
func FuzzUnderstand(f *testing.F) {
	f.Add("table inet base { # handle 1\n\tchain input { # handle 4\n\t\ttype filter hook input priority 0; policy drop;\n\t\tjump x # handle 5\n\t}\n}\n",
		"iptables-nft\n*filter\n:INPUT DROP [0:0]\n:x - [0:0]\n-A INPUT -m comment --comment \"a \\\" b\" -j x\n-A x -j DROP\nCOMMIT\n", false)
	f.Add("table ip filter {\n\tflags owner\n\tchain INPUT {\n\t\ttype filter hook ingress device \"lo\" priority raw; policy drop;\n", "iptables\n# Table `filter' is incompatible\n", true)
	f.Fuzz(func(t *testing.T, nft, save string, cut bool) {
		res := results(nft, said(save))
		res.Results[0].Truncated, res.Results[1].Truncated = cut, cut
		r := understand("db1", res)
		for _, c := range r.Chains {
			if c.Level < Passes || c.Level > Drops || (c.Level > Passes) != (c.Reason != "") {
				t.Errorf("%+v", c)
			}
			if !plainName.MatchString(c.Table) || !plainName.MatchString(c.Name) || !plainName.MatchString(c.Family) || !plainName.MatchString(c.Tool) {
				t.Errorf("a name that would need quotes: %+v", c)
			}
		}
		for _, firewall := range []string{IPTables, NFTables} {
			filter := r.Filter(firewall)
			says(t, filter.What)
			for _, o := range filter.Others {
				says(t, o.What)
			}
			if len(filter.Others) > maxNamed {
				t.Errorf("%d barriers", len(filter.Others))
			}
		}
	})
}

// says holds a sentence to what may reach a terminal.
func says(t *testing.T, text string) {
	t.Helper()
	const most = 2 * maxNamed * (4*maxReason + 4*255)
	if text == "" || len(text) > most || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("not fit to be printed: %q", text)
	}
}

// FuzzParseTag reads comments: what is taken is printed in the same way.
func FuzzParseTag(f *testing.F) {
	for _, s := range []string{"transferpy:a:1", "transferpy:a-b_1:1796083200", "transferpy::", "transferpy:a:-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if tag, ok := ParseTag(s); ok && tag.String() != s {
			t.Errorf("%q is read as %q", s, tag)
		}
	})
}

// FuzzSwept reads what a sweeping script printed on a hostile host.
func FuzzSwept(f *testing.F) {
	f.Add("t1 4400 1796083200 nft inet base\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range swept("a", s) {
			says(t, r.Text)
			if _, err := ByHost([]sdk.Rule{r}); err != nil {
				t.Error(err)
			}
		}
	})
}

package netfilter

import (
	"regexp"
	"slices"
	"strings"
)

// Table is a table as `nft -a -t list ruleset` prints it.
type Table struct {
	Family string
	Name   string
	Chains []NativeChain
	owned  bool // only the process that made it may change it
	asleep bool // dormant: none of its chains is in use
}

// NativeChain is a chain of a Table with its rules.
type NativeChain struct {
	Name  string
	Rules []NativeRule
	base  bool
	chain chain
}

// NativeRule is one rule as nft prints it.
type NativeRule struct {
	Text    string // without its comment and handle
	Comment string
	Handle  string // decimal
}

// plainName is the form of a name that nft takes without quotes.
var plainName = regexp.MustCompile(`^[A-Za-z_.][A-Za-z0-9_./-]{0,254}$`)

var (
	baseForm   = regexp.MustCompile(`^type (\w+) hook (\w+) (?:devices? (?:= )?(?:"[^"]*"|\{[^}]*\}) )?priority [^;]*;(?: policy (\w+);)?`)
	handleForm = regexp.MustCompile(` # handle ([0-9]+)$`)
	// nft knows no quotes within quotes.
	commentForm = regexp.MustCompile(` comment "([^"]*)"$`)
	quotedForm  = regexp.MustCompile(`"[^"]*"`)
)

// parseListing reads what `nft -a -t list ruleset` prints. Tables and chains
// whose names would need quotes are left out: nft itself makes none.
func parseListing(out string) []Table {
	var tables []Table
	var table *Table
	var here *NativeChain
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		text := strings.TrimLeft(line, "\t")
		depth := len(line) - len(text)
		words := strings.Fields(text)
		switch {
		case len(words) == 0:
		case depth == 0:
			table, here = nil, nil
			if words[0] == "table" && len(words) >= 4 && plainName.MatchString(words[1]) && plainName.MatchString(words[2]) {
				tables = append(tables, Table{Family: words[1], Name: words[2]})
				table = &tables[len(tables)-1]
			}
		case table == nil:
		case depth == 1:
			here = nil
			switch {
			case words[0] == "flags":
				table.owned = strings.Contains(text, "owner")
				table.asleep = strings.Contains(text, "dormant")
			case words[0] == "chain" && len(words) >= 3 && plainName.MatchString(words[1]):
				table.Chains = append(table.Chains, NativeChain{Name: words[1], chain: chain{name: words[1]}})
				here = &table.Chains[len(table.Chains)-1]
			}
		case here == nil:
		default:
			here.line(text)
		}
	}
	return tables
}

// line takes in a line within a chain.
func (c *NativeChain) line(text string) {
	if m := baseForm.FindStringSubmatch(text); m != nil && len(c.Rules) == 0 {
		c.base = true
		c.chain.kind, c.chain.hook = m[1], m[2]
		if m[3] == "drop" {
			c.chain.policy = drops
		}
		return
	}
	m := handleForm.FindStringSubmatchIndex(text)
	if m == nil {
		return // no rule: a comment of the chain
	}
	r := NativeRule{Text: text[:m[0]], Handle: text[m[2]:m[3]]}
	if m := commentForm.FindStringSubmatchIndex(r.Text); m != nil {
		r.Text, r.Comment = r.Text[:m[0]], r.Text[m[2]:m[3]]
	}
	c.Rules = append(c.Rules, r)
	c.chain.rules = append(c.chain.rules, nativeRule(r.Text))
}

// nativeRule understands a rule from its text.
func nativeRule(text string) rule {
	r := rule{text: text, always: true}
	words := strings.Fields(quotedForm.ReplaceAllString(text, `""`))
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch words[i] {
		case "counter": // packets N bytes N, or a name
			for i+2 < len(words) && (words[i+1] == "packets" || words[i+1] == "bytes") {
				i += 2
			}
		case "log":
			for i+1 < len(words) && !endsLog[words[i+1]] {
				i++
			}
		case "drop", "reject":
			r.does = drops
		case "accept":
			r.does = accepts
		case "return":
			r.does = returns
		case "queue":
			r.does = mayDrop
		case "jump", "goto":
			r.calls, r.forGood = []string{next}, words[i] == "goto"
		case "vmap":
			r.always = false
			return verdictMap(r, words[:i], words[i+1:])
		case "xt":
			if next == "target" { // what it does stands in quotes, if anywhere
				r.does = mayDrop
			}
			r.always = false
		default:
			r.always = false
			continue
		}
		if r.does != goesOn || r.calls != nil {
			break
		}
	}
	if !r.always && strings.HasPrefix(text, "ct state invalid ") {
		r.does, r.calls = goesOn, nil
	}
	return r
}

// endsLog are the words at which a log statement is over.
var endsLog = map[string]bool{"drop": true, "reject": true, "accept": true, "return": true, "queue": true,
	"jump": true, "goto": true, "counter": true, "continue": true}

// verdictMap understands a rule that looks its verdict up: `{ 22 : accept,
// 23 : jump x }`, or "@name" for a map whose elements are not listed.
func verdictMap(r rule, match, words []string) rule {
	if len(words) > 0 && strings.HasPrefix(words[0], "@") {
		r.does = mayDrop
		return r
	}
	state := len(match) >= 2 && slices.Equal(match[len(match)-2:], []string{"ct", "state"})
	for i, w := range words {
		if w != ":" || i+1 >= len(words) || i == 0 {
			continue
		}
		switch what := strings.TrimRight(words[i+1], ","); {
		case state && words[i-1] == "invalid":
		case what == "drop" || what == "reject" || what == "queue":
			r.does = mayDrop
		case (what == "jump" || what == "goto") && i+2 < len(words):
			r.calls = append(r.calls, strings.TrimRight(words[i+2], ","))
		}
	}
	return r
}

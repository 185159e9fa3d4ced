package netfilter

import (
	"regexp"
	"slices"
	"strings"
)

// save is what one of the iptables-save programs printed for one family.
type save struct {
	tool         string // the command that changes what it printed
	tables       []saveTable
	incompatible []string // tables that only nft can read
	cut          bool     // the output was longer than could be read
}

type saveTable struct {
	name   string
	chains []*chain
}

// saveName is the form of a chain's name; iptables takes nearly anything.
var saveName = regexp.MustCompile(`^[!-~]{1,64}$`)

// toolName is the form of the command that changes what was printed.
var toolName = regexp.MustCompile(`^ip6?tables(-nft|-legacy)?$`)

var incompatibleTable = regexp.MustCompile("[Tt]able `([a-z]+)' is incompatible")

// parseSave reads the output of an iptables-save program. Lines that it does
// not know are passed over.
func parseSave(out string) save {
	var s save
	var table *saveTable
	byName := map[string]*chain{}
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table = nil
			if !plainName.MatchString(line[1:]) {
				continue
			}
			s.tables = append(s.tables, saveTable{name: line[1:]})
			table = &s.tables[len(s.tables)-1]
			clear(byName)
		case strings.HasPrefix(line, "# "):
			if m := incompatibleTable.FindStringSubmatch(line); m != nil {
				s.incompatible = append(s.incompatible, m[1])
			}
		case table == nil:
		case strings.HasPrefix(line, ":"):
			words := strings.Fields(line[1:])
			if len(words) < 2 || byName[words[0]] != nil || !saveName.MatchString(words[0]) {
				continue
			}
			c := &chain{name: words[0]}
			if words[1] != "-" {
				c.hook, c.kind = builtinHook[words[0]], "filter"
			}
			if words[1] == "DROP" {
				c.policy = drops
			}
			byName[c.name] = c
			table.chains = append(table.chains, c)
		case strings.HasPrefix(line, "-A "):
			words := splitSave(line)
			if c := byName[words[1]]; c != nil {
				c.rules = append(c.rules, saveRule(line, words[2:], byName))
			}
		}
	}
	return s
}

// builtinHook gives the hooks that concern connections to and from the host.
var builtinHook = map[string]string{"PREROUTING": "prerouting", "INPUT": "input", "OUTPUT": "output"}

// splitSave splits a line into words; a word in quotes may have blanks in it,
// and there a backslash takes the next character as it is. There are two
// words at least.
func splitSave(line string) []string {
	var words []string
	var word strings.Builder
	in, quoted, escaped := false, false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			in, quoted = true, !quoted
		case r == ' ' && !quoted:
			if in {
				words = append(words, word.String())
				word.Reset()
			}
			in = false
		default:
			in = true
			word.WriteRune(r)
		}
	}
	if in {
		words = append(words, word.String())
	}
	for len(words) < 2 {
		words = append(words, "")
	}
	return words
}

// saveRule understands a rule from its words behind the chain.
func saveRule(line string, words []string, chains map[string]*chain) rule {
	r := rule{text: line, always: true}
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case w == "-m" && i+1 < len(words) && words[i+1] == "comment":
			i++
		case w == "--comment":
			i++
		case (w == "-j" || w == "-g") && i+1 < len(words):
			r.forGood = w == "-g"
			target := words[i+1]
			switch target {
			case "DROP", "REJECT", "TARPIT":
				r.does = drops
			case "ACCEPT":
				r.does = accepts
			case "RETURN":
				r.does = returns
			case "NFQUEUE", "QUEUE":
				r.does = mayDrop
			default:
				if chains[target] != nil {
					r.calls = []string{target}
				}
			}
			if !r.always && onlyInvalid(words[:i]) {
				r.does, r.calls = goesOn, nil
			}
			return r // what follows are the target's options
		default:
			r.always = false
		}
	}
	return r
}

// onlyInvalid reports whether matches take nothing but packets that begin no
// connection.
func onlyInvalid(words []string) bool {
	i := max(slices.Index(words, "--ctstate"), slices.Index(words, "--state"))
	return i > 0 && i+1 < len(words) && words[i-1] != "!" && words[i+1] == "INVALID"
}

package netfilter

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// readTime is what a host has for each command that reads.
const readTime = 30 * time.Second

// saveScript finds the program that prints a family's rules of one kind and
// runs it.
//
//go:embed save.sh
var saveScript string

// source is a kind of ruleset of iptables.
type source struct {
	program string // iptables or ip6tables
	kind    string // nft or legacy
	family  string
}

// sources in the order of look's commands, behind nft's.
var sources = []source{
	{"iptables", "nft", "ip"}, {"ip6tables", "nft", "ip6"},
	{"iptables", "legacy", "ip"}, {"ip6tables", "legacy", "ip6"},
}

// Look reads the rulesets of hosts, in their order, in one call.
func Look(ctx context.Context, hosts []string, host sdk.Host) ([]Ruleset, error) {
	commands := []sdk.Command{command("sh", "-c", "nft -a -t list ruleset || nft -a list ruleset")}
	for _, s := range sources {
		commands = append(commands, command("sh", "-c", bare(saveScript), "transferpy", s.program, s.kind, s.family))
	}
	work := make([]sdk.HostCommands, len(hosts))
	for i, name := range hosts {
		work[i] = sdk.HostCommands{Host: name, Commands: commands}
	}
	results, err := host.Run(ctx, work)
	if err != nil {
		return nil, err
	}
	rulesets := make([]Ruleset, len(hosts))
	for i, name := range hosts {
		if i >= len(results) || results[i].Err == nil && len(results[i].Results) != len(commands) {
			return nil, &sdk.Error{Kind: sdk.KindInternal, Host: name, Message: "not every command that was asked for has a result"}
		}
		rulesets[i] = understand(name, results[i])
	}
	return rulesets, nil
}

func command(argv ...string) sdk.Command {
	c := sdk.Command{Timeout: readTime}
	for _, a := range argv {
		c.Argv = append(c.Argv, sdk.Raw(a))
	}
	return c
}

// exitMissing is the exit code of a shell that finds no such program, and of
// save.sh where there is none of that kind.
const exitMissing = 127

// exitUnread is save.sh's exit code where rules are in force that no program
// there can read.
const exitUnread = 3

// understand makes one host's Ruleset out of its results.
func understand(host string, res sdk.HostResults) Ruleset {
	out := Ruleset{Host: host, Err: res.Err}
	if out.Err != nil {
		return out
	}
	for i, r := range res.Results {
		what := "nft list ruleset"
		if i > 0 {
			what = sources[i-1].program + "-save (" + sources[i-1].kind + ")"
		}
		if out.Err = failure(host, what, r); out.Err != nil {
			return out
		}
	}
	saves := make([]save, len(sources))
	for i := range sources {
		r := res.Results[i+1]
		switch r.ExitCode {
		case exitMissing:
			continue
		case exitUnread:
			out.Chains = append(out.Chains, unread(sources[i]))
			continue
		}
		first, rest, _ := strings.Cut(string(r.Stdout), "\n")
		if !toolName.MatchString(first) {
			out.Err = &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: fmt.Sprintf("%.80q is none of iptables' commands", first)}
			return out
		}
		saves[i] = parseSave(rest + "\n" + string(r.Stderr))
		saves[i].tool, saves[i].cut = first, r.Truncated
		if len(saves[i].tables)+len(saves[i].incompatible) > 0 {
			out.Read = append(out.Read, first+"-save")
		}
		out.Chains = append(out.Chains, saveChains(sources[i].family, saves[i])...)
	}
	if nft := res.Results[0]; nft.ExitCode != exitMissing {
		out.Read = append(out.Read, "nft list ruleset")
		out.Native = parseListing(string(nft.Stdout))
		for _, t := range out.Native {
			out.Chains = append(out.Chains, nativeChains(t, owners{saves: saves}.of(t), nft.Truncated)...)
		}
	}
	return out
}

// failure is the error of a command that could not read; a program that is not
// there is none.
func failure(host, what string, r sdk.Result) *sdk.Error {
	if r.Err != nil {
		err := *r.Err
		err.Host, err.Message = host, what+": "+err.Message
		return &err
	}
	if r.ExitCode == 0 || r.ExitCode == exitMissing || r.ExitCode == exitUnread {
		return nil
	}
	err := &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: fmt.Sprintf("%s failed with exit code %d", what, r.ExitCode), Stderr: string(r.Stderr)}
	return Explain(err)
}

// Explain gives an error that one of the tools made its kind and advice, from
// what the tool printed.
func Explain(err *sdk.Error) *sdk.Error {
	for _, text := range []string{"you must be root", "ermission denied", "peration not permitted"} {
		if strings.Contains(err.Stderr, text) {
			err.Kind = sdk.KindPermission
			err.Hint = "a packet filter is read and changed by root alone: log in as root there, or run the commands through sudo (-o ssh.sudo=true)"
		}
	}
	return err
}

// unread stands for the chains of iptables-legacy where it is not installed.
func unread(s source) Chain {
	return Chain{Tool: s.program + "-" + s.kind, Family: s.family, Table: "filter", Name: "INPUT", Type: "filter", Hook: "input",
		Level: MayDrop, Reason: "its tables are loaded, and it is not installed to read them"}
}

// saveChains are the base chains that one of the iptables-save programs shows.
func saveChains(family string, s save) []Chain {
	var list []Chain
	for _, t := range s.tables {
		if t.name == "nat" {
			continue // it decides about no connection
		}
		j := newJudge(t.chains)
		for _, c := range t.chains {
			if c.hook == "" {
				continue
			}
			f := j.base(c)
			if s.cut {
				f.raise(MayDrop, "the rules are more than could be read")
			}
			list = append(list, Chain{Owner: IPTables, Tool: s.tool, Family: family, Table: t.name, Name: c.name,
				Type: "filter", Hook: c.hook, Level: f.level, Reason: f.reason, SetBy: setBy(c.name, t.chains)})
		}
	}
	return list
}

// setBy tells from the chains' names which program made them.
func setBy(name string, chains []*chain) string {
	for _, c := range chains {
		switch {
		case strings.HasPrefix(c.name, "ufw-before-"), strings.HasPrefix(c.name, "ufw6-before-"):
			return "ufw"
		case c.name == name+"_ZONES":
			return "firewalld"
		}
	}
	return ""
}

// owner is who may change a table, as far as nft shows it.
type owner struct {
	name   string
	shared bool
	hidden func(chain string) bool // shown by iptables-save already
}

// owners decides it from what the iptables-save programs said.
type owners struct{ saves []save }

// builtin are the base chains that iptables-nft makes.
var builtin = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// of decides about one table: iptables-nft owns those that bear the names of
// its tables and chains, as long as it can read them itself.
func (o owners) of(t Table) owner {
	none := func(string) bool { return false }
	if t.owned {
		return owner{hidden: none}
	}
	i := slices.IndexFunc(sources, func(s source) bool { return s.kind == "nft" && s.family == t.Family })
	if i < 0 || !slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, t.Name) ||
		slices.Contains(o.saves[i].incompatible, t.Name) {
		return owner{name: NFTables, hidden: none}
	}
	shared := slices.ContainsFunc(t.Chains, func(c NativeChain) bool { return c.base && slices.Contains(builtin, c.Name) })
	return owner{name: NFTables, shared: shared, hidden: func(chain string) bool {
		return o.saves[i].tool != "" && slices.Contains(builtin, chain)
	}}
}

// nativeChains are the base chains of a table.
func nativeChains(t Table, who owner, cut bool) []Chain {
	if t.asleep {
		return nil
	}
	var all []*chain
	for i := range t.Chains {
		all = append(all, &t.Chains[i].chain)
	}
	j := newJudge(all)
	var list []Chain
	for i := range t.Chains {
		c := &t.Chains[i]
		if !c.base || who.hidden(c.Name) || !slices.Contains([]string{"ingress", "prerouting", "input", "output"}, c.chain.hook) {
			continue
		}
		f := j.base(&c.chain)
		if cut {
			f.raise(MayDrop, "the rules are more than could be read")
		}
		one := Chain{Owner: who.name, Tool: "nft", Family: t.Family, Table: t.Name, Name: c.Name,
			Type: c.chain.kind, Hook: c.chain.hook, Level: f.level, Reason: f.reason, Shared: who.shared}
		note := ""
		if who.shared && slices.Contains(builtin, c.Name) {
			one.Owner = "" // iptables-nft made it, and is not here
			note = "; it bears the name of a chain of iptables, which is not installed"
		}
		if t.owned {
			note = "; its table may be changed by the process that made it, and by nobody else"
		}
		if one.Level > Passes {
			one.Reason += note
		}
		if strings.HasPrefix(t.Name, "firewalld") {
			one.SetBy = "firewalld"
		}
		list = append(list, one)
	}
	return list
}

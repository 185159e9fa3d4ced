package netfilter

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Alive is the shell function `over ID EXPIRY` for the scripts that sweep.
//
//go:embed alive.sh
var Alive string

// changeTime is what a host has for a script that changes rules: iptables may
// have to wait for its lock more than once.
const changeTime = time.Minute

// Script makes the command that runs a script of sh on a host. Its arguments
// are never part of its text.
func Script(text string, args ...string) sdk.Command {
	c := command(append([]string{"sh", "-c", bare(text), "transferpy"}, args...)...)
	c.Timeout = changeTime
	return c
}

// bare is a script without its comments and empty lines, as it goes to hosts
// and into logs.
func bare(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if words := strings.TrimSpace(line); words != "" && !strings.HasPrefix(words, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// undo makes the undo of firewall's rules for these ports of a transfer; its
// commands are remove. It has one name for the same ports, so that to open
// them again adds none.
func undo(firewall string, id string, ports []int, remove sdk.Command) sdk.Undo {
	list := Decimal(ports)
	return sdk.Undo{
		ID:       "firewall-" + firewall + "-" + strings.Join(list, "-"),
		What:     fmt.Sprintf("remove the %s rules of %s for port %s", firewall, id, strings.Join(list, ", ")),
		When:     sdk.WhenEnd,
		Commands: []sdk.Command{remove},
	}
}

// Decimal writes ports as arguments.
func Decimal(ports []int) []string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = strconv.Itoa(p)
	}
	return list
}

// Failed is the error of a change on one host, or nil.
func Failed(what string, res sdk.HostResults) *sdk.Error {
	if res.Err != nil {
		err := *res.Err
		err.Host, err.Message = res.Host, what+": "+err.Message
		return &err
	}
	for _, r := range res.Results {
		switch {
		case r.Err != nil:
			return Failed(what, sdk.HostResults{Host: res.Host, Err: r.Err})
		case r.ExitCode != 0:
			return Explain(&sdk.Error{Kind: sdk.KindInternal, Host: res.Host, Stderr: string(r.Stderr),
				Message: fmt.Sprintf("%s: exit code %d: %s", what, r.ExitCode, lastLine(r.Stderr))})
		}
	}
	return nil
}

// lastLine is the last line of a tool's complaint that says something.
func lastLine(stderr []byte) string {
	last := "it said nothing"
	for line := range strings.Lines(string(stderr)) {
		if line = strings.TrimSpace(line); line != "" && strings.Trim(line, "^~ ") != "" {
			last = line
		}
	}
	return clip(last)
}

// ByHost gathers the ports of rules, whose IDs begin with them, by host in the
// order of their first rule.
func ByHost(rules []sdk.Rule) ([]HostHoles, error) {
	var hosts []HostHoles
	index := map[string]int{}
	for _, r := range rules {
		first, _, _ := strings.Cut(r.ID, " ")
		port, err := strconv.Atoi(first)
		if err != nil || port < 1 || port > 65535 {
			return nil, &sdk.Error{Kind: sdk.KindConfig, Host: r.Host, Message: fmt.Sprintf("%.80q is no rule that this firewall has made", r.ID)}
		}
		i, ok := index[r.Host]
		if !ok {
			i = len(hosts)
			index[r.Host] = i
			hosts = append(hosts, HostHoles{Host: r.Host})
		}
		hosts[i].add(Hole{Port: port})
	}
	return hosts, nil
}

package main

import (
	"fmt"
	"io"

	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/plugins/executors/cumin"
	"github.com/transferpy/transferpy/plugins/executors/local"
	"github.com/transferpy/transferpy/plugins/executors/salt"
	"github.com/transferpy/transferpy/plugins/executors/ssh"
	"github.com/transferpy/transferpy/plugins/firewalls/iptables"
	"github.com/transferpy/transferpy/plugins/firewalls/nftables"
	"github.com/transferpy/transferpy/plugins/firewalls/none"
	"github.com/transferpy/transferpy/plugins/modes/decompress"
	"github.com/transferpy/transferpy/plugins/modes/file"
	"github.com/transferpy/transferpy/plugins/modes/xtrabackup"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin"
)

// serveCommand is the hidden command by which this program serves a plugin
// that it carries: `transferpy __plugin KIND NAME`, started by core/pluginhost
// and by nobody else.
const serveCommand = "__plugin"

// bundled are the plugins that this program carries.
func bundled() []sdk.Plugin {
	return []sdk.Plugin{
		cumin.New(),
		local.New(),
		salt.New(),
		ssh.New(),
		file.New(),
		decompress.New(),
		xtrabackup.New(),
		iptables.New(),
		nftables.New(),
		none.New(),
	}
}

// bundledNames are the bundled plugins as "KIND/NAME".
func bundledNames() []string {
	var names []string
	for _, p := range bundled() {
		about := p.Describe()
		names = append(names, string(about.Kind)+"/"+about.Name)
	}
	return names
}

// autoFirewalls are the firewalls that --firewall auto chooses from.
func autoFirewalls() []string {
	var names []string
	for _, p := range bundled() {
		if about := p.Describe(); about.Kind == sdk.KindFirewall && about.Name != transfer.FirewallNone {
			names = append(names, about.Name)
		}
	}
	return names
}

// serveBundled serves one bundled plugin until the core is done with it.
func serveBundled(args []string, stderr io.Writer) int {
	if len(args) == 2 {
		for _, p := range bundled() {
			if about := p.Describe(); string(about.Kind) == args[0] && about.Name == args[1] {
				plugin.Serve(p)
				return transfer.ExitOK
			}
		}
	}
	fmt.Fprintf(stderr, "transferpy: %s is for transferpy itself: it serves one of the bundled plugins\n", serveCommand)
	return transfer.ExitUsage
}

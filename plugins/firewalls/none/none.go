// Package none is the firewall plugin for sites that need no hole opened, or
// open it themselves: it looks at nothing and changes nothing.
package none

import (
	"context"

	"github.com/transferpy/transferpy/sdk"
)

type firewall struct{}

// New returns the firewall. It has no configuration and no state.
func New() sdk.Firewall { return firewall{} }

// Describe implements sdk.Plugin.
func (firewall) Describe() sdk.Description {
	return sdk.Description{
		Kind:    sdk.KindFirewall,
		Name:    "none",
		Version: sdk.Version,
		Summary: "changes no firewall: ports must be open already",
	}
}

// Configure implements sdk.Plugin.
func (firewall) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

// Detect reports, without asking the hosts, that nothing of this plugin's
// filters there.
func (firewall) Detect(_ context.Context, hosts []string, _ sdk.Host) ([]sdk.Filter, error) {
	filters := make([]sdk.Filter, len(hosts))
	for i, host := range hosts {
		filters[i] = sdk.Filter{
			Host: host,
			What: "none",
			Why:  "firewall none looks at no host; whether the port is reachable shows when the agents connect",
		}
	}
	return filters, nil
}

// Open makes no rule.
func (firewall) Open(context.Context, string, []sdk.Hole, sdk.Host) ([]sdk.Rule, error) {
	return nil, nil
}

// Close has nothing to remove.
func (firewall) Close(context.Context, string, []sdk.Rule, sdk.Host) error { return nil }

// Sweep has nothing to remove.
func (firewall) Sweep(context.Context, []string, sdk.Host) ([]sdk.Rule, error) { return nil, nil }

package plugintest

import (
	"testing"
	"time"

	"github.com/transferpy/transferpy/plugins/firewalls/none"
	"github.com/transferpy/transferpy/sdk"
)

func TestFirewallInProcess(t *testing.T) {
	Firewall(t, none.New(), FirewallCase{Holes: []sdk.Hole{
		{Host: "db2", Port: 4400, Sources: []string{"192.0.2.1", "2001:db8::1"}, Expiry: time.Now().Add(time.Hour)},
	}})
}

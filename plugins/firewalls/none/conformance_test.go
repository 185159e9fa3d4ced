package none

import (
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	plugintest.Firewall(t, New(), plugintest.FirewallCase{Holes: []sdk.Hole{
		{Host: "db2", Port: 4400, Sources: []string{"192.0.2.1", "2001:db8::1"}, Expiry: time.Now().Add(time.Hour)},
	}})
}

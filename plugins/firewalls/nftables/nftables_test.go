package nftables

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// TestHostWithoutTools has a host with nothing but a shell: there is nothing
// to open and nothing to sweep, and that is no error. What packets meet is
// tested in test/firewalls.
func TestHostWithoutTools(t *testing.T) {
	f := New()
	host := plugintest.NewHost("db1")
	empty := t.TempDir()
	host.Via = func(_ string, c sdk.Command) sdk.Command {
		c.Argv = append([]sdk.Raw{"env", "-i", sdk.Raw("PATH=" + empty)}, c.Argv...)
		c.Argv[3] = "/bin/sh"
		return c
	}
	filters, err := f.Detect(t.Context(), []string{"db1"}, host)
	if os.Getuid() != 0 && len(filters) == 1 && errors.Is(filters[0].Err, sdk.ErrPermission) {
		t.Skip("tables of iptables-legacy are loaded here: only root may look which")
	}
	if err != nil || len(filters) != 1 || filters[0].Filters || filters[0].Err != nil || !strings.Contains(filters[0].Why, "installed") {
		t.Errorf("Detect: %+v, %v", filters, err)
	}
	if rules, err := f.Sweep(t.Context(), []string{"db1"}, host); err != nil || len(rules) != 0 {
		t.Errorf("Sweep: %+v, %v", rules, err)
	}
}

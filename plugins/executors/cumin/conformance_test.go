package cumin

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/transferpy/transferpy/plugins/executors/sshdtest"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// configured writes a configuration by which the installed cumin reaches a
// real sshd under every name; more stands before what holds for all hosts in
// its ssh_config.
func configured(t *testing.T, more string) (config string) {
	t.Helper()
	if _, err := exec.LookPath("cumin"); err != nil {
		t.Skip("cumin is not installed: scripts/test-deps")
	}
	s := sshdtest.Start(t)
	conf := s.Config(t, "ssh_config", more)
	return s.Write(t, "config.yaml", fmt.Sprintf(`transport: clustershell
log_file: %s
default_backend: direct
clustershell:
  ssh_options:
    - '-F %s'
`, s.Path("cumin.log"), conf), 0o600)
}

func TestConformance(t *testing.T) {
	config := configured(t, fmt.Sprintf("Host refused\n  Port %d\nHost unknown\n  HostName no-such-host.invalid\n", sshdtest.FreePort(t)))
	plugintest.Executor(t, New(), plugintest.ExecutorCase{
		Config:      map[string][]string{"config": {config}},
		Good:        []string{"db1", "db2", "web-03.example.org"},
		Unreachable: "refused", Unknown: "unknown",
		Query: "D{db[9-11],web-03.example.org} and not D{db10}", Expanded: []string{"db11", "db9", "web-03.example.org"},
		Once: os.Getenv("PLUGINTEST_TWICE") == "", // half a second of Python a call
	})
}

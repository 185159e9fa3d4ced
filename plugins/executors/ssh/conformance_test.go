package ssh

import (
	"fmt"
	"io"
	"testing"

	"github.com/transferpy/transferpy/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	l := startSSHD(t)
	l.conf = l.config(t, "ssh_config", fmt.Sprintf("Host refused\n  Port %d\nHost unknown\n  HostName no-such-host.invalid\n", freePort(t)))
	e := New()
	t.Cleanup(func() { e.(io.Closer).Close() })
	plugintest.Executor(t, e, plugintest.ExecutorCase{
		Config:      map[string][]string{"config": {l.conf}},
		Good:        []string{"db1", "db2", "db3"},
		Unreachable: "refused", Unknown: "unknown",
	})
}

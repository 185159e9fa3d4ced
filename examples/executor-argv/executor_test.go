package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// siteRunner plays a site's home-grown program on this machine.
const siteRunner = `#!/bin/sh
# run --host HOST -- SCRIPT
[ "$1" = --host ] && [ "$3" = -- ] && [ $# = 4 ] || { echo "usage" >&2; exit 64; }
case $2 in
  web*) echo "*** $2: authorised use only ***"; exec sh -c "$4" ;;
  *) echo "no route to $2" >&2; exit 1 ;;
esac
`

// site is the case for the suite.
func site(t *testing.T) plugintest.ExecutorCase {
	run := filepath.Join(t.TempDir(), "run")
	if err := os.WriteFile(run, []byte(siteRunner), 0o755); err != nil {
		t.Fatal(err)
	}
	return plugintest.ExecutorCase{
		Config:      map[string][]string{"command": {run + "\n--host\n{host}\n--\n{script}"}},
		Good:        []string{"web1", "web2", "web3"},
		Unreachable: "db9",
	}
}

func TestConformance(t *testing.T) { plugintest.Executor(t, newExecutor(), site(t)) }

func TestConformanceOfTheProgram(t *testing.T) {
	path := plugintest.Build(t, ".", sdk.KindExecutor, "argv")
	plugintest.Executor(t, plugintest.Binary(t, path).(sdk.Executor), site(t))
}

func TestConfigureRefuses(t *testing.T) {
	for _, command := range [][]string{{"true", "{host}"}, {"true", "{script}"}, {"/no/such/run", "{host}", "{script}"}} {
		found, err := newExecutor().Configure(t.Context(), sdk.Values{"command": command, "at_once": {"8"}})
		if err != nil || len(found) != 1 || found[0].Field != "command" || found[0].Severity != sdk.SeverityError {
			t.Errorf("%q: %+v, %v", command, found, err)
		}
	}
}

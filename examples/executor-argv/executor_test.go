package main

import (
	"errors"
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
		Config: map[string][]string{
			"command": {run + "\n--host\n{host}\n--\n{script}"},
			"query":   {"printf\n%s2 %s1 %s1\n{query}\n{query}\n{query}"},
		},
		Good:        []string{"web1", "web2", "web3"},
		Unreachable: "db9",
		Query:       "web", Expanded: []string{"web1", "web2"},
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

func TestExpandRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		query []string
		kind  error
	}{
		"no program":          {nil, sdk.ErrUnsupported},
		"it fails":            {[]string{"false", "{query}"}, sdk.ErrConfig},
		"it prints no hosts":  {[]string{"printf", "%s", "web1 ../web2"}, sdk.ErrConfig},
		"it prints an option": {[]string{"printf", "%s", "-oProxyCommand=x"}, sdk.ErrConfig},
	} {
		e := &executor{query: tt.query}
		if hosts, err := e.Expand(t.Context(), "web"); !errors.Is(err, tt.kind) {
			t.Errorf("%s: %q, %v", name, hosts, err)
		}
	}
}

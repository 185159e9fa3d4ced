package salt

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// fake builds fakesalt and returns the setting command that runs it in a world
// of these fields.
func fake(t *testing.T, world map[string]any) []string {
	t.Helper()
	dir := t.TempDir()
	program, file := filepath.Join(dir, "salt"), filepath.Join(dir, "hosts.json")
	if out, err := exec.Command("go", "build", "-o", program, "./fakesalt").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	data, err := json.Marshal(world)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{program, file}
}

// here are minions that run what they are told on this machine.
func here(ids ...string) map[string][]string {
	minions := map[string][]string{}
	for _, id := range ids {
		minions[id] = nil
	}
	return minions
}

func TestConformance(t *testing.T) {
	command := fake(t, map[string]any{"Minions": here("db1.site", "db2.site", "db3.site", "web-1.site", "down.site"), "Down": []string{"down.site"}})
	plugintest.Executor(t, New(), plugintest.ExecutorCase{
		Config:      map[string][]string{"command": {command[0] + "\n" + command[1]}, "id": {"{host}.site"}},
		Good:        []string{"db1", "db2", "db3"},
		Unreachable: "down", Unknown: "db99",
		Query: "db* and not L@db2.site", Expanded: []string{"db1", "db3"},
	})
}

// configured is the executor over a fake.
func configured(t *testing.T, command []string, more sdk.Values) *executor {
	t.Helper()
	e := &executor{}
	values := sdk.Values{"command": command, "id": {"{host}"}}
	for k, v := range more {
		values[k] = v
	}
	if found, err := e.Configure(t.Context(), values); err != nil || len(found) > 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	return e
}

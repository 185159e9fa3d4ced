package main

import (
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// TestAnchorSecrets: the file of a secret is found from any directory, and
// what only looks like one is left alone.
func TestAnchorSecrets(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	values := map[string][]string{
		"password": {"@secret", "@/root/secret", "$PASSWORD"},
		"handle":   {"@somebody"},
	}
	req := &transfer.Request{PluginConfig: map[string]map[string][]string{"mode/x": values}}
	about := sdk.Description{Kind: sdk.KindMode, Name: "x", Fields: []sdk.Field{{Name: "password", Secret: true}, {Name: "handle"}}}
	if err := anchorSecrets(req, about); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"@" + filepath.Join(dir, "secret"), "@/root/secret", "$PASSWORD"} {
		if got := values["password"][i]; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := values["handle"][0]; got != "@somebody" {
		t.Errorf("a field that is no secret became %q", got)
	}
	if err := anchorSecrets(req, sdk.Description{Kind: sdk.KindExecutor, Name: "unknown", Fields: about.Fields}); err != nil {
		t.Error(err)
	}
}

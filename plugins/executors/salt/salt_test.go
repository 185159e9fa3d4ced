package salt

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// TestPutIsOneCall places an agent's size of bytes on several minions.
func TestPutIsOneCall(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	e := configured(t, fake(t, map[string]any{"Minions": here("db1", "db2"), "Log": log}), nil)
	dir := t.TempDir()
	file := sdk.File{Path: sdk.Raw(filepath.Join(dir, "f")), Mode: 0o700, Content: bytes.Repeat([]byte("\x00agent\xff\n"), 6<<20/8)}
	var good, taken int // both minions are this machine
	if err := e.Put(t.Context(), []string{"db1", "db2"}, file, func(r sdk.Result) {
		switch {
		case r.Err == nil:
			good++
		case errors.Is(r.Err, sdk.ErrExists):
			taken++
		default:
			t.Error(r.Err)
		}
	}); err != nil || good != 1 || taken != 1 {
		t.Errorf("%d good, %d taken, %v", good, taken, err)
	}
	if data, err := os.ReadFile(string(file.Path)); err != nil || !bytes.Equal(data, file.Content) {
		t.Errorf("%d bytes lie there, %v", len(data), err)
	}
	if data, _ := os.ReadFile(log); strings.Count(string(data), "\n") != 1 {
		t.Errorf("the calls were:\n%s", data)
	}
}

func TestMasterDown(t *testing.T) {
	e := configured(t, fake(t, map[string]any{"Minions": here("db1"), "MasterDown": true}), nil)
	if err := e.Run(t.Context(), []string{"db1"}, sdk.Command{Argv: []sdk.Raw{"true"}}, func(r sdk.Result) {
		if !errors.Is(r.Err, sdk.ErrUnreachable) || !strings.Contains(r.Err.Message, "master") {
			t.Errorf("%+v", r)
		}
	}); err != nil {
		t.Error(err)
	}
	if hosts, err := e.Expand(t.Context(), "db*"); err == nil {
		t.Errorf("Expand: %q", hosts)
	}
}

func TestExpand(t *testing.T) {
	e := configured(t, fake(t, map[string]any{"Minions": here("db1.x", "db2.x", "web1.x")}), sdk.Values{"id": {"{host}.x"}})
	for query, want := range map[string]string{"db*": "db1 db2", "web1.x,db1.x,nosuch": "db1 web1", "db* and not L@db1.x": "db2", "nosuch*": ""} {
		hosts, err := e.Expand(t.Context(), query)
		if err != nil || strings.Join(hosts, " ") != want {
			t.Errorf("%s: %q, %v", query, hosts, err)
		}
	}
	for _, bad := range []string{"", "--out=txt", "a\nb"} {
		if hosts, err := e.Expand(t.Context(), bad); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("%q: %q, %v", bad, hosts, err)
		}
	}
}

func TestConfigureRefuses(t *testing.T) {
	for field, values := range map[string]sdk.Values{
		"command": {"command": {"/no/such/salt"}},
		"id":      {"command": {"true"}, "id": {"minion"}},
		"timeout": {"command": {"true"}, "timeout": {"0"}},
	} {
		found, err := (&executor{}).Configure(t.Context(), values)
		if err != nil || len(found) != 1 || found[0].Field != field || found[0].Severity != sdk.SeverityError {
			t.Errorf("%s: %+v, %v", field, found, err)
		}
	}
}

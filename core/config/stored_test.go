package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRestore: what was stored stands over the file of today, and options over
// both.
func TestRestore(t *testing.T) {
	first, err := resolve(t, nil, []string{"ssh.port=2222", "ssh.password=@/root/secret"}, "[executor ssh]\nsudo = yes\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Operands([]string{"localhost:/a", "db2:/b"}); err != nil {
		t.Fatal(err)
	}
	s, err := resolve(t, nil, nil, "[DEFAULT]\nexecutor = local\n[executor ssh]\nport = 1\njump = x\n[executor salt]\ntimeout = 5s\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(first.Request, []string{"ssh.port=3333"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string][]string{
		"executor/ssh":  {"sudo": {"yes"}, "port": {"3333"}, "password": {"@/root/secret"}},
		"executor/salt": {"timeout": {"5s"}},
	}
	if diff := cmp.Diff(want, s.Plugins); diff != "" {
		t.Error(diff)
	}
	if s.Executor != "ssh" || s.Request.Targets[0].Host != "db2" {
		t.Errorf("%+v", s)
	}
	if err := s.Restore(first.Request, []string{"cumin.x=1"}); err == nil {
		t.Error("an option for a plugin of another run was taken")
	}
}

// TestUnusedExecutorIsNotStored: its section was never checked, so it may hold
// a secret in the open.
func TestUnusedExecutorIsNotStored(t *testing.T) {
	s, err := resolve(t, Flags{"plugin-dir": {"plugins"}}, nil, "[executor ssh]\npassword = in the open\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Operands([]string{"localhost:/a", "localhost:/b"}); err != nil {
		t.Fatal(err)
	}
	if len(s.Request.PluginConfig) != 0 {
		t.Errorf("stored: %v", s.Request.PluginConfig)
	}
	if dirs := s.Request.PluginDirs; len(dirs) != 1 || dirs[0][0] != '/' {
		t.Errorf("plugin directories: %v", dirs)
	}
}

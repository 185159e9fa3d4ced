package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

// site makes two groups, one volume with content, and the suite's case.
func site(t *testing.T) plugintest.ModeCase {
	root := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("vg0/mail/inbox/1", "From: a\n")
	write("vg0/mail/inbox/ two\nlines \xff", "From: b\n")
	write("vg1/taken/x", "mine")
	at := func(host, volume string) sdk.Endpoint { return sdk.Endpoint{Host: host, Path: sdk.Raw(volume)} }
	transfer := func(source string, targets ...string) sdk.Transfer {
		tr := sdk.Transfer{ID: "t1", Source: at("db1", source)}
		for _, v := range targets {
			tr.Targets = append(tr.Targets, at("db2", v))
		}
		return tr
	}
	return plugintest.ModeCase{
		Config:   map[string][]string{"root": {root}},
		Transfer: transfer("vg0/mail", "vg1/mail", "vg1/mail-copy"),
		Refused: []sdk.Transfer{
			transfer("vg0/missing", "vg1/mail"),
			transfer("vg0/mail", "vg9/mail"),
			transfer("vg0/mail", "vg1/taken"),
			transfer("/srv/mail", "vg1/mail"),
			transfer("vg0/mail", "vg1/../../etc"),
		},
		Check: func(t *testing.T, target int, committed bool) {
			name := filepath.Join(root, "vg1", []string{"mail", "mail-copy"}[target])
			if !committed {
				if _, err := os.Stat(name); err == nil {
					t.Errorf("%s is there after the abort", name)
				}
				return
			}
			for file, want := range map[string]string{"inbox/1": "From: a\n", "inbox/ two\nlines \xff": "From: b\n"} {
				if got, err := os.ReadFile(filepath.Join(name, file)); err != nil || string(got) != want {
					t.Errorf("%q: %q, %v", file, got, err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(root, "vg0", ".snapshot*")); len(left) > 0 {
				t.Errorf("a snapshot is left when the source is done: %q", left)
			}
		},
	}
}

func TestConformance(t *testing.T) { plugintest.Mode(t, newMode(), site(t)) }

func TestConformanceOfTheProgram(t *testing.T) {
	path := plugintest.Build(t, ".", sdk.KindMode, "volume")
	plugintest.Mode(t, plugintest.Binary(t, path).(sdk.Mode), site(t))
}

package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/transfer"
)

// resolve merges flags with a file's text.
func resolve(t *testing.T, flags Flags, options []string, text string) (*Settings, error) {
	t.Helper()
	file, err := Parse("test.conf", []byte(text))
	if err != nil {
		return nil, err
	}
	return Resolve(flags, options, file, false)
}

func TestBuiltInDefaults(t *testing.T) {
	s, err := resolve(t, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	want := transfer.Request{
		Mode: "file", Firewall: "auto", Compress: true, Codec: "auto", Encrypt: true, Verify: control.VerifyReadBack,
		Owner: "name", RetryFor: 3 * time.Minute, ControlLostFor: time.Hour, LinkTimeout: 30 * time.Second, Nice: 10,
	}
	if diff := cmp.Diff(want, s.Request); diff != "" {
		t.Error(diff)
	}
	if s.Executor != "ssh" || s.JSON || s.Verbose || s.Progress != "auto" || len(s.Warnings) > 0 {
		t.Errorf("%+v", s)
	}
	attended, err := Resolve(nil, nil, &File{}, true)
	if err != nil || attended.Request.ControlLostFor != 24*time.Hour {
		t.Errorf("at a terminal agents hold on for %s (%v)", attended.Request.ControlLostFor, err)
	}
}

func TestPrecedence(t *testing.T) {
	file := "[DEFAULT]\nport = 4444\nexecutor = cumin\nencrypt = no\nlimit_rate = 10M\nplugin_dir = /a, /b\nlimit_read = 20M\nnice = 5\n"
	s, err := resolve(t, Flags{"port": {"0"}, "encrypt": {"true"}, "limit-rate": {"50Mi"}}, nil, file)
	if err != nil {
		t.Fatal(err)
	}
	if s.Request.Port != 0 || !s.Request.Encrypt || s.Request.LimitRate != 52428800 {
		t.Errorf("a flag does not win over the file: %+v", s.Request)
	}
	if s.Request.LimitRead != 20e6 || s.Request.Nice != 5 {
		t.Errorf("the file's limits: %+v", s.Request)
	}
	if s.Executor != "cumin" || !slices.Equal(s.PluginDirs, []string{"/a", "/b"}) {
		t.Errorf("the file does not win over the built-in defaults: %+v", s)
	}
}

// TestVerification holds transfer.py's rules of what follows from what.
func TestVerification(t *testing.T) {
	on := []string{"true"}
	tests := []struct {
		name     string
		flags    Flags
		file     string
		verify   control.VerifyLevel
		compress bool
		stop     bool
		warnings int
	}{
		{"nothing", nil, "", control.VerifyReadBack, true, false, 0},
		{"flag parallel", Flags{"parallel-checksum": on}, "", control.VerifyReceived, true, false, 0},
		{"flag parallel beats the file's checksum", Flags{"parallel-checksum": on}, "checksum = yes\n", control.VerifyReceived, true, false, 0},
		{"both flags", Flags{"parallel-checksum": on, "checksum": on}, "", control.VerifyReadBack, true, false, 1},
		{"file's parallel, default checksum", nil, "parallel_checksum = True\n", control.VerifyReadBack, true, false, 1},
		{"file's parallel alone", nil, "parallel_checksum = True\nchecksum = False\n", control.VerifyReceived, true, false, 0},
		{"no checksum", Flags{"no-checksum": on}, "", control.VerifySigned, true, false, 0},
		{"xtrabackup", Flags{"type": {"xtrabackup"}}, "", control.VerifySigned, true, false, 0},
		{"xtrabackup with checksum", Flags{"type": {"xtrabackup"}, "checksum": on}, "", control.VerifyReadBack, true, false, 0},
		{"xtrabackup with the file's checksum", Flags{"type": {"xtrabackup"}}, "checksum = yes\n", control.VerifySigned, true, false, 0},
		{"xtrabackup parallel", Flags{"type": {"xtrabackup"}, "parallel-checksum": on}, "", control.VerifyReceived, true, false, 0},
		{"stop slave", Flags{"type": {"xtrabackup"}, "stop-slave": on}, "", control.VerifySigned, true, true, 0},
		{"stop slave for files", Flags{"stop-slave": on}, "", control.VerifyReadBack, true, false, 1},
		{"file's stop slave for files", nil, "stop_slave = True\n", control.VerifyReadBack, true, false, 0},
		{"decompress", Flags{"type": {"decompress"}, "no-compress": on}, "", control.VerifySigned, true, false, 1},
		{"no compress", Flags{"no-compress": on}, "", control.VerifyReadBack, false, false, 0},
		{"wikimedia", Flags{"type": {"xtrabackup"}, "compress": on, "no-encrypt": on, "no-checksum": on, "port": {"0"}, "stop-slave": on}, "", control.VerifySigned, true, true, 0},
	}
	for _, tt := range tests {
		s, err := resolve(t, tt.flags, nil, "[DEFAULT]\n"+tt.file)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		r := s.Request
		if r.Verify != tt.verify || r.Compress != tt.compress || r.StopSlave != tt.stop || len(s.Warnings) != tt.warnings {
			t.Errorf("%s: verify %s, compress %v, stop %v, warnings %q", tt.name, r.Verify, r.Compress, r.StopSlave, s.Warnings)
		}
		if !r.Compress && r.Codec != "none" {
			t.Errorf("%s: codec %s", tt.name, r.Codec)
		}
	}
}

func TestMistakes(t *testing.T) {
	tests := []struct {
		name    string
		flags   Flags
		options []string
		file    string
		want    []string // all of them in one error
	}{
		{"unknown key", nil, nil, "[DEFAULT]\ncompres = yes\n", []string{`test.conf, line 2: unknown key "compres"`, `did you mean "compress"?`}},
		{"two unknown keys", nil, nil, "[DEFAULT]\nfrobnicate = 1\nlimit_rat = 2\n", []string{`"frobnicate"`, "known: ", `"limit_rate"`}},
		{"nothing to do about slow targets", nil, nil, "[DEFAULT]\nslow_target = leave\n", []string{"slow_target", "detach, wait"}},
		{"unknown section", nil, nil, "[ssh]\nx = 1\n", []string{"line 1: section [ssh] is neither [DEFAULT]", "[executor NAME]"}},
		{"unknown kind", nil, nil, "[executer ssh]\nx = 1\n", []string{`unknown kind of plugin "executer"`, `"executor"`}},
		{"bad plugin name", nil, nil, "[mode Big]\nx = 1\n", []string{`"Big" is no plugin's name`}},
		{"flag-only key", nil, nil, "[DEFAULT]\nforce_live = yes\n", []string{"force_live cannot be set in the file", "--force-live"}},
		{"bad bool", nil, nil, "[DEFAULT]\nencrypt = maybe\n", []string{`test.conf, line 2: encrypt: "maybe" is neither yes nor no`}},
		{"bad port", Flags{"port": {"70000"}}, nil, "", []string{`--port: "70000" is no whole number from 0 to 65535`}},
		{"several", Flags{"port": {"x"}, "limit-rate": {"5Q"}, "control-lost-for": {"-1s"}}, nil, "", []string{"--port", "--limit-rate", "--control-lost-for"}},
		{"contradiction", Flags{"compress": {"true"}, "no-compress": {"true"}}, nil, "", []string{"--compress and --no-compress contradict each other"}},
		{"rate that would stall", Flags{"limit-rate": {"500"}, "limit-read": {"1"}}, nil, "", []string{`--limit-rate: "500" is less than 1000 bytes a second`, "--limit-read"}},
		{"nice", Flags{"nice": {"20"}}, nil, "", []string{`--nice: "20" is no whole number from 0 to 19`}},
		{"nicer than others", Flags{"nice": {"-5"}}, nil, "", []string{`--nice: "-5" is no whole number from 0 to 19`}},
		{"codec without compression", Flags{"no-compress": {"true"}, "codec": {"zstd"}}, nil, "", []string{"--codec zstd and --no-compress contradict"}},
		{"unknown codec", Flags{"codec": {"zst"}}, nil, "", []string{`--codec: "zst" is not known; did you mean "zstd"?`}},
		{"no firewall's name", Flags{"firewall": {"Auto"}}, nil, "", []string{"--firewall: \"Auto\" is no plugin's name"}},
		{"no host's firewall", nil, nil, "[DEFAULT]\nhost_firewall = db1", []string{"host_firewall", "HOST=NAME"}},
		{"two firewalls of a host", nil, nil, "[DEFAULT]\nhost_firewall = db1=none, db1=auto", []string{"host db1 has two firewalls"}},
		{"host's firewall without a name", nil, nil, "[DEFAULT]\nhost_firewall = db1=", []string{"is no plugin's name"}},
		{"bad network", Flags{"data-network": {"10.0.0.1"}}, nil, "", []string{`"10.0.0.1" is no network`}},
		{"bad owner", Flags{"owner": {"mysql"}}, nil, "", []string{`"mysql" is neither name, numeric nor USER:GROUP`}},
		{"option without dot", nil, []string{"sudo=true"}, "", []string{"-o sudo: not of the form PLUGIN.KEY=VALUE"}},
		{"option of another plugin", nil, []string{"shs.sudo=true"}, "", []string{`unknown plugin of this run "shs"`, `"ssh"`}},
		{"empty given", Flags{"executor": {""}}, nil, "", []string{"--executor"}},
		{"percent", nil, nil, "[DEFAULT]\nowner = 5%\n", []string{"test.conf, line 2: owner: a percent sign stands alone", "write %%"}},
	}
	for _, tt := range tests {
		_, err := resolve(t, tt.flags, tt.options, tt.file)
		if err == nil {
			t.Errorf("%s: taken", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", tt.name, err, want)
			}
		}
	}
}

func TestPluginValues(t *testing.T) {
	file := "[executor ssh]\nsudo = yes\nport = 22\n[executor salt]\ntimeout = 5s\n[mode file]\nx = %%h\n"
	s, err := resolve(t, nil, []string{"ssh.port=2222", "ssh.jump=a", "ssh.jump=b=c", "mode/file.y=1"}, file)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Operands([]string{"localhost:/a", "db2:/b"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string][]string{
		"executor/ssh": {"sudo": {"yes"}, "port": {"2222"}, "jump": {"a", "b=c"}},
		"mode/file":    {"x": {"%h"}, "y": {"1"}},
	}
	if diff := cmp.Diff(want, s.Request.PluginConfig); diff != "" {
		t.Error(diff)
	}
	if s.Plugins["executor/salt"]["timeout"][0] != "5s" {
		t.Error("the section of a plugin that is not used was lost")
	}
}

func TestOperands(t *testing.T) {
	s, err := resolve(t, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Operands([]string{"localhost:/a", "db2:/b", "db3:/b"}); err != nil {
		t.Fatal(err)
	}
	if s.Request.Source.Executor != "local" || s.Request.Targets[1] != (transfer.Endpoint{Executor: "ssh", Host: "db3", Path: "/b"}) {
		t.Errorf("%+v", s.Request)
	}
	for _, bad := range [][]string{{"a:/b"}, {"a:/b", "c"}, {"a:/b", "c:/d", "c:/d"}} {
		if err := s.Operands(bad); err == nil {
			t.Errorf("%q: taken", bad)
		}
	}
}

func TestLoad(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.conf")
	if _, err := Load(missing, false); err != nil {
		t.Errorf("a missing default file: %v", err)
	}
	if _, err := Load(missing, true); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing --config file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "t.conf")
	if err := os.WriteFile(path, []byte("[DEFAULT]\nport = 4401\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Load(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Resolve(nil, nil, f, false); err != nil || s.Request.Port != 4401 {
		t.Errorf("port %d, %v", s.Request.Port, err)
	}
}

// TestCompressLevel: a level goes with a codec that is named.
func TestCompressLevel(t *testing.T) {
	for _, tt := range []struct {
		name     string
		flags    Flags
		file     string
		level    int
		warnings int
		refused  string // part of the error
	}{
		{"nothing", nil, "", 0, 0, ""},
		{"flags", Flags{"codec": {"zstd"}, "compress-level": {"2"}}, "", 2, 0, ""},
		{"file", nil, "codec = minlz\ncompress_level = 3\n", 3, 0, ""},
		{"flag over file", Flags{"compress-level": {"1"}}, "codec = minlz\ncompress_level = 3\n", 1, 0, ""},
		{"too high", Flags{"codec": {"zstd"}, "compress-level": {"4"}}, "", 0, 0, `--compress-level: "4" is no whole number from 1 to 3`},
		{"too low", Flags{"codec": {"zstd"}, "compress-level": {"0"}}, "", 0, 0, `"0" is no whole number`},
		{"auto", Flags{"compress-level": {"2"}}, "", 0, 0, "the codec auto has no levels"},
		{"none", Flags{"codec": {"none"}, "compress-level": {"2"}}, "", 0, 0, "the codec none has no levels"},
		{"file, auto", nil, "compress_level = 2\n", 0, 0, "test.conf, line 2: compress_level: the codec auto has no levels"},
		{"file, another codec by flag", Flags{"codec": {"auto"}}, "codec = zstd\ncompress_level = 2\n", 0, 1, ""},
		{"no compression", Flags{"no-compress": {"true"}}, "codec = zstd\ncompress_level = 2\n", 0, 1, ""},
	} {
		s, err := resolve(t, tt.flags, nil, "[DEFAULT]\n"+tt.file)
		switch {
		case tt.refused != "":
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.refused)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case s.Request.CodecLevel != tt.level || len(s.Warnings) != tt.warnings:
			t.Errorf("%s: level %d, warnings %q", tt.name, s.Request.CodecLevel, s.Warnings)
		}
	}
}

// TestCodecs holds the list of --codec against what the agents know.
func TestCodecs(t *testing.T) {
	if !slices.Equal(codecs, codec.Names()) {
		t.Errorf("--codec takes %q, agents know %q", codecs, codec.Names())
	}
	if control.CodecLevels != codec.Levels {
		t.Errorf("--compress-level goes to %d, the codecs' to %d", control.CodecLevels, codec.Levels)
	}
}

package ssh

import (
	"os"
	"slices"
	"testing"
)

func TestParseHop(t *testing.T) {
	for name, want := range map[string]hop{
		"db1":               {host: "db1"},
		"db1.example.org":   {host: "db1.example.org"},
		"root@db1":          {user: "root", host: "db1"},
		"2001:db8::1":       {host: "2001:db8::1"},
		"::1":               {host: "::1"},
		"fe80::1%eth0":      {host: "fe80::1%eth0"},
		"-oProxyCommand=id": {}, "": {}, "a b": {}, "a\nb": {}, "a/b": {}, "@db1": {}, "-x@db1": {}, "root@-x": {}, "db1;id": {}, "a@b@c": {}, "\xff": {},
	} {
		got, err := parseHop(name)
		if got != want || (err == nil) != (want.host != "") {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
}

func TestParseJump(t *testing.T) {
	for spec, want := range map[string]hop{
		"j":            {host: "j"},
		"u@j:2222":     {user: "u", host: "j", port: 2222},
		"u@[::1]:22":   {user: "u", host: "::1", port: 22},
		"::1":          {host: "::1"},
		"ssh://u@j:33": {user: "u", host: "j", port: 33},
		"-x":           {}, "j:x": {}, "j:70000": {}, "": {}, "u@": {},
	} {
		got, err := parseJump(spec)
		if got != want || (err == nil) != (want.host != "") {
			t.Errorf("%q: %+v, %v", spec, got, err)
		}
	}
}

func TestParseSettings(t *testing.T) {
	t.Setenv("HOME", "/home/op")
	t.Setenv("SSH_AUTH_SOCK", "/run/agent")
	s, err := parseSettings("hostname db1.example.org\nport 2222\nuser bob\nidentityfile ~/my key\nidentityfile /k/%r@%h:%p%%\n"+
		"userknownhostsfile /home/op/k h ~/second\nglobalknownhostsfile /etc/ssh/ssh_known_hosts\nstricthostkeychecking ask\n"+
		"connecttimeout none\nserveraliveinterval 5\nproxyjump none\nidentityagent SSH_AUTH_SOCK\n", "db1")
	if err != nil {
		t.Fatal(err)
	}
	if s.hostName != "db1.example.org" || s.port != 2222 || s.user != "bob" || s.proxyJump != "" || s.identityAgent != "/run/agent" ||
		s.strictHostKeys != "yes" || s.connectTimeout != defaultConnectTimeout || s.aliveInterval != 5e9 {
		t.Errorf("got %+v", s)
	}
	if want := []string{"/home/op/my key", "/k/bob@db1.example.org:2222%"}; !slices.Equal(s.identityFiles, want) {
		t.Errorf("identity files %q", s.identityFiles)
	}
	if want := []string{"/home/op/k h", "/home/op/second", "/etc/ssh/ssh_known_hosts"}; !slices.Equal(s.knownHosts, want) {
		t.Errorf("known hosts %q", s.knownHosts)
	}
	if _, err := parseSettings("identityfile /k/%Z\n", "db1"); err == nil {
		t.Error("an unknown token was taken")
	}
	if s, _ := parseSettings("identityagent none\n", "db1"); s.identityAgent != "" {
		t.Errorf("agent %q in spite of none", s.identityAgent)
	}
}

// FuzzParseSettings holds that whatever ssh -G prints is taken or refused,
// with limits in force.
func FuzzParseSettings(f *testing.F) {
	f.Add("hostname a\nport 22\nserveralivecountmax -1\n")
	f.Add("userknownhostsfile \nidentityfile %\nidentityagent $\n")
	os.Setenv("HOME", "/home/op")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSettings(text, "db1")
		if err == nil && (s.connectTimeout <= 0 || s.aliveCount < 1 || s.aliveInterval < 0) {
			t.Fatalf("no bound: %+v", s)
		}
	})
}

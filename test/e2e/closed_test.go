package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/transferpy/transferpy/test/lab"
)

// asNobody runs a script on a host as a user who has no part in anything.
func (r *rig) asNobody(host, script string) string {
	r.t.Helper()
	return r.sh(host, "setpriv --reuid=65534 --regid=65534 --clear-groups -- sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"' 2>&1 || true")
}

// TestClosedToOthers: while a transfer runs, another user of its hosts can
// neither read nor enter, nor speak with, anything of it: staging directories,
// agents' state and sockets, journal, record, logs, plugins' sockets.
func TestClosedToOthers(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	j := r.start(nil, "--limit-rate", "6M", "db1:/srv/data", "db2:/srv/in")
	j.moving("db2", "/srv/in")
	places := map[string][]string{
		"db1":       {"/var/lib/transferpy"},
		"db2":       {"/var/lib/transferpy", "/srv/in/.transferpy-*"},
		lab.Control: {"/var/lib/transferpy", "/var/lib/transferpy/control", "/tmp/tpy-*", "/run/user/0/tpy-*"},
	}
	entered := 0
	for host, list := range places {
		for _, pattern := range list {
			found, err := filepath.Glob(r.path(host, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range found {
				entered++
				inside := "/" + strings.TrimPrefix(path, r.path(host, "/"))
				if got := r.asNobody(host, `cd "`+inside+`" && echo entered; find "`+inside+`" -mindepth 1`); strings.Contains(got, "entered") || strings.Count(got, "\n") > 2 {
					t.Errorf("%s:%s is open to nobody:\n%s", host, inside, got)
				}
				r.closedBelow(host, path)
			}
		}
	}
	if entered < 5 {
		t.Errorf("only %d places were found", entered)
	}
	// Not even by the name of a socket that somebody has told.
	sockets, err := filepath.Glob(r.path("db2", "/var/lib/transferpy/run/*/*/ctl.sock"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets: %v, %v", sockets, err)
	}
	socket := "/" + strings.TrimPrefix(sockets[0], r.path("db2", "/"))
	if got := r.asNobody("db2", `python3 -c "import socket; socket.socket(socket.AF_UNIX).connect(\"`+socket+`\")"; echo "code $?"`); strings.Contains(got, "code 0") || !strings.Contains(got, "Permission denied") {
		t.Errorf("the socket says %q", got)
	}
	j.wants(0)
	r.clean()
}

// closedBelow holds that all below a directory is its owner's alone, but for
// the copy itself, whose modes are the source's, and programs.
func (r *rig) closedBelow(host, root string) {
	r.t.Helper()
	err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if os.IsNotExist(err) {
			return nil // files come and go while we look
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 && info.Mode()&os.ModeSymlink == 0 && !strings.Contains(path, "/data/") && info.Mode()&os.ModeSocket == 0 {
			r.t.Errorf("%s:%s has mode %v", host, strings.TrimPrefix(path, r.path(host, "")), info.Mode())
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

// TestRacedNames: who owns the target directory takes away what is staged there
// and puts links in its place, again and again; nothing is written where they
// lead, and nothing is published through them.
func TestRacedNames(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	r.sh("db2", "chown op: /srv/in && mkdir -m 755 /srv/trap && install -d -o op /srv/mine")
	racer := r.Cmd("db2", "setpriv", "--reuid=2000", "--regid=2000", "--clear-groups", "--", "sh", "-c", `
n=0
while :; do
	for d in /srv/in/.transferpy-*; do
		[ -e "$d" ] && [ ! -L "$d" ] || continue
		n=$((n+1))
		mv -T "$d" "/srv/in/away-$n" && ln -s /srv/trap "$d"
	done
	sleep 0.02
done`)
	if err := racer.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- racer.Wait() }()
	j := r.start(nil, "--limit-rate", "20M", "db1:/srv/data", "db2:/srv/in")
	res := j.wait()
	r.sh("db2", "pkill -u op sleep; pkill -u op sh; true")
	<-ended
	// Who comes after the agent's last look moves an empty directory away.
	if there := r.sh("db2", "test -e /srv/in/data && echo there || true") != ""; there != (res.code == 0) {
		t.Errorf("exit code %d, and that there is a copy is %t:\n%s", res.code, there, res.said())
	}
	if got := r.sh("db2", "ls -A /srv/trap"); got != "" {
		t.Errorf("where the links lead there is %q now", got)
	}
	if got := r.sh("db2", "stat -c '%U %a' /srv/trap; ls -d /srv/in/away-* | head -n 1"); got != "root 755\n/srv/in/away-1" {
		t.Errorf("the trap, and what was taken away, are %q now", got)
	}
	if r.sh("db2", "test -e /srv/in/data && echo there || true") != "" {
		r.same("db1", "/srv/data", "db2", "/srv/in/data")
	}
}

// dangerous finds what a terminal or a log would take for a command.
func dangerous(text string) string {
	for line := range strings.Lines(text) {
		for _, c := range strings.TrimSuffix(line, "\n") {
			if unicode.IsControl(c) && c != '\t' || c == '\u202e' {
				return fmt.Sprintf("%q", line)
			}
		}
	}
	return ""
}

// TestHostileHost: a host that answers every command with escape sequences, on
// both streams, gets none of them to the terminal or into a log: not in words,
// tables, JSON or errors; nor does a path that nobody has.
func TestHostileHost(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	r.sh("db2", `key=$(cat /root/.ssh/authorized_keys) && printf '#!/bin/sh
printf "\033]0;owned\007\033[2J\233 31m\302\233 31m\342\200\256 out \r\n"
printf "\033]52;c;owned\007\033[?1049h err\177\n" >&2
exit 3
' >/root/liar && chmod 755 /root/liar && printf 'command="/root/liar" %s\n' "$key" >/root/.ssh/authorized_keys`)
	odd := "/srv/\x1b[2J\x1b]0;x\x07\u202e\u009b31m"
	for _, args := range [][]string{
		{"db1:/srv/data", "db2:/srv/in"},
		{"--output", "json", "db1:/srv/data", "db2:/srv/in"},
		{"--verbose", "--plugin-debug", "--dry-run", "db1:/srv/data", "db2:/srv/in"},
		{"db1:" + odd, "db1:/srv"},
		{"--output", "json", "db1:" + odd, "db1:/srv"},
		{"--reason", odd, "db1:/srv/data", "db1:" + odd},
		{"exec", "db1", "db2", "--", "true"},
		{"exec", "--output", "json", "db2", "--", "true"},
		{"doctor", "--no-rate", "db1", "db2"},
		{"doctor", "--no-rate", "--output", "json", "db1", "db2:" + odd},
		{"list", "--all"},
		{"list", "--all", "--output", "json"},
	} {
		res := r.start(nil, args...).wait()
		if found := dangerous(res.said()); found != "" {
			t.Errorf("%q printed %s", args, found)
		}
		if strings.Contains(strings.Join(args, " "), "db2") && res.code == 0 {
			t.Errorf("%q: a host that only lies, and exit code 0", args)
		}
	}
	r.liarAgent()
	read := 0
	r.eachWritten(func(where string, text []byte) {
		if strings.HasPrefix(where, lab.Control+":var/lib/transferpy/control/") {
			read++
			if found := dangerous(string(text)); found != "" {
				t.Errorf("%s holds %s", where, found)
			}
		}
	})
	if read < 5 {
		t.Errorf("only %d logs were found", read)
	}
}

// liarAgent replaces the agent of db2, whose digest tool lies too, by one that
// answers in perfect form, and holds that nothing of it reaches a terminal.
func (r *rig) liarAgent() {
	r.t.Helper()
	r.sh("db2", `sed -i 's/^command="[^"]*" //' /root/.ssh/authorized_keys && mkdir /srv/ok`)
	r.transferpy(0, "--dry-run", "db1:/srv/data", "db2:/srv/ok")
	r.sh("db2", `printf '#!/bin/sh
f=$(readlink /proc/self/fd/0); echo "${f##*-}  -"
' >/usr/local/bin/sha256sum && chmod 755 /usr/local/bin/sha256sum
for a in /var/lib/transferpy/agents/transferpy-agent-*; do cat >"$a.x" <<'END' && chmod 700 "$a.x" && mv "$a.x" "$a"; done
#!/bin/sh
printf '%s\n' '{"v":1,"error":{"kind":"internal","message":"\u001b[2J lies \u009b31m\u202e","hint":"\u0007 \u007f","stderr":"\u001b]0;x\u0007\nx"}}'
END`)
	for _, args := range [][]string{{"db1:/srv/data", "db2:/srv/ok"}, {"--output", "json", "db1:/srv/data", "db2:/srv/ok"}, {"doctor", "--no-rate", "db2"}, {"list", "--all"}} {
		res := r.start(nil, args...).wait()
		if found := dangerous(res.said()); found != "" {
			r.t.Errorf("%q printed %s", args, found)
		}
		if args[0] != "list" && (res.code == 0 || !strings.Contains(res.said(), "lies")) {
			r.t.Errorf("%q: exit code %d\n%s", args, res.code, res.said())
		}
	}
}

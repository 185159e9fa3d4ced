package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/transferpy/transferpy/test/lab"
)

// The commands that scripts have beside testscript's own:
//
//	lab N [SRVSIZE]         make the lab; first of all
//	host HOST SCRIPT        run a shell script on a host; ! wants it to fail
//	tp [-code N] [-user U] ARGS...
//	                        run transferpy on ctl; the exit code must be N (0)
//	says REGEXP             the last transferpy printed that, on either stream
//	start NAME ARGS...      start transferpy and go on
//	moving NAME HOST:DIR [MIB]
//	                        wait until NAME has staged bytes, or so many MiB, in DIR
//	signal NAME INT|TERM|HUP|KILL|STOP|CONT
//	finish NAME CODE        wait for NAME and its exit code
//	tree HOST:PATH [MIB]    make the odd tree, or one of so many files of 1 MiB
//	same HOST:A HOST:B      compare: bytes, types, modes, owners, times, links
//	absent HOST:PATH...     there must be nothing
//	remember HOST:PATH      note the state of a tree, inodes and ctimes included
//	unchanged HOST:PATH     it must be as remembered
//	done HOST=CODE...       the last line of stdout is the done event, with these targets
//	wire HOST LEAST MOST    it says that so many bytes went to HOST on the wire (1k is 1024)
//	id                      set $ID to the transfer that the last transferpy names first
//	capture VAR REGEXP      set $VAR to what REGEXP's group matches of the last stdout
//	killagents HOST         kill -9 the agents of a host
//	plugins EXAMPLE...      build these examples; $PLUGINS is their directory on ctl
//	cut HOST, mend HOST     take a host off the network, and back
//	sshd HOST down|up       end a host's sshd with all of its sessions, and start it again
//	install HOST            put a copy of transferpy there as /usr/local/bin/transferpy
//	datanetwork             give every dbN an eth1 in a data network: 10.98.0.N, fd00:98::N
//	backend cumin|salt [down]
//	                        have ctl's transferpy use it, or have it fail
//	mariadb HOST DATADIR ID start a MariaDB at /run/mysqld/mysqld.sock, with this server id
//	clean [HOST...]         nothing of transferpy is left there but the agent's program
//
// Variables of the script that begin with TRANSFERPY_TEST_ reach transferpy.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	list := map[string]func(*script, bool, []string){
		"host": (*script).host, "tp": (*script).tp, "start": (*script).start, "moving": (*script).moving,
		"signal": (*script).signal, "finish": (*script).finish, "tree": (*script).tree, "same": (*script).same,
		"absent": (*script).absent, "remember": (*script).remember, "unchanged": (*script).unchanged,
		"done": (*script).done, "clean": (*script).clean, "cut": (*script).cut, "mend": (*script).mend,
		"says": (*script).says, "plugins": (*script).plugins, "wire": (*script).wire, "id": (*script).id,
		"capture": (*script).capture,
		"backend": (*script).backend, "killagents": (*script).killAgents, "datanetwork": (*script).dataNetwork,
		"sshd": (*script).sshd, "install": (*script).install, "mariadb": (*script).mariadb,
	}
	cmds := map[string]func(*testscript.TestScript, bool, []string){"lab": makeLab}
	for name, run := range list {
		cmds[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			s := ts.Value(scriptKey{}).(*script)
			if s.rig == nil {
				ts.Fatalf("a script begins with `lab N`")
			}
			s.ts = ts
			run(s, neg, args)
		}
	}
	return cmds
}

// scriptKey finds a script's state.
type scriptKey struct{}

// script is the state of one script.
type script struct {
	*rig
	ts         *testscript.TestScript
	tb         testing.TB
	jobs       map[string]*job
	remembered map[string]string
}

func TestScripts(t *testing.T) {
	if err := lab.Available(); err != nil && os.Getenv("LAB_REQUIRED") != "1" {
		t.Skip(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:       "testdata",
		Cmds:      commands(),
		Condition: condition,
		Setup: func(e *testscript.Env) error {
			e.Values[scriptKey{}] = &script{tb: e.T().(testing.TB), jobs: map[string]*job{}, remembered: map[string]string{}}
			return nil
		},
	})
}

func makeLab(ts *testscript.TestScript, _ bool, args []string) {
	s := ts.Value(scriptKey{}).(*script)
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: lab N [SRVSIZE]")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	o := lab.Options{Hosts: n}
	if len(args) == 2 {
		o.SrvSize = args[1]
	}
	s.rig = newRig(s.tb, o)
}

// place cuts HOST:PATH.
func (s *script) place(text string) (host, path string) {
	host, path, ok := strings.Cut(text, ":")
	if !ok {
		s.ts.Fatalf("%q is not HOST:PATH", text)
	}
	return host, path
}

// args checks the number of arguments; most < 0 is without bound.
func (s *script) args(usage string, args []string, least, most int) {
	if len(args) < least || most >= 0 && len(args) > most {
		s.ts.Fatalf("usage: %s", usage)
	}
}

func (s *script) host(neg bool, args []string) {
	s.args("host HOST SCRIPT", args, 2, 2)
	ctx, cancel := context.WithTimeout(s.tb.Context(), patience)
	defer cancel()
	out, err := s.Run(ctx, args[0], "sh", "-c", args[1])
	fmt.Fprint(s.ts.Stdout(), out)
	if neg != (err != nil) {
		s.ts.Fatalf("host %s: %v", args[0], err)
	}
}

// environ are the variables that change transferpy for tests.
func (s *script) environ() []string {
	var env []string
	for _, name := range []string{"TRANSFERPY_TEST_LEASE", "TRANSFERPY_TEST_CHECKPOINT", "TRANSFERPY_TEST_EXPIRY"} {
		if value := s.ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// code takes -code N off the arguments.
func (s *script) code(args []string) (int, []string) {
	if len(args) >= 2 && args[0] == "-code" {
		n, err := strconv.Atoi(args[1])
		s.ts.Check(err)
		return n, args[2:]
	}
	return 0, args
}

func (s *script) tp(_ bool, args []string) {
	code, args := s.code(args)
	argv := []string{"transferpy"}
	if len(args) >= 2 && args[0] == "-user" {
		user := args[1]
		argv = []string{"setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups", "--",
			"env", "-C", "/", "HOME=/home/" + user, "USER=" + user, "LOGNAME=" + user, "transferpy"}
		args = args[2:]
	}
	s.expect(s.rig.startArgv(s.environ(), append(argv, args...)...), code)
}

// expect waits for a job and hands its output to the script.
func (s *script) expect(j *job, code int) {
	select {
	case <-j.done:
	case <-time.After(patience):
		s.ts.Fatalf("it does not end\n%s", j.transcript())
	}
	fmt.Fprint(s.ts.Stdout(), j.stdout.String())
	fmt.Fprint(s.ts.Stderr(), j.stderr.String())
	if got := exitCode(j.cmd.ProcessState); got != code {
		s.ts.Fatalf("exit code %d, want %d", got, code)
	}
}

// says is for what people read: the report is standard output, what happens
// meanwhile standard error.
func (s *script) says(neg bool, args []string) {
	s.args("says REGEXP", args, 1, 1)
	re, err := regexp.Compile("(?m)" + args[0])
	s.ts.Check(err)
	if re.MatchString(s.ts.ReadFile("stdout")+"\n"+s.ts.ReadFile("stderr")) == neg {
		s.ts.Fatalf("it says %q: %v, want %v", args[0], neg, !neg)
	}
}

func (s *script) start(_ bool, args []string) {
	s.args("start NAME ARGS...", args, 2, -1)
	s.jobs[args[0]] = s.rig.start(s.environ(), args[1:]...)
}

func (s *script) job(name string) *job {
	j := s.jobs[name]
	if j == nil {
		s.ts.Fatalf("nothing was started as %q", name)
	}
	return j
}

func (s *script) moving(_ bool, args []string) {
	s.args("moving NAME HOST:DIR [MIB]", args, 2, 3)
	host, dir := s.place(args[1])
	least := int64(1)
	if len(args) == 3 {
		least = s.size(args[2] + "m")
	}
	s.job(args[0]).staging(host, dir, least)
}

func (s *script) signal(_ bool, args []string) {
	s.args("signal NAME SIGNAL", args, 2, 2)
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
		"STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}
	sig, ok := signals[args[1]]
	if !ok {
		s.ts.Fatalf("signal %s: want INT, TERM, HUP, KILL, STOP or CONT", args[1])
	}
	s.job(args[0]).signal(sig)
	if sig == syscall.SIGCONT { // nsenter, above it, stops with it
		s.ts.Check(syscall.Kill(s.job(args[0]).cmd.Process.Pid, sig))
	}
}

func (s *script) finish(_ bool, args []string) {
	s.args("finish NAME CODE", args, 2, 2)
	code, err := strconv.Atoi(args[1])
	s.ts.Check(err)
	s.expect(s.job(args[0]), code)
}

func (s *script) tree(_ bool, args []string) {
	s.args("tree HOST:PATH [MIB]", args, 1, 2)
	host, path := s.place(args[0])
	entries := odd
	if len(args) == 2 {
		n, err := strconv.Atoi(args[1])
		s.ts.Check(err)
		entries = bulk(n)
	}
	s.makeTree(host, path, entries)
}

func (s *script) same(_ bool, args []string) {
	s.args("same HOST:A HOST:B", args, 2, 2)
	h1, p1 := s.place(args[0])
	h2, p2 := s.place(args[1])
	s.ts.Check(s.sameError(h1, p1, h2, p2))
}

func (s *script) absent(_ bool, args []string) {
	s.args("absent HOST:PATH...", args, 1, -1)
	for _, arg := range args {
		host, path := s.place(arg)
		if _, err := os.Lstat(s.path(host, path)); !os.IsNotExist(err) {
			s.ts.Fatalf("%s is there (%v)", arg, err)
		}
	}
}

func (s *script) remember(_ bool, args []string) {
	s.args("remember HOST:PATH", args, 1, 1)
	s.remembered[args[0]] = s.fingerprint(s.place(args[0]))
}

func (s *script) unchanged(_ bool, args []string) {
	s.args("unchanged HOST:PATH", args, 1, 1)
	was, ok := s.remembered[args[0]]
	if !ok {
		s.ts.Fatalf("%s was not remembered", args[0])
	}
	if is := s.fingerprint(s.place(args[0])); is != was {
		s.ts.Fatalf("%s was\n%s\nand is\n%s", args[0], was, is)
	}
}

func (s *script) done(_ bool, args []string) {
	s.args("done HOST=CODE...", args, 1, -1)
	var got []string
	for _, t := range s.doneEvent().Targets {
		got = append(got, fmt.Sprintf("%s=%d", t.Host, t.ExitCode))
	}
	if strings.Join(got, " ") != strings.Join(args, " ") {
		s.ts.Fatalf("done tells %v, want %v", got, args)
	}
}

// doneEvent is the last that --output json printed.
func (s *script) doneEvent() event {
	list, err := events(s.ts.ReadFile("stdout"))
	s.ts.Check(err)
	if len(list) == 0 {
		s.ts.Fatalf("no event was printed")
	}
	last := list[len(list)-1]
	if last.Event != "done" || last.ExitCode == nil {
		s.ts.Fatalf("the last event is %+v, want done with an exit code", last)
	}
	return last
}

// wire holds what was sent against what may have been: what a target had
// proven already is not sent again.
func (s *script) wire(_ bool, args []string) {
	s.args("wire HOST LEAST MOST", args, 3, 3)
	least, most := s.size(args[1]), s.size(args[2])
	for _, t := range s.doneEvent().Targets {
		if t.Host != args[0] {
			continue
		}
		s.ts.Logf("%d bytes on the wire to %s", t.Wire, t.Host)
		if t.Wire < least || t.Wire > most {
			s.ts.Fatalf("%d bytes went to %s, want %d to %d", t.Wire, t.Host, least, most)
		}
		return
	}
	s.ts.Fatalf("no target is on %s", args[0])
}

// size reads a number of bytes: 1k is 1024 of them, 1m 1024 of those.
func (s *script) size(text string) int64 {
	unit := int64(1)
	digits := strings.TrimRight(text, "km")
	switch strings.TrimPrefix(text, digits) {
	case "k":
		unit = 1 << 10
	case "m":
		unit = 1 << 20
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	s.ts.Check(err)
	return n * unit
}

func (s *script) id(_ bool, args []string) {
	s.args("id", args, 0, 0)
	id := idForm.FindString(s.ts.ReadFile("stdout") + "\n" + s.ts.ReadFile("stderr"))
	if id == "" {
		s.ts.Fatalf("no transfer was named")
	}
	s.ts.Setenv("ID", id)
}

func (s *script) capture(_ bool, args []string) {
	s.args("capture VAR REGEXP", args, 2, 2)
	re, err := regexp.Compile("(?m)" + args[1])
	s.ts.Check(err)
	m := re.FindStringSubmatch(s.ts.ReadFile("stdout"))
	if len(m) != 2 {
		s.ts.Fatalf("%q has no group, or matches nothing", args[1])
	}
	s.ts.Setenv(args[0], m[1])
}

func (s *script) killAgents(_ bool, args []string) {
	s.args("killagents HOST", args, 1, 1)
	agents := s.agents(args[0])
	if len(agents) == 0 {
		s.ts.Fatalf("%s has no agent", args[0])
	}
	for _, p := range agents {
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			s.ts.Fatalf("kill %v: %v", p, err)
		}
	}
}

func (s *script) plugins(_ bool, args []string) {
	for _, example := range args {
		s.ts.Check(buildExample(s.tb.Context(), example))
	}
	s.ts.Setenv("PLUGINS", lab.BinDir+"/plugins")
}

func (s *script) cut(_ bool, args []string) {
	s.args("cut HOST", args, 1, 1)
	s.ts.Check(s.Cut(args[0]))
}

func (s *script) mend(_ bool, args []string) {
	s.args("mend HOST", args, 1, 1)
	s.ts.Check(s.Mend(args[0]))
}

func (s *script) sshd(_ bool, args []string) {
	s.args("sshd HOST down|up", args, 2, 2)
	if args[1] == "up" {
		s.sh(args[0], "/usr/sbin/sshd -E /var/log/sshd.log")
		return
	}
	list, err := s.Processes(args[0])
	s.ts.Check(err)
	for _, p := range list {
		if !strings.HasPrefix(p.Name, "sshd") {
			continue
		}
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			s.ts.Fatalf("kill %v: %v", p, err)
		}
	}
}

func (s *script) install(_ bool, args []string) {
	s.args("install HOST", args, 1, 1)
	s.sh(args[0], "mkdir -p /usr/local/bin")
	s.ts.Check(copyFile(filepath.Join(binDir, "transferpy"), s.path(args[0], "/usr/local/bin/transferpy"), 0o755))
}

func (s *script) dataNetwork(_ bool, args []string) {
	s.args("datanetwork", args, 0, 0)
	s.ts.Check(s.AddDataNetwork(s.tb.Context()))
}

func (s *script) clean(_ bool, args []string) {
	s.ts.Check(s.cleanError(settleTime, args...))
}

// TestScriptsAreCommented holds every script to a first line that says what
// it is about.
func TestScriptsAreCommented(t *testing.T) {
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && !strings.HasPrefix(string(text), "# ") {
			t.Errorf("%s does not begin with a comment", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

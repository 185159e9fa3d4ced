package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// run is Run for tests.
func run(t *testing.T, l *Lab, host string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := l.Run(ctx, host, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// eventually polls until check says nothing.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestHosts(t *testing.T) {
	start := time.Now()
	l := New(t, Options{Hosts: 4, SrvSize: "8m"})
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the lab took %v to come up", took)
	} else {
		t.Logf("up after %v", took)
	}
	for _, h := range l.Hosts[1:] {
		for _, name := range append(h.names(), h.IPv4, h.IPv6) {
			if name == "" {
				continue
			}
			if got := run(t, l, Control, "ssh", name, "hostname; id -un"); got != h.Name+"\nroot" {
				t.Errorf("ssh %s says %q", name, got)
			}
		}
	}
	for _, c := range []struct {
		what string
		argv []string
		want string
	}{
		{"another user logs in", []string{"ssh", "op@db2", "id -un; sudo -n id -un"}, "op\nroot"},
		{"another user may use the key", []string{"setpriv", "--reuid=op", "--regid=op", "--init-groups", "env", "HOME=/home/op", "ssh", "db3", "id -un"}, "op"},
		{"/srv has the size asked for", []string{"ssh", "db1", "stat -f -c '%b %S' /srv"}, "2048 4096"},
		{"numbers of the service differ", []string{"sh", "-c", "ssh db1 id -u labdb; ssh db2 id -u labdb"}, "3001\n3002"},
		{"the machine's programs cannot be changed", []string{"ssh", "db1", "touch /usr/bin/x 2>/dev/null || echo refused"}, "refused"},
		{"a host sees its own processes only", []string{"ssh", "db1", "cat /proc/1/comm"}, firstOf(t, fmt.Sprintf("/proc/%d/comm", l.Hosts[1].PID))},
		{"an unknown host is known as such at once", []string{"sh", "-c", "ssh nohost true 2>&1 | grep -o 'not resolve\\|not known' | head -1; true"}, "not resolve"},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := run(t, l, Control, c.argv...); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if _, err := l.Run(t.Context(), Control, "ssh", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "db1", "true"); err == nil {
		t.Error("ssh accepted a host whose key it does not know")
	}
}

func firstOf(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestFilesAreOwn(t *testing.T) {
	l := New(t, Options{Hosts: 2})
	for _, dir := range []string{"/root", "/home", "/srv", "/tmp", "/var/tmp", "/var/lib", "/run", "/etc", "/usr/local"} {
		run(t, l, "db1", "sh", "-c", "echo mine >"+dir+"/lab-own")
		for _, host := range []string{"db2", Control} {
			path, err := l.Path(host, dir+"/lab-own")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s of db1 is seen on %s: %v", dir, host, err)
			}
		}
		if _, err := os.Lstat(dir + "/lab-own"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of db1 is seen on the machine: %v", dir, err)
		}
		path, _ := l.Path("db1", dir+"/lab-own")
		if got := firstOf(t, path); got != "mine" {
			t.Errorf("Path leads to %q", got)
		}
	}
}

func TestProcessesAndPorts(t *testing.T) {
	l := New(t, Options{Hosts: 1})
	ports, err := l.Listening("db1")
	if err != nil || !slices.Equal(ports, []int{22}) {
		t.Fatalf("db1 listens on %v, %v; want 22 alone", ports, err)
	}
	// An orphan is reaped by the host's init.
	run(t, l, "db1", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & setsid sleep 0.05 & exit 0")
	find := func(arg string) (p Process, ok bool) {
		list, err := l.Processes("db1")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(p Process) bool { return p.Name == "sleep" && (len(p.Args) == 0 || p.Args[1] == arg) })
		if i < 0 {
			return p, false
		}
		return list[i], true
	}
	p, ok := find("1000")
	if !ok {
		t.Fatal("the sleeping process is not seen")
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		for _, arg := range []string{"1000", "0.05"} {
			if p, ok := find(arg); ok {
				return fmt.Errorf("%v is still there", p)
			}
		}
		return nil
	})
}

func TestRunIsKilledWithItsContext(t *testing.T) {
	l := New(t, Options{Hosts: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := l.Run(ctx, "db1", "sleep", "1000"); err == nil {
		t.Error("no error")
	}
	eventually(t, func() error {
		list, err := l.Processes("db1")
		for _, p := range list {
			if p.Name == "sleep" {
				return fmt.Errorf("%v is still there", p)
			}
		}
		return err
	})
	if err := l.Cmd("db9", "true").Run(); err == nil || !strings.Contains(err.Error(), "db9") {
		t.Errorf("a command on an unknown host says %v", err)
	}
}

func TestCutAndMend(t *testing.T) {
	l := New(t, Options{Hosts: 2})
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := l.Run(ctx, Control, "ssh", "-o", "ConnectTimeout=1", "db1", "true")
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	if err := l.Cut("db1"); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err == nil || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("with the link cut, ssh says %v", err)
	}
	run(t, l, Control, "ssh", "-o", "ConnectTimeout=1", "db2", "true")
	if err := l.Mend("db1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, ping)
}

// TestCap compares speeds with each other, not with a clock.
func TestCap(t *testing.T) {
	l := New(t, Options{Hosts: 1})
	move := func(size string) time.Duration {
		start := time.Now()
		run(t, l, Control, "sh", "-c", "head -c "+size+" /dev/zero | ssh db1 'cat >/dev/null'")
		return time.Since(start)
	}
	free := move("8M")
	if err := l.Cap("db1", "20mbit"); err != nil {
		t.Fatal(err)
	}
	capped := move("8M")
	if err := l.Cap("db1", ""); err != nil {
		t.Fatal(err)
	}
	again := move("8M")
	t.Logf("8 MiB: %v free, %v at 20 Mbit/s, %v free again", free, capped, again)
	if capped < 2*free || capped < 2*again || capped < 2*time.Second {
		t.Error("the limit is not felt, or stays")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := machine(t)
	disk := t.TempDir()
	l := New(t, Options{Hosts: 3, Disk: disk})
	run(t, l, "db2", "sh", "-c", "echo data >/srv/file; setsid sleep 1000 >/dev/null 2>&1 &")
	if got := firstOf(t, filepath.Join(l.Disk, "db2", "file")); got != "data" {
		t.Errorf("the disk holds %q", got)
	}
	if during := machine(t); during.links != before.links || during.mounts != before.mounts {
		t.Errorf("the lab changes the machine: %+v, before %+v", during, before)
	}
	pids := map[int]bool{}
	for _, h := range l.all() {
		pids[h.PID] = true
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("process %d lives", pid)
		}
	}
	if _, err := os.Stat(filepath.Join(StateDir, l.Name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lab's directory: %v", err)
	}
	if left, _ := os.ReadDir(disk); len(left) > 0 {
		t.Errorf("on the disk: %v", left)
	}
	if after := machine(t); after != before {
		t.Errorf("the machine is %+v, was %+v", after, before)
	}
}

// state is what a lab must leave as it was.
type state struct{ links, mounts, routes string }

func machine(t *testing.T) state {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var s state
	for _, l := range links {
		s.links += l.Name + " "
	}
	s.mounts = firstOf(t, "/proc/self/mountinfo")
	routes, err := exec.Command("ip", "route").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	s.routes = string(routes)
	return s
}

// TestDeadMaker: a lab dies with the program that made it, even by SIGKILL,
// unless it is to be kept; then `lab down` removes it.
func TestDeadMaker(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep=%v", keep), func(t *testing.T) {
			name := fmt.Sprintf("maker-%d-%v", os.Getpid(), keep)
			t.Cleanup(func() { Down(name) })
			maker := exec.Command("/proc/self/exe", "-test.run=^TestMakerOfAnother$")
			maker.Env = append(os.Environ(), "LAB_TEST_MAKER="+name, fmt.Sprintf("LAB_TEST_KEEP=%v", keep))
			if out, err := maker.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("the maker: %v: %s", err, out)
			}
			l, err := Open(name)
			if err != nil {
				t.Fatal(err)
			}
			if keep {
				if got := run(t, l, Control, "ssh", "db1", "hostname"); got != "db1" {
					t.Errorf("the kept lab's host says %q", got)
				}
				if !l.Alive() {
					t.Error("a kept lab is taken for dead")
				}
			} else {
				eventually(t, func() error {
					if l.Alive() || l.Hosts[1].alive() {
						return errors.New("the lab outlives its maker")
					}
					return nil
				})
			}
			for range 2 { // a second time, there is nothing to do
				if err := Down(name); err != nil {
					t.Fatal(err)
				}
			}
			if l.Alive() || l.Hosts[0].alive() {
				t.Error("the lab lives after Down")
			}
		})
	}
}

// TestMakerOfAnother is no test but the maker in TestDeadMaker.
func TestMakerOfAnother(t *testing.T) {
	name := os.Getenv("LAB_TEST_MAKER")
	if name == "" {
		return
	}
	l, err := Up(t.Context(), Options{Name: name, Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("LAB_TEST_KEEP") == "true" {
		if err := l.Keep(); err != nil {
			t.Fatal(err)
		}
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func TestSweepTakesOnlyTheDead(t *testing.T) {
	l := New(t, Options{Hosts: 1})
	dead := filepath.Join(StateDir, fmt.Sprintf("dead-%d", os.Getpid()))
	if err := os.MkdirAll(filepath.Join(dead, "root"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dead) })
	old := time.Now().Add(-2 * sweepAge)
	for _, dir := range []string{dead, l.dir} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead lab's directory: %v", err)
	}
	if _, err := os.Stat(l.dir); err != nil {
		t.Errorf("the living lab's directory: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"..", "a/b", "", "-x", "A", strings.Repeat("x", 41)} {
		if _, err := Open(name); err == nil {
			t.Errorf("Open(%q) has no error", name)
		}
		if err := Down(name); err == nil {
			t.Errorf("Down(%q) has no error", name)
		}
	}
	if err := Down("never-was"); err != nil {
		t.Errorf("Down of a lab that is not: %v", err)
	}
	if _, err := Up(t.Context(), Options{Hosts: MaxHosts + 1}); err == nil {
		t.Error("too many hosts are no error")
	}
}

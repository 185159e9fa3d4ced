package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Control is the name of the control host: it runs no sshd, and from it
// `ssh db1` works without a question.
const Control = "ctl"

// MaxHosts is how many hosts a lab may have beside the control host.
const MaxHosts = 60

// upTimeout bounds the making of a lab. It takes well below a second; a
// minute allows for a machine that is busy with other tests.
const upTimeout = time.Minute

// Options are what a lab is made from.
type Options struct {
	Name  string // of the lab: a-z, 0-9 and dashes; empty: one that is not taken
	Hosts int    // db1 ... dbN; 0: 4; at most MaxHosts
	// Bin is a directory of the machine that the control host sees,
	// read-only, as BinDir, and has in its PATH. Empty: none.
	Bin string
	// Disk is a directory of the machine below which the hosts' /srv lie.
	// Empty: each /srv is a tmpfs, so all that is copied costs memory.
	Disk string
	// SrvSize bounds a /srv that is a tmpfs, as mount(8) writes it ("64m").
	// Empty: half of the memory.
	SrvSize string
}

// BinDir is where the control host sees Options.Bin.
const BinDir = "/opt/transferpy/bin"

// Host is one host of a lab.
type Host struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`  // of its init, as the machine sees it
	Born string `json:"born"` // start time of that process, so that a PID used again is not taken for it
	IPv4 string `json:"ipv4"` // empty for the switch
	IPv6 string `json:"ipv6"` // empty where the machine has no IPv6
	Link string `json:"link"` // the switch's end of its cable
}

// Lab is a set of hosts and the switch between them. Its methods may be
// called concurrently.
type Lab struct {
	Name  string         `json:"name"`
	Made  time.Time      `json:"made"`
	Hosts []Host         `json:"hosts"`          // the control host first
	Hub   Host           `json:"hub"`            // the switch
	Disk  string         `json:"disk,omitempty"` // the lab's own directory below Options.Disk
	dir   string         // below StateDir
	inits []*initProcess // of the process that made the lab; else empty
	once  sync.Once
	err   error
}

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// New makes a lab for a test and closes it at the test's end. Where the
// machine cannot have one, the test is skipped with the reason, or fails if
// LAB_REQUIRED=1 is set. With LAB_KEEP=1 the lab of a failed test stays up
// until `lab down`.
func New(t testing.TB, o Options) *Lab {
	t.Helper()
	if err := Available(); err != nil {
		if os.Getenv("LAB_REQUIRED") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatalf("make a lab: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("LAB_KEEP") == "1" {
			if err := l.Keep(); err == nil {
				t.Logf("the lab is kept; look: go run ./test/lab/cmd/lab exec -name %s db1 -- bash; remove: go run ./test/lab/cmd/lab down -name %s", l.Name, l.Name)
				return
			}
		}
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// Up makes a lab. The caller closes it, or calls Keep to let it outlive the
// calling program, which must have called Main first.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if !mainCalled {
		return nil, errors.New("lab.Main was not called at the start of this program (in a test: by TestMain)")
	}
	if err := Available(); err != nil {
		return nil, err
	}
	if o.Hosts == 0 {
		o.Hosts = 4
	}
	if o.Hosts < 1 || o.Hosts > MaxHosts {
		return nil, fmt.Errorf("%d hosts: a lab has 1 to %d", o.Hosts, MaxHosts)
	}
	if o.Bin != "" {
		bin, err := filepath.Abs(o.Bin)
		if err != nil {
			return nil, err
		}
		o.Bin = bin
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	l, lock, err := claim(o.Name)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the init processes hold it from now on
	if err := l.build(ctx, o, lock); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// build makes keys, processes and links, and waits until every sshd answers.
func (l *Lab) build(ctx context.Context, o Options, lock *os.File) error {
	l.plan(o.Hosts)
	if err := l.makeDisk(o.Disk); err != nil {
		return err
	}
	keys, err := makeKeys(ctx, l.dir, l.Hosts)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(l.dir, "root"), 0o700); err != nil {
		return err
	}
	for _, h := range l.all() {
		p, err := startInit(ctx, l.initConfig(h, o, keys), l.dir, lock)
		if err != nil {
			return fmt.Errorf("start host %s: %w", h.Name, err)
		}
		l.inits = append(l.inits, p)
		h.PID, h.Born = p.cmd.Process.Pid, born(p.cmd.Process.Pid)
	}
	if err := l.save(); err != nil {
		return err
	}
	if err := l.cable(ctx); err != nil {
		return err
	}
	for _, p := range l.inits {
		if err := p.ready(ctx); err != nil {
			return fmt.Errorf("host %s: %w", p.name, err)
		}
	}
	return nil
}

// plan names the hosts and gives them addresses.
func (l *Lab) plan(hosts int) {
	l.Hub = Host{Name: "switch"}
	names := []string{Control}
	for i := 1; i <= hosts; i++ {
		names = append(names, fmt.Sprintf("db%d", i))
	}
	_, err := os.Stat("/proc/sys/net/ipv6")
	for i, name := range names {
		h := Host{Name: name, Link: "v-" + name, IPv4: fmt.Sprintf("10.99.0.%d", 10+i)}
		if err == nil {
			h.IPv6 = fmt.Sprintf("fd00:99::%d", 10+i)
		}
		l.Hosts = append(l.Hosts, h)
	}
}

// makeDisk makes the directories that play the hosts' disks.
func (l *Lab) makeDisk(dir string) error {
	if dir == "" {
		return nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	l.Disk = filepath.Join(dir, "lab-"+l.Name)
	for _, h := range l.Hosts {
		if err := os.MkdirAll(filepath.Join(l.Disk, h.Name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// all are the hosts and the switch, which comes first.
func (l *Lab) all() []*Host {
	hosts := []*Host{&l.Hub}
	for i := range l.Hosts {
		hosts = append(hosts, &l.Hosts[i])
	}
	return hosts
}

// Host is the host of that name.
func (l *Lab) Host(name string) (*Host, error) {
	var names []string
	for i := range l.Hosts {
		if l.Hosts[i].Name == name {
			return &l.Hosts[i], nil
		}
		names = append(names, l.Hosts[i].Name)
	}
	return nil, fmt.Errorf("the lab has no host %q, only %s", name, strings.Join(names, ", "))
}

// Keep lets the lab outlive the program that made it. Without it the hosts
// die with that program.
func (l *Lab) Keep() error {
	var errs []error
	for _, p := range l.inits {
		errs = append(errs, p.keep())
	}
	return errors.Join(errs...)
}

// Close removes the lab: its processes and, with them, its mounts and links;
// then its directory. A second call does nothing.
func (l *Lab) Close() error {
	l.once.Do(func() { l.err = l.close() })
	return l.err
}

func (l *Lab) close() error {
	var errs []error
	for _, h := range l.all() {
		if h.alive() {
			if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("kill host %s: %w", h.Name, err))
			}
		}
	}
	for _, p := range l.inits {
		p.wait()
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, h := range l.all() {
		for h.alive() {
			if time.Now().After(deadline) {
				errs = append(errs, fmt.Errorf("host %s (process %d) does not die", h.Name, h.PID))
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if len(errs) == 0 {
		if l.Disk != "" {
			errs = append(errs, os.RemoveAll(l.Disk))
		}
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

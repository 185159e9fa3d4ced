package firewalls

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/transferpy/transferpy/plugins/firewalls/iptables"
	"github.com/transferpy/transferpy/plugins/firewalls/nftables"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
	"github.com/transferpy/transferpy/test/lab"
)

// helperEnv says what this program does instead of testing, within a host's
// network.
const helperEnv = "FIREWALLS_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "listen":
		listen(os.Args[1])
	case "dial":
		dial(os.Args[1], os.Args[2:])
	default:
		lab.Main()
		flag.Parse()
		flag.Set("test.parallel", "8") // they wait more than they work
		os.Exit(m.Run())
	}
}

// listen accepts at a port of all addresses until standard input ends.
func listen(port string) {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	fmt.Println("listening")
	os.Stdin.Read(make([]byte, 1))
}

// dial prints for each address, in order, whether a connection came about.
func dial(limit string, addresses []string) {
	within, _ := time.ParseDuration(limit)
	said := make([]string, len(addresses))
	var all sync.WaitGroup
	for i, a := range addresses {
		all.Go(func() {
			c, err := net.DialTimeout("tcp", a, within)
			switch {
			case err == nil:
				c.Close()
				said[i] = "open"
			case errors.Is(err, os.ErrDeadlineExceeded):
				said[i] = "timeout"
			case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES):
				said[i] = "refused"
			default:
				said[i] = err.Error()
			}
		})
	}
	all.Wait()
	fmt.Println(strings.Join(said, "\n"))
}

// The hosts: one is let in, one is not, the others filter.
const (
	peer        = "db1"
	stranger    = "db2"
	firstTarget = 3
)

// port is what the targets listen at.
const port = 4400

// rig is a lab with targets that listen.
type rig struct {
	*lab.Lab
}

func newRig(t *testing.T, targets int) *rig {
	l := lab.New(t, lab.Options{Hosts: firstTarget - 1 + targets})
	r := &rig{l}
	for i := range targets {
		r.listen(t, target(i))
	}
	return r
}

func target(i int) string { return "db" + strconv.Itoa(firstTarget+i) }

// helper is this program in a host's network, with the machine's files.
func (r *rig) helper(t *testing.T, host, what string, args ...string) *exec.Cmd {
	t.Helper()
	h, err := r.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(h.PID), "--net", "--", self}, args...)...)
	cmd.Env = append(os.Environ(), helperEnv+"="+what)
	cmd.Stderr = os.Stderr
	return cmd
}

// listen keeps a listener in a host's network until the test ends.
func (r *rig) listen(t *testing.T, host string) {
	t.Helper()
	cmd := r.helper(t, host, "listen", strconv.Itoa(port))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatalf("no listener on %s: %v", host, err)
	}
}

// addresses of a host, IPv4 and IPv6.
func (r *rig) addresses(t *testing.T, host string) []string {
	t.Helper()
	h, err := r.Host(host)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{h.IPv4}
	if h.IPv6 != "" {
		list = append(list, h.IPv6)
	}
	return list
}

// The time that a connection has which should come about, and one that should
// not.
const (
	patient   = 20 * time.Second
	impatient = 500 * time.Millisecond
)

// reaches says how a host's connections to all addresses of another end.
func (r *rig) reaches(t *testing.T, from, to string, limit time.Duration) []string {
	t.Helper()
	args := []string{limit.String()}
	for _, a := range r.addresses(t, to) {
		args = append(args, net.JoinHostPort(a, strconv.Itoa(port)))
	}
	out, err := r.helper(t, from, "dial", args...).Output()
	if err != nil {
		t.Fatalf("dial from %s to %s: %v", from, to, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// want sees whether peer and stranger reach a target, by all its addresses.
func (r *rig) want(t *testing.T, when, to string, byPeer, byStranger bool) {
	t.Helper()
	var both sync.WaitGroup
	for from, open := range map[string]bool{peer: byPeer, stranger: byStranger} {
		limit := impatient
		if open {
			limit = patient
		}
		both.Go(func() {
			got := r.reaches(t, from, to, limit)
			if slices.ContainsFunc(got, func(s string) bool { return (s == "open") != open }) {
				t.Errorf("%s: connections from %s to %s: %q, want open: %v", when, from, to, got, open)
			}
		})
	}
	both.Wait()
}

// sh runs a script on a host.
func (r *rig) sh(t *testing.T, host, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := r.Run(ctx, host, "sh", "-euc", script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// state prints all rules of a host, without counters and handles.
func (r *rig) state(t *testing.T, host string) string {
	t.Helper()
	return r.sh(t, host, `{
		nft list ruleset 2>&1
		for f in ip ip6; do test -z "$(cat /proc/net/${f}_tables_names)" || ${f}tables-legacy-save; done
	} | sed 's/packets [0-9]* bytes [0-9]*//; s/\[[0-9:]*\]//; /^# /d'`)
}

// via runs a command of a plugin on a host of the lab.
func (r *rig) via(host string, c sdk.Command) sdk.Command {
	words := make([]string, len(c.Argv))
	for i, w := range c.Argv {
		words[i] = string(w)
	}
	command, env, err := r.Argv(host, words...)
	if err != nil {
		command = []string{"false"}
	}
	c.Argv = []sdk.Raw{"env", "-i"}
	for _, w := range append(env, command...) {
		c.Argv = append(c.Argv, sdk.Raw(w))
	}
	return c
}

// control is a control host's hold on targets.
func (r *rig) control(targets ...string) *plugintest.Host {
	h := plugintest.NewHost(targets...)
	h.Via = r.via
	return h
}

// hole is the peer's hole in a target.
func (r *rig) hole(t *testing.T, to string, lasts time.Duration) sdk.Hole {
	sources := r.addresses(t, peer)
	mapped := netip.AddrFrom16(netip.MustParseAddr(sources[0]).As16()) // as a listener for both families sees it
	return sdk.Hole{Host: to, Port: port, Sources: append(sources, mapped.String()), Expiry: time.Now().Add(lasts)}
}

// both are the firewalls, as the core sees them.
func both(t *testing.T) map[string]sdk.Firewall {
	firewalls := map[string]sdk.Firewall{}
	for _, f := range []sdk.Firewall{iptables.New(), nftables.New()} {
		served := plugintest.InProcess(t, f).(sdk.Firewall)
		if _, err := served.Configure(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		firewalls[f.Describe().Name] = served
	}
	return firewalls
}

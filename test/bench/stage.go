package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// The hosts of a stage, and where its data lies on them.
const (
	sourceHost = "db1"
	targetHost = "db2"
	sourceDir  = "/srv/from"
	sourceData = "/srv/from/data"  // what is copied
	sourceTree = "/srv/from/fixed" // the 1 MB that shows the fixed cost
	targetDir  = "/srv/to"         // where it is copied to; new for each run
	dataPort   = 5000              // of the peers that use nc
)

// runTimeout bounds one run of one contender.
const runTimeout = 20 * time.Minute

// targetHosts are the first n targets, in the order of the chain.
func targetHosts(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("db%d", i+2)
	}
	return hosts
}

// stage is hosts of a lab with the data of a case on the first, the source. It
// runs one thing at a time.
type stage struct {
	lab   *lab.Lab
	fan   int                      // how many targets there are
	began time.Time                // of the run that is being timed
	cpu   map[string]time.Duration // by commands that the stage started itself, a host

	profiles string // where profiles of agents are kept; empty: none are made
}

// newStage makes the source and so many targets; with disk their data lies
// below that directory, else in memory. The caller closes the lab.
func newStage(ctx context.Context, bin, disk string, targets int) (*stage, error) {
	l, err := lab.Up(ctx, lab.Options{Hosts: 1 + targets, Bin: bin, Disk: disk, SrvSize: "80%"})
	if err != nil {
		return nil, err
	}
	s := &stage{lab: l, fan: targets}
	// The peers run ssh on the source, so it needs the control host's key.
	for _, name := range []string{"id_ed25519", "known_hosts"} {
		text, err := os.ReadFile(s.path(lab.Control, "/root/.ssh/"+name))
		if err == nil {
			err = os.WriteFile(s.path(sourceHost, "/root/.ssh/"+name), text, 0o600)
		}
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if err := os.Mkdir(s.path(sourceHost, sourceDir), 0o755); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := makeTree(s.path(sourceHost, sourceTree)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

// path is where this process finds a path of a host that stands.
func (s *stage) path(host, path string) string {
	p, err := s.lab.Path(host, path)
	if err != nil {
		panic(err) // the hosts are ours and named by constants
	}
	return p
}

// start starts a bash script inside a host. Any failing stage of a pipeline
// fails it.
func (s *stage) start(host, script string) (*command, error) {
	c := &command{stage: s, host: host, script: script, cmd: s.lab.Cmd(host, "bash", "-c", "set -e -o pipefail; "+script)}
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", host, err)
	}
	return c, nil
}

// command is a script that runs inside a host.
type command struct {
	stage  *stage
	host   string
	script string
	cmd    *exec.Cmd
	output bytes.Buffer
}

// wait waits for the script's end and charges its CPU time to its host. When
// ctx ends, the script is killed.
func (c *command) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.kill)
	defer stop()
	err := c.cmd.Wait()
	if state := c.cmd.ProcessState; state != nil {
		c.stage.cpu[c.host] += state.UserTime() + state.SystemTime()
	}
	if err != nil {
		err = fmt.Errorf("on %s: %s: %w: %s", c.host, c.script, errors.Join(err, ctx.Err()), strings.TrimSpace(c.output.String()))
	}
	return err
}

func (c *command) kill() { syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }

// do runs a script inside a host to its end.
func (s *stage) do(ctx context.Context, host, script string) error {
	c, err := s.start(host, script)
	if err != nil {
		return err
	}
	return c.wait(ctx)
}

// listens waits until the target listens on dataPort.
func (s *stage) listens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		ports, err := s.lab.Listening(targetHost)
		if err != nil {
			return err
		}
		for _, port := range ports {
			if port == dataPort {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on port %d of %s", dataPort, targetHost)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// hostCPU is the CPU time that all processes of a host have used which live
// in it or were waited for in it.
func (s *stage) hostCPU(host string) (time.Duration, error) {
	h, err := s.lab.Host(host)
	if err != nil {
		return 0, err
	}
	list, err := s.lab.Processes(host)
	if err != nil {
		return 0, err
	}
	ticks := int64(0)
	for _, pid := range append([]int{h.PID}, pids(list)...) {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			continue // it has just ended; the host's init has its time now
		}
		used, err := statTicks(stat)
		if err != nil {
			return 0, err
		}
		ticks += used
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

func pids(list []lab.Process) []int {
	var all []int
	for _, p := range list {
		all = append(all, p.PID)
	}
	return all
}

// ticksPerSecond is the unit of times in /proc: 100 on every port of Linux
// that Go has.
const ticksPerSecond = 100

// statTicks adds a process's own user and system time and that of its
// children that were waited for, from /proc/PID/stat.
func statTicks(stat []byte) (int64, error) {
	// The second field is the name in brackets and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return 0, fmt.Errorf("not a line of /proc/PID/stat: %q", stat)
	}
	sum := int64(0)
	for _, field := range fields[11:15] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("not a line of /proc/PID/stat: %w", err)
		}
		sum += ticks
	}
	return sum, nil
}

// sent is how many bytes the source has put on its interface. On a link with
// a limit they are what the limit counts, headers of every packet included;
// without one the kernel hands on many packets as one and counts one header.
func (s *stage) sent(ctx context.Context, capped bool) (int64, error) {
	if capped {
		out, err := s.lab.Run(ctx, sourceHost, "tc", "-s", "qdisc", "show", "dev", "eth0")
		if err != nil {
			return 0, err
		}
		return qdiscSent(out)
	}
	h, err := s.lab.Host(sourceHost)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", h.PID))
	if err != nil {
		return 0, err
	}
	return interfaceSent(string(text), "eth0")
}

var qdiscRE = regexp.MustCompile(`(?m)^ *Sent (\d+) bytes`)

// qdiscSent finds the bytes in what tc -s prints of the only queue.
func qdiscSent(text string) (int64, error) {
	m := qdiscRE.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no count of bytes in what tc prints: %q", text)
	}
	return strconv.ParseInt(m[1], 10, 64)
}

// interfaceSent finds the bytes that an interface has sent in /proc/net/dev.
func interfaceSent(text, name string) (int64, error) {
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		link, counts, _ := strings.Cut(s.Text(), ":")
		if fields := strings.Fields(counts); strings.TrimSpace(link) == name && len(fields) > 8 {
			return strconv.ParseInt(fields[8], 10, 64)
		}
	}
	return 0, fmt.Errorf("no interface %s in /proc/net/dev", name)
}

// Package facts tells what a host is and what lies on it: the answers to a
// probe. It changes nothing.
package facts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/process"
	"github.com/transferpy/transferpy/sdk"
)

// The time that the parts of a probe may take. Together they stay below the
// half minute that executors commonly allow one call.
const (
	countFor    = 10 * time.Second // counting all trees
	pathFor     = 15 * time.Second // one path: a dead network mount answers never
	commandFor  = 10 * time.Second // one command that names no timeout
	resolveFor  = 3 * time.Second
	parallel    = 4
	maxAnswers  = 96 << 10 // bytes of all outputs of commands: an executor brings back 256 KiB
	maxPerQuery = 32 << 10
	maxAddress  = 64
)

// Host tells what the host is; stateDir is where this agent keeps its state.
// Its questions are not answered yet: Answer does that.
func Host(stateDir string) (*control.Facts, error) {
	boot, err := readWord("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	netns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return &control.Facts{
		Instance:  instance(boot, netns, stateDir),
		BootID:    boot,
		NetNS:     strings.Trim(strings.TrimPrefix(netns, "net:"), "[]"),
		Hostname:  hostname,
		UID:       os.Getuid(),
		Arch:      runtime.GOARCH,
		Kernel:    kernel(),
		Now:       time.Now(),
		StateDir:  sdk.Raw(stateDir),
		Program:   sdk.Raw(program),
		Addresses: Addresses(),
	}, nil
}

// MachineID names the installation, where it has a name. Unlike Instance it
// survives a restart of the host.
func MachineID() string {
	id, _ := readWord("/etc/machine-id")
	return id
}

// instance is the same whenever two commands would see the same processes,
// files, addresses and agents, and different otherwise.
func instance(boot, netns, stateDir string) string {
	mnt, _ := os.Readlink("/proc/self/ns/mnt")
	uts, _ := os.Readlink("/proc/self/ns/uts")
	all := strings.Join([]string{boot, MachineID(), mnt, netns, uts, fmt.Sprint(os.Getuid()), stateDir}, "\x00")
	sum := sha256.Sum256([]byte(all))
	return hex.EncodeToString(sum[:16])
}

// Addresses are the host's global addresses, at most 64.
func Addresses() []string {
	list := []string{}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || !prefix.Addr().Unmap().IsGlobalUnicast() || len(list) == maxAddress {
				continue
			}
			if s := prefix.Addr().Unmap().String(); !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// Answer answers the questions of p into f. It returns within about 30
// seconds, or when ctx ends, with an error in each answer that is missing.
func Answer(ctx context.Context, f *control.Facts, p *control.Probe) {
	a := &answers{
		limit: make(chan struct{}, parallel),
		facts: f,
		room:  maxAnswers,
	}
	f.Paths = map[string]sdk.PathFacts{}
	f.Commands = map[string]sdk.Result{}
	f.Resolved = map[string][]string{}
	counting, cancel := context.WithTimeout(ctx, countFor)
	defer cancel()
	for _, q := range p.Paths {
		a.start(func() { a.path(ctx, counting, q, p.Resume) })
	}
	for _, q := range p.Commands {
		a.start(func() { a.command(ctx, q) })
	}
	for _, name := range p.Resolve {
		a.start(func() { a.resolve(ctx, name) })
	}
	a.wait.Wait()
}

// answers collects from the goroutines of one Answer.
type answers struct {
	limit chan struct{}
	wait  sync.WaitGroup

	mu    sync.Mutex
	facts *control.Facts
	room  int // bytes of output that still fit
}

// start runs f beside others, not too many at once.
func (a *answers) start(f func()) {
	a.limit <- struct{}{}
	a.wait.Go(func() {
		defer func() { <-a.limit }()
		f()
	})
}

// path answers q. Looking at a path has no deadline in the kernel, so a
// goroutine that hangs on a dead mount is left behind; the process that
// probes ends soon after and takes it with it.
func (a *answers) path(ctx, counting context.Context, q sdk.PathQuestion, resume string) {
	done := make(chan sdk.PathFacts, 1)
	go func() { done <- Path(counting, q, resume) }()
	timer := time.NewTimer(pathFor)
	defer timer.Stop()
	var answer sdk.PathFacts
	select {
	case answer = <-done:
	case <-timer.C:
		answer.Err = &sdk.Error{Kind: sdk.KindTimeout,
			Message: fmt.Sprintf("%s: no answer within %v", q.Path.Display(), pathFor),
			Hint:    "is it on a network mount that does not answer?"}
	case <-ctx.Done():
		answer.Err = &sdk.Error{Kind: sdk.KindCancelled, Message: q.Path.Display() + ": was not looked at"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.facts.Paths[q.ID] = answer
}

func (a *answers) command(ctx context.Context, q sdk.CommandQuestion) {
	result := process.Run(ctx, q.Command, process.Limits{Output: maxPerQuery, Timeout: commandFor})
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, out := range []*[]byte{&result.Stdout, &result.Stderr} {
		if len(*out) > a.room {
			*out, result.Truncated = (*out)[:a.room], true
		}
		a.room -= len(*out)
	}
	a.facts.Commands[q.ID] = result
}

func (a *answers) resolve(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return
	}
	var list []string
	for _, addr := range found[:min(len(found), maxAddress)] {
		list = append(list, addr.Unmap().String())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.facts.Resolved[name] = list
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func readWord(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// environment is that of a process inside; path comes first in its PATH.
func environment(path string) []string {
	if path != "" {
		path += ":"
	}
	return []string{
		"PATH=" + path + "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=C.UTF-8",
	}
}

// Argv is the command of the machine that runs argv as root inside a host,
// and the environment to give it.
func (l *Lab) Argv(host string, argv ...string) (command, env []string, err error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, nil, err
	}
	path := ""
	if host == Control {
		path = BinDir
	}
	command = append([]string{"nsenter", "--target", strconv.Itoa(h.PID),
		"--mount", "--uts", "--ipc", "--net", "--pid", "--"}, argv...)
	return command, environment(path), nil
}

// Cmd is a process inside a host, as root, in /, with an environment of its
// own. What exec.Cmd starts is nsenter, which waits for the process and ends
// as it ends, but hands no signals on: to signal, find the process with
// Processes. Both are in one process group of their own. An unknown host
// gives a command that does not start.
func (l *Lab) Cmd(host string, argv ...string) *exec.Cmd {
	command, env, err := l.Argv(host, argv...)
	if err != nil {
		return &exec.Cmd{Err: err}
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// Run runs a command inside a host and returns its standard output. The
// error holds its standard error. When ctx ends, it is killed.
func (l *Lab) Run(ctx context.Context, host string, argv ...string) (string, error) {
	cmd := l.Cmd(host, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("%s on %s: %w", argv[0], host, err)
	}
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return stdout.String(), fmt.Errorf("%s on %s: %w: %s", strings.Join(argv, " "), host, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Process is a process of a host, seen from the machine.
type Process struct {
	PID    int // as the machine sees it, so that syscall.Kill works on it
	Parent int
	Name   string // at most 15 bytes
	Args   []string
	State  byte // as in ps(1): Z is a zombie
}

// String is one line for messages.
func (p Process) String() string {
	return fmt.Sprintf("%d %c %s %q", p.PID, p.State, p.Name, p.Args)
}

// Processes are those of a host, without its init.
func (l *Lab) Processes(host string) ([]Process, error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.PID))
	if err != nil {
		return nil, fmt.Errorf("host %s is dead: %w", host, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var list []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == h.PID {
			continue
		}
		// A zombie has lost its other namespaces, but not this one.
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || ns != own {
			continue
		}
		if p, ok := readProcess(pid); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

func readProcess(pid int) (Process, bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, false
	}
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	p := Process{PID: pid, Name: string(stat[open+1 : end]), State: fields[0][0]}
	p.Parent, _ = strconv.Atoi(fields[1])
	line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	if len(line) > 0 {
		p.Args = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	}
	return p, true
}

// Listening are the TCP ports on which a host listens, each once.
func (l *Lab) Listening(host string) ([]int, error) {
	h, err := l.Host(host)
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	var ports []int
	for _, family := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", h.PID, family))
		if os.IsNotExist(err) && family == "tcp6" && h.alive() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", host, err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			fields := strings.Fields(s.Text())
			if len(fields) < 4 || fields[3] != "0A" {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err == nil && !seen[int(port)] {
				seen[int(port)] = true
				ports = append(ports, int(port))
			}
		}
		f.Close()
	}
	return ports, nil
}

// Path is where the machine finds a path of a host. An absolute symbolic link
// on the way would lead to the machine's own files, so use it for paths that
// have none.
func (l *Lab) Path(host, path string) (string, error) {
	h, err := l.Host(host)
	if err != nil {
		return "", err
	}
	// Not filepath.Join: a name may end in a way that it would clean.
	return fmt.Sprintf("/proc/%d/root/%s", h.PID, strings.TrimPrefix(path, "/")), nil
}

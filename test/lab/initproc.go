package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// namespaces are those that each host has for itself.
const namespaces = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
	syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

// initEnv marks a process that was started to be a host's init.
const initEnv = "TRANSFERPY_LAB_INIT"

// lockFD is the lab's lock in an init: the first of its extra files. It is
// held as long as the init lives, and by nobody whom it starts.
const lockFD = 3

// mainCalled guards against a program that would start itself without end,
// because it does not know that it is to become an init.
var mainCalled bool

// Main turns a process that was started as a host's init into one; it then
// does not return. A program that makes labs calls it before all else, a test
// in its TestMain.
func Main() {
	if os.Getenv(initEnv) == "" {
		mainCalled = true
		return
	}
	os.Unsetenv(initEnv)
	syscall.CloseOnExec(lockFD)
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	lifeline := bufio.NewReader(os.Stdin)
	if err := becomeHost(lifeline); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	os.Stdout.Close()
	go reap()
	for keep := false; ; {
		line, err := lifeline.ReadString('\n')
		keep = keep || line == "keep\n"
		if err == nil {
			continue
		}
		if !keep {
			os.Exit(0) // the maker has died; the kernel ends what runs here
		}
		select {}
	}
}

// initConfig is what a host's init is told by the lab's maker.
type initConfig struct {
	Name     string    `json:"name"`
	Root     string    `json:"root"` // an empty directory to build the root file system on
	Account  int       `json:"account"`
	Hosts    []Host    `json:"hosts"` // without it there is no root file system to build
	Files    []etcFile `json:"files"`
	Bin      string    `json:"bin"`
	Disk     string    `json:"disk"`
	SrvSize  string    `json:"srv_size"`
	RunsSSHD bool      `json:"runs_sshd"`
}

// initConfig says what a host is to become.
func (l *Lab) initConfig(h *Host, o Options, k *keys) initConfig {
	c := initConfig{Name: h.Name, Root: filepath.Join(l.dir, "root")}
	if h == &l.Hub {
		return c
	}
	c.Hosts, c.SrvSize = l.Hosts, o.SrvSize
	for i := range l.Hosts {
		if h == &l.Hosts[i] {
			c.Account = i
		}
	}
	if l.Disk != "" {
		c.Disk = filepath.Join(l.Disk, h.Name)
	}
	if h.Name == Control {
		c.Bin = o.Bin
	} else {
		c.RunsSSHD = true
	}
	c.Files = k.files(h.Name, l.Hosts)
	return c
}

// becomeHost reads the configuration and makes the host from it.
func becomeHost(lifeline *bufio.Reader) error {
	line, err := lifeline.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the host's configuration: %w", err)
	}
	var c initConfig
	if err := json.Unmarshal(line, &c); err != nil {
		return fmt.Errorf("read the host's configuration: %w", err)
	}
	if err := syscall.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	if len(c.Hosts) == 0 {
		return nil
	}
	if err := buildRoot(c); err != nil {
		return err
	}
	if c.RunsSSHD {
		return startSSHD()
	}
	return nil
}

// startSSHD starts the host's sshd and waits for its banner. The process is
// reaped with all others.
func startSSHD() error {
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer null.Close()
	log, err := os.OpenFile("/var/log/sshd.log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// sshd insists on an absolute path, since it starts itself again.
	_, err = os.StartProcess("/usr/sbin/sshd", []string{"/usr/sbin/sshd", "-D", "-e"}, &os.ProcAttr{
		Dir: "/", Env: environment(""), Files: []*os.File{null, log, log},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start sshd: %w", err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err = banner(); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile("/var/log/sshd.log")
			return fmt.Errorf("sshd does not answer: %w; its log: %s", err, text)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// banner asks the host's sshd for its first line.
func banner() error {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:22", time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	text := make([]byte, 4)
	if _, err := io.ReadFull(conn, text); err != nil {
		return err
	}
	if string(text) != "SSH-" {
		return fmt.Errorf("it says %q", text)
	}
	return nil
}

// reap collects the host's orphans for ever.
func reap() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	for {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && err != syscall.EINTR {
				break
			}
		}
		<-died
	}
}

// initProcess is a host's init as its maker sees it.
type initProcess struct {
	name     string
	cmd      *exec.Cmd
	lifeline *os.File      // the host lives until this is closed
	report   *bufio.Reader // one line: ready, or what went wrong
	reportFD *os.File
	log      string
	dead     chan struct{}
}

// startInit starts this program again as a host's init, in new namespaces.
func startInit(ctx context.Context, c initConfig, dir string, lock *os.File) (*initProcess, error) {
	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	report, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	p := &initProcess{name: c.Name, lifeline: lifeline, report: bufio.NewReader(report),
		reportFD: report, log: filepath.Join(dir, c.Name+".log"), dead: make(chan struct{})}
	stderr, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	// Not CommandContext: the context bounds the making, not the life.
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Args = []string{"transferpy-lab-" + c.Name}
	p.cmd.Env = append(environment(""), initEnv+"=1")
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, stderr
	p.cmd.ExtraFiles = []*os.File{lock}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, lifeline.Close(), report.Close())
	}
	go func() {
		p.cmd.Wait()
		close(p.dead)
	}()
	text, err := json.Marshal(c)
	if err == nil {
		_, err = lifeline.Write(append(text, '\n'))
	}
	if err != nil {
		p.cmd.Process.Kill()
		p.wait()
		return nil, err
	}
	return p, nil
}

// ready waits until the host stands.
func (p *initProcess) ready(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.reportFD.SetReadDeadline(time.Now()) })
	defer stop()
	text, err := io.ReadAll(io.LimitReader(p.report, 64<<10))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && string(text) == "ready\n" {
		return nil
	}
	log, _ := os.ReadFile(p.log)
	return errors.Join(errors.New(strings.TrimSpace(string(text)+string(log))), err)
}

// keep tells the host to outlive its maker.
func (p *initProcess) keep() error {
	_, err := p.lifeline.WriteString("keep\n")
	return err
}

// wait waits for the death of a host that was killed.
func (p *initProcess) wait() {
	p.lifeline.Close()
	p.reportFD.Close()
	<-p.dead
}

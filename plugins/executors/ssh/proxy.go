package ssh

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
)

// maxProxySays is how much of what a ProxyCommand prints on stderr is kept.
const maxProxySays = 4 << 10

// proxied is a connection through a ProxyCommand, whose process group ends
// with it.
type proxied struct {
	net.Conn
	cmd  *exec.Cmd
	says *said
	once sync.Once
}

// dialCommand starts the ProxyCommand of ssh_config, which speaks with the
// host on its stdin and stdout. Its process belongs to wg until it has ended.
func dialCommand(ctx context.Context, s *settings, wg *sync.WaitGroup) (net.Conn, *sdk.Error) {
	line, err := s.expand(s.proxyCommand)
	if err != nil {
		return nil, err
	}
	ours, theirs, failure := socketPair()
	if failure != nil {
		return nil, &sdk.Error{Kind: sdk.KindInternal, Message: "no socket for the ProxyCommand: " + failure.Error()}
	}
	defer theirs.Close()
	shell := os.Getenv("SHELL") // as ssh does
	if shell == "" {
		shell = "/bin/sh"
	}
	p := &proxied{Conn: ours, cmd: exec.Command(shell, "-c", "exec "+line), says: &said{}}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs, theirs, p.says
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = leftoverWait
	if err := p.cmd.Start(); err != nil {
		ours.Close()
		return nil, &sdk.Error{Kind: sdk.KindMissingTool, Message: fmt.Sprintf("the ProxyCommand of %s could not be started: %v", s.host, err), Hint: "mend it in ssh_config"}
	}
	stop := context.AfterFunc(ctx, func() { p.Close() })
	wg.Go(func() {
		p.cmd.Wait()
		stop()
		p.Close()
	})
	return p, nil
}

// RemoteAddr implements net.Conn. Where the command leads to is not known; what
// looks keys up in known_hosts wants an address of this form, as of a host
// behind a jump host.
func (p *proxied) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }

// Close implements net.Conn and ends the command.
func (p *proxied) Close() error {
	p.once.Do(func() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) })
	return p.Conn.Close()
}

// explain adds to an error what the command said.
func (p *proxied) explain(e *sdk.Error) *sdk.Error {
	if e.Kind != sdk.KindUnreachable {
		return e
	}
	told := *e
	told.Message = "through its ProxyCommand: " + e.Message
	told.Hint = "see that the command works: ssh -v"
	told.Stderr = p.says.String()
	return &told
}

// socketPair makes two ends, ours as a connection that knows deadlines.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "ssh"), os.NewFile(uintptr(fds[1]), "ProxyCommand")
	defer mine.Close() // FileConn has one of its own
	ours, err = net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// said keeps the beginning of what is written to it.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer and never fails.
func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p[:min(len(p), maxProxySays-s.text.Len())])
	return len(p), nil
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return program.Tail([]byte(s.text.String()))
}

package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

const (
	// leftoverWait is how long output is still read after the command has
	// ended, from children that it left behind with its stdout.
	leftoverWait = 2 * time.Second

	defaultPath = "/usr/local/bin:/usr/bin:/bin"
	sbinPath    = ":/usr/local/sbin:/usr/sbin:/sbin"
)

// run runs cmd without a shell, in a process group of its own.
func run(ctx context.Context, c sdk.Command) sdk.Result {
	for _, arg := range c.Argv {
		if strings.IndexByte(string(arg), 0) >= 0 {
			return sdk.Result{Err: &sdk.Error{Kind: sdk.KindConfig, Message: "an argument holds a NUL byte: " + arg.Display()}}
		}
	}
	path := searchPath()
	file, code, why := lookup(string(c.Argv[0]), path)
	if code != 0 {
		return sdk.Result{ExitCode: code, Stderr: []byte(why + "\n")}
	}

	limit := c.Timeout
	if limit <= 0 {
		limit = maxWait
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	var stdout, stderr capped
	cmd := exec.CommandContext(limited, file)
	cmd.Args = make([]string, len(c.Argv))
	for i, arg := range c.Argv {
		cmd.Args[i] = string(arg)
	}
	cmd.Dir = "/" // so that no file system stays busy on our account
	cmd.Env = append(os.Environ(), "PATH="+path)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Stdin != nil {
		cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = leftoverWait
	var killed atomic.Bool
	cmd.Cancel = func() error {
		killed.Store(true)
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}

	if err := cmd.Start(); err != nil {
		return startFailure(c.Argv[0], err)
	}
	err := cmd.Wait()
	return outcome(ctx, cmd, err, killed.Load(), limit, &stdout, &stderr)
}

// outcome turns the end of a started command into its result.
func outcome(ctx context.Context, cmd *exec.Cmd, err error, killed bool, limit time.Duration, stdout, stderr *capped) sdk.Result {
	// Beyond leftoverWait somebody may still hold the pipes, but the copying
	// goroutines have ended: the buffers are ours.
	r := sdk.Result{Stdout: stdout.buf, Stderr: stderr.buf, Truncated: stdout.cut || stderr.cut}
	if cmd.ProcessState == nil {
		r.Err = &sdk.Error{Kind: sdk.KindInternal, Message: fmt.Sprintf("waiting for the command failed: %v", err)}
		return r
	}
	r.ExitCode = exitCode(cmd)
	if !killed || r.ExitCode != 128+int(syscall.SIGKILL) {
		return r
	}
	if ctx.Err() != nil {
		r.Err = cancelled(ctx)
		return r
	}
	r.Err = &sdk.Error{
		Kind:    sdk.KindTimeout,
		Message: fmt.Sprintf("the command was killed with its process group at its time limit of %v", limit),
		Stderr:  string(r.Stderr[max(0, len(r.Stderr)-2048):]),
	}
	return r
}

// startFailure is the result of a command that the kernel did not start: what
// a shell calls 126 or 127 where it is the file's fault, else an error.
func startFailure(name sdk.Raw, err error) sdk.Result {
	text := []byte(name.Display() + ": " + err.Error() + "\n")
	switch {
	case errors.Is(err, fs.ErrNotExist): // also a missing interpreter
		return sdk.Result{ExitCode: 127, Stderr: text}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return sdk.Result{ExitCode: 126, Stderr: text}
	case errors.Is(err, syscall.E2BIG):
		return sdk.Result{Err: &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: name.Display() + ": the argument list is too long for this machine",
			Hint:    "an argument may have 128 KiB, all together about 2 MiB; pass more on stdin",
		}}
	}
	return sdk.Result{Err: &sdk.Error{Kind: sdk.KindInternal, Message: strings.TrimSpace(string(text))}}
}

// searchPath returns PATH with the sbin directories, which an operator's own
// PATH often lacks.
func searchPath() string {
	path := os.Getenv("PATH")
	if path == "" {
		path = defaultPath
	}
	return path + sbinPath
}

// lookup finds the program as execvp does; a code of 126 or 127 says that
// there is none, and why. Empty and relative elements of PATH are left out:
// the working directory is not ours.
func lookup(name, path string) (file string, code int, why string) {
	shown := sdk.Raw(name).Display()
	if strings.Contains(name, "/") {
		return name, 0, "" // the kernel judges it
	}
	code, why = 127, shown+": command not found"
	if name == "" {
		return "", code, why
	}
	for _, dir := range strings.Split(path, ":") {
		if !filepath.IsAbs(dir) {
			continue
		}
		candidate := filepath.Join(dir, name)
		info, err := os.Stat(candidate)
		if err != nil || info.IsDir() {
			continue
		}
		if info.Mode()&0o111 != 0 {
			return candidate, 0, ""
		}
		code, why = 126, shown+": permission denied: "+candidate
	}
	return "", code, why
}

func waitStatus(cmd *exec.Cmd) (syscall.WaitStatus, bool) {
	s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return s, ok
}

// capped keeps the first maxOutput bytes written to it and takes the rest
// without keeping it, so that the command never blocks on a full pipe.
type capped struct {
	buf []byte
	cut bool
}

var _ io.Writer = (*capped)(nil)

func (c *capped) Write(p []byte) (int, error) {
	room := min(maxOutput-len(c.buf), len(p))
	c.buf = append(c.buf, p[:room]...)
	c.cut = c.cut || room < len(p)
	return len(p), nil
}

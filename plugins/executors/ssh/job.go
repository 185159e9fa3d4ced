package ssh

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

// job is a command in the form in which it goes to every host.
//
// The host's login shell, whatever it is, sees one constant line without
// anything that shells disagree on; what that line starts is sh, which reads
// the script from the first bytes of its stdin. So neither csh nor fish gets
// to see an argument, and no argument list but the command's own binds the
// length. The script prints the mark on stdout and stderr: what comes before
// it is noise of the login, and if it never comes the command was not
// started. Then sh becomes timeout, so that its process id is that of the
// command's process group.
type job struct {
	line    string // for the login shell
	script  string
	mark    string
	stdin   []byte
	timeout time.Duration
	sudo    bool
}

// noTimeout follows the mark where the host has no timeout(1).
const noTimeout = "no-timeout"

func newJob(cmd sdk.Command, sudo bool) (*job, error) {
	argv, err := shell.Join(cmd.Argv)
	if err != nil {
		return nil, err
	}
	if len(argv) > 2*maxCommand {
		return nil, &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: fmt.Sprintf("the command has %d bytes of arguments, more than %d", len(argv), maxCommand),
			Hint:    "pass the data on stdin",
		}
	}
	limit, err := shell.Seconds(cmd.Timeout)
	if err != nil {
		return nil, err
	}
	j := &job{mark: shell.NewNonce(), stdin: cmd.Stdin, timeout: cmd.Timeout, sudo: sudo}
	var b strings.Builder
	b.WriteString(shell.ExtendPath)
	fmt.Fprintf(&b, "command -v timeout >/dev/null||{ echo %s %s >&2;exit 127; }\n", j.mark, noTimeout)
	fmt.Fprintf(&b, "echo %s $$;echo %s $$ >&2\n", j.mark, j.mark)
	// SIGKILL, as timeout ends with the command at any other and would leave
	// alone those of its children that ignore it.
	fmt.Fprintf(&b, "exec timeout -s KILL %s %s", limit, argv)
	if cmd.Stdin == nil {
		b.WriteString(" </dev/null")
	}
	b.WriteString("\n:")
	j.script = b.String()
	j.line = j.remote(`eval "$(head -c ` + strconv.Itoa(len(j.script)) + `)"`)
	return j, nil
}

// remote returns the line that runs a small script under any login shell; the
// script must hold no single quote, newline, backslash or exclamation mark.
func (j *job) remote(script string) string {
	sudo := ""
	if j.sudo {
		sudo = "sudo -n -- "
	}
	return "exec " + sudo + "sh -c '" + script + "'"
}

// killLine returns the line that kills the command with its process group.
// Until timeout has made the group there is the process alone.
func (j *job) killLine(pid int) string {
	return j.remote(fmt.Sprintf("kill -s KILL -- -%d || kill -s KILL %d", pid, pid))
}

package sdk

import (
	"context"
	"time"
)

// Executor runs short commands on hosts. It places, starts and polls agents
// and does nothing else: whatever is long, large or streaming goes through
// the agents.
type Executor interface {
	Plugin

	// Run runs cmd on each of hosts and calls emit once for every host, as
	// the results come in; emit is never called after Run has returned, and
	// the caller makes it safe for concurrent use. A host's failure to run
	// the command (Result.Err) neither holds up nor fails the others.
	//
	// The argument list reaches the command byte-exact; quoting is the
	// executor's work. A command that exits non-zero, or by a signal
	// (128+n), is a result and no error. When ctx ends, Run returns soon;
	// what was started on hosts may go on until Command.Timeout, at which it
	// is killed with its process group. The error is for failures that
	// concern no single host.
	Run(ctx context.Context, hosts []string, cmd Command, emit func(Result)) error
}

// Putter is an Executor that can place a file by itself. Announced by
// ExecutorTraits.CanPut; without it the core sends pieces through Run.
type Putter interface {
	// Put writes file on each host, as new: it fails with KindExists where
	// the path is taken, creates with O_EXCL and the given mode, and leaves
	// nothing behind when it fails. emit as in Run; ExitCode 0 and no Err
	// mean that the whole content lies there.
	Put(ctx context.Context, hosts []string, file File, emit func(Result)) error
}

// Expander is an Executor that resolves queries to hosts. Announced by
// ExecutorTraits.CanExpand.
type Expander interface {
	// Expand returns the hosts that query names, sorted, without doubles.
	Expand(ctx context.Context, query string) ([]string, error)
}

// ExecutorTraits are an executor's abilities and its limits in numbers; the
// core obeys them. Zero means the value in parentheses.
type ExecutorTraits struct {
	CanPut    bool
	CanExpand bool

	MaxCommand int // bytes of all arguments together (64 KiB)
	MaxStdin   int // bytes of Command.Stdin (64 KiB)
	MaxOutput  int // bytes of stdout and of stderr that come back (256 KiB)
	MaxHosts   int // hosts in one call (no limit)
	MaxCalls   int // calls at once (1)

	Latency   time.Duration // usual time of a call that does nothing (1 s)
	MaxWait   time.Duration // the longest that one call may last (30 s)
	PollEvery time.Duration // at most one poll in this time (60 s)

	// Streams says that results of fast hosts come while slow ones are
	// still waited for.
	Streams bool
}

// Command is one command on a host.
type Command struct {
	Argv    []Raw         `json:"argv"`              // exact; Argv[0] is looked up in PATH and the sbin directories
	Stdin   []byte        `json:"stdin,omitempty"`   // nil: /dev/null
	Timeout time.Duration `json:"timeout,omitempty"` // nanoseconds; then the command's process group is killed; 0: the executor's MaxWait, or a minute where an agent runs it
}

// Result is what a command did on one host.
type Result struct {
	Host      string `json:"host,omitempty"`
	ExitCode  int    `json:"exit_code"` // 128+n for signal n; meaningless if Err is set
	Stdout    []byte `json:"stdout,omitempty"`
	Stderr    []byte `json:"stderr,omitempty"`
	Truncated bool   `json:"truncated,omitempty"` // output was cut at the limit; what is there is its beginning
	Err       *Error `json:"error,omitempty"`     // the command could not be run, or its end is not known
}

// File is what Put writes.
type File struct {
	Path    Raw    // absolute
	Mode    uint32 // permission bits, 0..0777
	Content []byte
}

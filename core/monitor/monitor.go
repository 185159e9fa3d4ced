// Package monitor lets other processes of the same user see how far a transfer
// is and ask for its end, while the process that runs it lives: through a unix
// socket ID.sock beside the transfer's journal, in a directory closed to others.
//
// A connection carries one question, a line of JSON, and its answers: one
// Snapshot a line.
package monitor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/sdk"
)

// version of questions and answers. Both sides may be of different releases,
// when the program is replaced while a transfer runs, so what is not known is
// passed over, and another version is refused.
const version = 1

// Suffix ends the names of the sockets; the transfer's id stands before it.
const Suffix = ".sock"

// Snapshot is how far a transfer is.
type Snapshot struct {
	V        int       `json:"v"`
	Transfer string    `json:"transfer"`
	PID      int       `json:"pid"` // of the process that runs it
	Began    time.Time `json:"began"`
	Phase    string    `json:"phase,omitempty"`
	// Total is how many bytes are expected; -1: unknown. With AtLeast it is a
	// lower bound.
	Total   int64             `json:"total"`
	AtLeast bool              `json:"at_least,omitempty"`
	Members []progress.Member `json:"members,omitempty"` // the source first; empty until there is progress
	// Done says that this is the last one, with the exit code.
	Done     bool `json:"done,omitempty"`
	ExitCode int  `json:"exit_code"`
}

// slim leaves out what nobody shows and may be long.
func (s Snapshot) slim() Snapshot {
	members := make([]progress.Member, len(s.Members))
	for i, m := range s.Members {
		m.Status.Warnings, m.Status.Paths, m.Status.Times, m.Status.Failed = nil, nil, nil, nil
		members[i] = m
	}
	s.V, s.Members = version, members
	return s
}

// question is what a client asks.
type question struct {
	V    int    `json:"v"`
	Verb string `json:"verb"`
}

// The verbs.
const (
	verbStatus = "status" // the answer is one Snapshot
	verbFollow = "follow" // one now and with every change, until it is Done
	verbCancel = "cancel" // end the transfer; the answer is one Snapshot
)

// Bounds of a conversation.
const (
	maxQuestion = 1 << 10
	maxSnapshot = 64 << 20 // 4096 members and some
	askTime     = 10 * time.Second
	tellTime    = 5 * time.Second
)

// Remove removes the socket of a transfer that nobody runs. It must be called
// by who holds the lock of its journal.
func Remove(dir, id string) { os.Remove(filepath.Join(dir, id+Suffix)) }

// unreachable is the error for a process that does not answer.
func unreachable(id string, err error) error {
	e := &sdk.Error{Kind: sdk.KindUnreachable, Message: fmt.Sprintf("the process that runs transfer %s does not answer: %v", id, err),
		Hint: "transferpy list shows its pid; kill -INT PID ends the transfer"}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		e.Kind = sdk.KindNotFound
	}
	return e
}

// Package record keeps the list of what was transferred from this control
// host, by whom and why, and how it went: one line for each attempt in the
// file transfers.jsonl of the state directory. Many processes append to it;
// none changes or removes a line.
//
// A line is one JSON object with the version of its form; readers pass over
// fields that they do not know. The file is 0600, in a directory closed to
// others, and transferpy never shortens it: it grows by about a kilobyte a
// transfer and 300 bytes more for each further target. Whoever wants it
// shorter renames it away, as logrotate does; an appender looks, with the lock
// held, whether the file that it has still bears the name.
package record

import (
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Name is the file's name in the state directory.
const Name = "transfers.jsonl"

// Version is that of the form of a Line.
const Version = 1

// Who has ended an attempt, and so written its line.
const (
	ByRun     = "run"
	ByResume  = "resume"
	ByAttach  = "attach"
	ByCleanup = "cleanup" // the attempt's own process had died
)

// Line is how one attempt at a transfer ended. A transfer that was resumed has
// several, with the same id.
type Line struct {
	V        int       `json:"v"`
	Transfer string    `json:"transfer_id"`
	Time     time.Time `json:"time"` // of the attempt's end
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
	EndedBy  string    `json:"ended_by"`
	User     User      `json:"user"`         // of the process that ended it
	Host     string    `json:"control_host"` // as it calls itself
	Reason   string    `json:"reason,omitempty"`
	Mode     string    `json:"mode"`
	Source   End       `json:"source"`
	Targets  []Target  `json:"targets"`
	// Bytes of content: the most that a target has.
	Bytes int64 `json:"bytes"`
	// Digest is the root digest that the targets with a copy have; empty where
	// none was verified by one.
	Digest   string     `json:"digest,omitempty"`
	ExitCode int        `json:"exit_code"`
	Error    *sdk.Error `json:"error,omitempty"` // of the whole
	// Kept says that what targets without a copy had received was left, for
	// the transfer to be resumed.
	Kept bool `json:"kept,omitempty"`
	// Versions are those of the program, as "transferpy", and of the plugins
	// that took part, as "KIND/NAME".
	Versions map[string]string `json:"versions"`
}

// End is one end of a transfer.
type End struct {
	Executor string  `json:"executor"`
	Host     string  `json:"host"`
	Path     sdk.Raw `json:"path"`
}

// Target is how one target ended.
type Target struct {
	End
	ExitCode int        `json:"exit_code"`
	Bytes    int64      `json:"bytes"`
	Files    int64      `json:"files"`
	Wire     int64      `json:"wire_bytes"`
	Digest   string     `json:"digest,omitempty"`
	Error    *sdk.Error `json:"error,omitempty"`
}

// maxMessage bounds what is kept of an error's text, in bytes: with thousands
// of targets a line must stay below maxLine.
const maxMessage = 500

// bounded returns the line with its errors cut to what a list needs.
func (l Line) bounded() Line {
	l.Error = shorten(l.Error)
	l.Targets = append([]Target{}, l.Targets...)
	for i := range l.Targets {
		l.Targets[i].Error = shorten(l.Targets[i].Error)
	}
	return l
}

// shorten leaves of an error what says what happened and where.
func shorten(e *sdk.Error) *sdk.Error {
	if e == nil {
		return nil
	}
	short := &sdk.Error{Kind: e.Kind, Host: e.Host, Message: e.Message}
	if len(short.Message) > maxMessage {
		short.Message = short.Message[:maxMessage] + "..."
	}
	return short
}

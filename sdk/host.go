package sdk

import (
	"context"
	"time"
)

// Host lets modes and firewalls reach the hosts of their transfer. The core
// carries it out through the agents, scopes it to the hosts of the transfer
// and logs it. Each call is one broadcast, however many hosts it names, so
// batch what belongs together. Results are in the order of the arguments.
type Host interface {
	// Run runs read-only commands: on each host one after the other, on all
	// hosts at once. A command that exits non-zero does not stop the next.
	Run(ctx context.Context, work []HostCommands) ([]HostResults, error)

	// Change changes something, and tells its undo first: the undo is on
	// disk, with the controller and on the host, before the first command
	// runs. The commands stop at the first that exits non-zero. The undo is
	// run later by the core, however the transfer ends, and may be run
	// twice. Change is refused to what only looks: Inspect, Finish,
	// Detect.
	Change(ctx context.Context, work []HostChange) ([]HostResults, error)
}

// HostCommands are commands for one host.
type HostCommands struct {
	Host     string
	Commands []Command
}

// HostChange is a change on one host with its undo.
type HostChange struct {
	Host     string
	Undo     Undo
	Commands []Command
}

// HostResults are the results of the commands that ran on one host; shorter
// than the list of commands when one of Change's failed. Err is set when the
// host could not be reached.
type HostResults struct {
	Host    string
	Results []Result
	Err     *Error
}

// When says at which moment an undo is due.
type When string

// The moments.
const (
	WhenSourceDone When = "source-done" // nothing is read from the source any more
	WhenEnd        When = "end"         // the transfer ends, well or not
)

// Undo is how a change is taken back, as data: no plugin is needed to run
// it. It must succeed when there is nothing (any more) to take back, and
// bear a second run.
type Undo struct {
	ID       string    `json:"id"`   // unique in the transfer; a repeated Change with the same ID replaces nothing and adds nothing
	What     string    `json:"what"` // in words: "start replication of 's1' again"
	When     When      `json:"when"`
	Commands []Command `json:"commands"` // run in order; one that fails does not stop the next
}

// PathQuestion asks for facts about a path on a host; carried by probe.
type PathQuestion struct {
	ID   string `json:"id"`   // unique among the questions of one host
	Path Raw    `json:"path"` // absolute
	// Count also counts the tree below: entries and bytes. After 10 s the
	// answer is a lower bound.
	Count bool `json:"count,omitempty"`
}

// CommandQuestion asks for the result of a read-only command; carried by
// probe.
type CommandQuestion struct {
	ID      string  `json:"id"`
	Command Command `json:"command"`
}

// FileType is the type of a path.
type FileType string

// The file types.
const (
	FileRegular   FileType = "file"
	FileDirectory FileType = "directory"
	FileSymlink   FileType = "symlink"
	FileFifo      FileType = "fifo"
	FileSocket    FileType = "socket"
	FileCharDev   FileType = "char-device"
	FileBlockDev  FileType = "block-device"
)

// PathFacts answers a PathQuestion. Links are not followed at the last
// component.
type PathFacts struct {
	Exists     bool          `json:"exists"`
	Type       FileType      `json:"type,omitempty"`
	Size       int64         `json:"size,omitempty"` // of a regular file
	Mode       uint32        `json:"mode,omitempty"` // permission and special bits, 0..07777
	UID        uint32        `json:"uid,omitempty"`
	GID        uint32        `json:"gid,omitempty"`
	Empty      bool          `json:"empty,omitempty"`       // a directory with nothing but root's empty lost+found
	Writable   bool          `json:"writable,omitempty"`    // by the agent
	Readable   bool          `json:"readable,omitempty"`    // by the agent
	FreeBytes  int64         `json:"free_bytes,omitempty"`  // to the agent's user, on the file system
	FreeInodes int64         `json:"free_inodes,omitempty"` // -1: the file system does not count them
	FileSystem string        `json:"file_system,omitempty"` // ext4, tmpfs, ...
	Entries    int64         `json:"entries,omitempty"`     // with Count: all below and the path itself
	Bytes      int64         `json:"bytes,omitempty"`       // with Count: apparent size of regular files, hard links once
	Partial    bool          `json:"partial,omitempty"`     // Entries and Bytes are lower bounds
	Took       time.Duration `json:"took,omitempty"`
	Err        *Error        `json:"error,omitempty"` // the path could not be looked at
}

// Answers are one host's answers to its questions, by ID.
type Answers struct {
	Host     string
	Paths    map[string]PathFacts
	Commands map[string]Result
}

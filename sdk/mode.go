package sdk

import (
	"context"
	"time"
)

// Mode knows a kind of data: what is read on the source, how it is written
// on the targets, what to check before and after. Source and target strings
// are opaque to the core unless the mode says otherwise in its Plan.
//
// The order of calls is Questions, Inspect, Plan, Begin, Finish. A dry run
// ends after Plan.
type Mode interface {
	Plugin

	// Questions says what each host is to be asked by probe. Pure data.
	Questions(ctx context.Context, t Transfer) ([]HostQuestions, error)

	// Inspect is the read-only preflight. A refusal refuses the whole run;
	// each names its host, its path and what to do. host.Run may ask more,
	// at the price of a call; host.Change is refused.
	Inspect(ctx context.Context, t Transfer, answers []Answers, host Host) (Findings, error)

	// Plan turns what Inspect found into what the agents do. Pure data, no
	// questions.
	Plan(ctx context.Context, t Transfer, found Findings) (Plan, error)

	// Begin changes what must be changed before reading, each change through
	// host.Change with its undo. It is called only if Plan.Begins, when all
	// links are proven, and every command in it must end before its ctx
	// does.
	Begin(ctx context.Context, t Transfer, host Host) error

	// Finish makes after-checks, and nothing but these; called only if
	// Plan.Finishes. An error is reported as the transfer's failure.
	Finish(ctx context.Context, t Transfer, outcome Outcome, host Host) error
}

// Transfer is the transfer as the operator asked for it.
type Transfer struct {
	ID      string
	Source  Endpoint
	Targets []Endpoint
	Options map[string]string // what the core knows: compress, checksum, owner, stop_slave, force_live ...
}

// Endpoint is a host and what the operator wrote behind it.
type Endpoint struct {
	Host string
	Path Raw // opaque to the core
}

// HostQuestions are the questions for one host.
type HostQuestions struct {
	Host     string
	Paths    []PathQuestion
	Commands []CommandQuestion
}

// Findings are what Inspect found. Facts go back to the mode's Plan and are
// stored in the journal: no secrets.
type Findings struct {
	Bytes    int64    // expected on a target; -1: unknown
	Entries  int64    // -1: unknown
	AtLeast  bool     // Bytes and Entries are lower bounds
	Refusals []*Error // each refuses the whole run
	Warnings []string
	Facts    map[string]string
}

// Verify names a way in which a write stage can be verified.
type Verify string

// The ways.
const (
	VerifyDisk   Verify = "disk"   // what was written can be read back from the disk
	VerifyStream Verify = "stream" // the digest of what a command took is known
)

// Plan is what the agents do, as data.
type Plan struct {
	Read  Stage
	Write Stage // the same on all targets, with {staging} in it
	// Targets has one destination for each of Transfer.Targets, in order.
	Targets    []Destination
	Bytes      int64    // expected; -1: unknown
	Compressed bool     // the data is compressed already
	Verify     []Verify // in order of preference
	Begins     bool     // Begin does something
	Finishes   bool     // Finish does something
	Notes      []string // for --dry-run --verbose
}

// Built-in stages.
const (
	BuiltinTree           = "tree"            // disk <-> entries: a file or a directory tree with its metadata
	BuiltinFile           = "file"            // one file as a stream of bytes
	BuiltinUnpackTar      = "unpack-tar"      // a stream of tar -> disk
	BuiltinUnpackXbstream = "unpack-xbstream" // a stream of xbstream -> disk
)

// Stage is one end of the data plane: a built-in with its Path, or a
// Command. tree goes with tree; all others carry one stream of bytes and
// combine freely.
type Stage struct {
	Builtin string        `json:"builtin,omitempty"`
	Path    Raw           `json:"path,omitempty"` // what a built-in reads; for a write by "file": its name below {staging}
	Command *StageCommand `json:"command,omitempty"`
	Unpack  *Unpack       `json:"unpack,omitempty"` // how a built-in that unpacks does so; nil: all as it comes
}

// Unpack says how an archive is unpacked. Members that lead out of {staging}
// are refused in any case, and an archive is complete only with its own end.
type Unpack struct {
	// Strip drops the one directory that holds everything in a tar; an archive
	// that is not like that is refused.
	Strip bool `json:"strip,omitempty"`
	// OutsideLinks allows symbolic links in a tar that lead out of it. Nothing
	// is ever written through a link.
	OutsideLinks bool `json:"outside_links,omitempty"`
	// Proof names, at the top, the file that proves the archive complete: one of
	// these must be there. An xbstream must end with it. Empty: none is asked
	// for.
	Proof []Raw `json:"proof,omitempty"`
	// ProofLine is a regular expression that a line in the first 64 KiB of that
	// file must match; empty: none.
	ProofLine string `json:"proof_line,omitempty"`
}

// StageCommand is a command as a source (its stdout is the data) or as a
// sink (its stdin is). {staging} in Argv and Dir stands for the staging
// directory, which exists for staged and for external destinations.
type StageCommand struct {
	Argv       []Raw         `json:"argv"`
	Dir        Raw           `json:"dir,omitempty"` // working directory; empty: /
	Env        []Raw         `json:"env,omitempty"` // NAME=VALUE, added to a minimal environment
	User       string        `json:"user,omitempty"`
	Success    Success       `json:"success"`
	StopSignal string        `json:"stop_signal,omitempty"` // INT, TERM, ...; then KILL after StopAfter
	StopAfter  time.Duration `json:"stop_after,omitempty"`  // 0: 5 s
	Progress   string        `json:"progress,omitempty"`    // regular expression; a line of stderr that matches is shown
	Redact     []string      `json:"redact,omitempty"`      // regular expressions; what they match in stderr is never shown
	KeepLog    bool          `json:"keep_log,omitempty"`    // keep stderr, redacted and bounded, in a file on the host that outlives the transfer
}

// Success is when a command counts as having done its work; all of it must
// hold.
type Success struct {
	ExitCodes      []int  `json:"exit_codes,omitempty"`       // empty: 0 only
	LastStderrLine string `json:"last_stderr_line,omitempty"` // regular expression for the last non-empty line
	EmptyStderr    bool   `json:"empty_stderr,omitempty"`
}

// Destination is where one target's data ends up.
type Destination struct {
	// External: the data lands where the write command puts it, and Commit
	// and Abort decide about it. Else the core stages in Dir and publishes.
	External bool `json:"external,omitempty"`

	Dir       Raw   `json:"dir"`                  // staged: the existing target directory; external: where the staging directory may be made
	Publish   []Raw `json:"publish,omitempty"`    // staged: names renamed into Dir, in this order; empty: all there are. The last proves completeness.
	Last      []Raw `json:"last,omitempty"`       // staged, without Publish: of all there are, these come last, in this order; one that is not there is left out
	MustEmpty bool  `json:"must_empty,omitempty"` // staged: Dir must hold nothing else at commit

	Commit []Command `json:"commit,omitempty"` // external: run in order after all is verified; {staging} as above
	Abort  []Command `json:"abort,omitempty"`  // external: the undo, deferred before the write command starts
}

// Outcome is how the transfer went, for Finish.
type Outcome struct {
	Targets []TargetOutcome
}

// TargetOutcome is one target's outcome.
type TargetOutcome struct {
	Endpoint  Endpoint
	Committed bool
	Bytes     int64
	Files     int64
	Err       *Error
}

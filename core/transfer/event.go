package transfer

import (
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/sdk"
)

// Events receives what happens, in order, one call at a time. It must not
// block for long.
type Events func(Event)

// EventType names an event; it is the "event" of --output json.
type EventType string

// The events.
const (
	EventStarted    EventType = "started"     // the transfer has an id
	EventPreflight  EventType = "preflight"   // sizes and facts are known
	EventPlanned    EventType = "planned"     // Plan is set
	EventAgent      EventType = "agent"       // an agent was placed or prepared on Host
	EventFirewall   EventType = "firewall"    // a port was found closed, a filter found, or a rule made or removed (Rule is set) on Host
	EventPhase      EventType = "phase"       // the transfer went into Phase
	EventProgress   EventType = "progress"    // Members is set: targets, in a transfer after the source
	EventSourceDone EventType = "source-done" // nothing is read from the source any more
	EventChanged    EventType = "changed"     // the mode has changed something on Host that is undone when the source is read
	EventUndo       EventType = "undo"        // an undo ran
	EventDetour     EventType = "detour"      // Detour is set: targets were bypassed
	EventSlow       EventType = "slow"        // the target on Host holds the others up, and is waited for
	EventWarning    EventType = "warning"
	EventError      EventType = "error" // a failure of one host or of the whole
	EventDone       EventType = "done"  // last; Report is set
)

// Event is one thing that happened. Fields that do not concern its type are
// empty.
type Event struct {
	Type     EventType
	Time     time.Time
	Transfer string
	Host     string
	Phase    string
	Message  string // one line in words, for people
	Members  []progress.Member
	Total    int64 // expected bytes; -1: unknown
	AtLeast  bool  // Total is a lower bound
	Plan     *PlanView
	Rule     *Rule
	Err      *sdk.Error
	Detour   *Detour
	Report   *Report
}

// Rule is a firewall's rule that was made or removed.
type Rule struct {
	Firewall string // plugin name
	Text     string // as its tool prints it
	Port     int
	Sources  []string  // addresses that it admits, with the others of its hole
	Expiry   time.Time // by the host's clock
}

// PlanView is the plan in a form to be shown: --dry-run, --verbose.
type PlanView struct {
	Bytes   int64 // -1: unknown
	Entries int64 // -1: unknown
	AtLeast bool  // Bytes and Entries are lower bounds
	Hosts   []HostPlan
}

// HostPlan is what would be done on one host.
type HostPlan struct {
	Host  string
	Lines []string // every command, rule and path, in order
}

// Report is how a transfer ended.
type Report struct {
	Transfer string
	ExitCode int
	Began    time.Time
	Seconds  float64
	Source   Endpoint
	Targets  []TargetReport
	Warnings []control.Warning
	Detours  []Detour // in the order in which they were made
	Manifest string   // the file that --manifest asked for, once it is written
	Kept     bool     // what targets without a copy had received was left for Resume
	Calls    int      // executor calls made
	// PhaseCalls are the calls by phase, without phases that made none.
	PhaseCalls []PhaseCalls
	Err        *sdk.Error // what refused or failed the whole
}

// TargetReport is how one target ended.
type TargetReport struct {
	Host     string
	Path     sdk.Raw
	ExitCode int
	Bytes    int64
	Files    int64
	Wire     int64
	Seconds  float64
	Digest   string // hex root digest; empty if not verified
	Address  string // its own, at which the one that fed it has reached it; empty if none has
	Verified control.VerifyLevel
	Err      *sdk.Error
}

// Exit codes of the program; `transferpy --help` and the README list them.
const (
	ExitOK          = 0
	ExitFailed      = 1  // a copy failed, or the source changed while it was read
	ExitUsage       = 2  // usage, or the copy is not on the target afterwards
	ExitDigest      = 3  // digests differ
	ExitControlLost = 75 // control was lost or detached: the outcome is not known
	ExitSIGINT      = 130
	ExitSIGTERM     = 143
	ExitRestart     = 253 // replication could not be started again
	ExitStop        = 254 // replication could not be stopped
	ExitRefused     = 255 // preflight or firewall refused
)

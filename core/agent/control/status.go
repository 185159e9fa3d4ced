package control

import (
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Phase is how far a member is. A member only moves forward in this order,
// or to PhaseFailed. A source is verified when every target is or has failed.
type Phase string

// The phases.
const (
	PhasePrepared  Phase = "prepared"
	PhaseLinking   Phase = "linking"   // links are being made
	PhaseReady     Phase = "ready"     // all its links are proven
	PhaseMoving    Phase = "moving"    // reading and sending, or receiving and writing
	PhaseReadDone  Phase = "read-done" // source: nothing is read any more; target: it lacks nothing
	PhaseVerifying Phase = "verifying"
	PhaseVerified  Phase = "verified" // waits for commit
	PhaseCommitted Phase = "committed"
	PhaseFailed    Phase = "failed"
	PhaseEnded     Phase = "ended" // undone or stopped; nothing of it is left
)

// phaseOrder ranks the phases; PhaseFailed is reached from anywhere and lies
// beyond all of them, so that nobody waits for a member that has failed.
var phaseOrder = map[Phase]int{
	PhasePrepared: 1, PhaseLinking: 2, PhaseReady: 3, PhaseMoving: 4, PhaseReadDone: 5,
	PhaseVerifying: 6, PhaseVerified: 7, PhaseCommitted: 8, PhaseEnded: 9, PhaseFailed: 10,
}

// AtLeast reports whether a member in phase p is as far as q, or past
// reaching it because it has failed or ended. An unknown phase is never far.
func (p Phase) AtLeast(q Phase) bool { return phaseOrder[p] > 0 && phaseOrder[p] >= phaseOrder[q] }

// ChangeGone is the Change in the status of an agent whose process has died:
// a controller that has seen it is not woken by it again.
const ChangeGone = 1 << 62

// Status is an agent's state.
type Status struct {
	// Change grows with every change that the controller wants to know at
	// once (a phase, an error, a source-done undo); never with progress.
	Change  uint64         `json:"change"`
	Members []MemberStatus `json:"members,omitempty"`
	// Undos lists the undo records, newest last, with what became of each.
	Undos []UndoStatus `json:"undos,omitempty"`
	Ended bool         `json:"ended,omitempty"` // this is the agent's last answer
	// Unasked is how long the agent has not heard from its controller, and
	// EndsIn after how much more of that it undoes and ends. Told to observers.
	Unasked time.Duration `json:"unasked,omitempty"`
	EndsIn  time.Duration `json:"ends_in,omitempty"`
	// Closed are the members whose port this agent finds closed, in the order of
	// the chain: while it dials them, and after it has given up. At most
	// MaxClosed; the others are told when these are open.
	Closed []ClosedPort `json:"closed,omitempty"`
}

// MaxClosed bounds the closed ports of one status.
const MaxClosed = 64

// ClosedPort is a member that cannot be reached by TCP: what a packet filter
// may have done. One that connects and says nothing is not closed.
type ClosedPort struct {
	Member string `json:"member"`
	// Rounds is how often all addresses were tried since the port was found
	// closed first.
	Rounds    int             `json:"rounds"`
	Addresses []ClosedAddress `json:"addresses"`
}

// ClosedAddress is what came of one address.
type ClosedAddress struct {
	Address string `json:"address"`         // literal, without the port
	Local   string `json:"local,omitempty"` // that the dialler's kernel picks towards it
	Outcome string `json:"outcome"`         // link.Outcome
}

// UndoStatus is an undo record's state.
type UndoStatus struct {
	ID    string     `json:"id"`
	What  string     `json:"what"`
	Done  bool       `json:"done"`
	Error *sdk.Error `json:"error,omitempty"` // of the last attempt; it stays to be done
	// Held is how long what it takes back was in force; 0: not known.
	Held time.Duration `json:"held,omitempty"`
}

// MemberStatus is a member's state and progress.
type MemberStatus struct {
	Name    string `json:"name"`
	Phase   Phase  `json:"phase"`
	Entries int64  `json:"entries"`
	Files   int64  `json:"files"`
	Bytes   int64  `json:"bytes"`             // uncompressed: read, or written
	Wire    int64  `json:"wire"`              // bytes sent to the successor, or received, as framed
	Checked int64  `json:"checked,omitempty"` // bytes read back
	Total   int64  `json:"total,omitempty"`   // bytes expected, once known; 0: unknown
	Root    string `json:"root,omitempty"`    // hex digest over the manifest, once known
	Peer    string `json:"peer,omitempty"`    // address at which the successor was reached
	// Reached is, for a target, its own address at which the one that feeds it has
	// reached it last.
	Reached  string     `json:"reached,omitempty"`
	Warnings []Warning  `json:"warnings,omitempty"`
	Paths    []sdk.Raw  `json:"paths,omitempty"` // published, after commit
	Error    *sdk.Error `json:"error,omitempty"`
	// Failed are, for the source, the targets that it has given up, with the
	// reason as it looks from there: so nobody waits for a host that answers
	// no command any more.
	Failed []PeerError `json:"failed,omitempty"`
	// Detours tell, for the source, which targets the chain goes on without, and
	// why; each is news for the operator when it comes.
	Detours []Detour `json:"detours,omitempty"`
	// Slow are, for the source, targets that hold the others up and are waited
	// for (SlowWait), each told once.
	Slow []PeerError `json:"slow,omitempty"`
	// Kept is where what a resumed transfer can use was left, once a target
	// has ended so (Stop.Keep, Recover.Keep); empty: nothing was.
	Kept sdk.Raw `json:"kept,omitempty"`
	// Times tell what the member's goroutines wait for, to whoever compares
	// two answers; nil from an agent that does not measure.
	Times *Times `json:"times,omitempty"`
}

// Times are how long a member's goroutines have been at something, in
// nanoseconds, since the member was made; each only grows. Where several may
// be at the same at once, each counts, so a sum may grow faster than the
// clock.
type Times struct {
	Alive time.Duration `json:"alive"` // by the member's own clock
	// Of the one goroutine that sends at a source, and that takes at a
	// target: it waits for the readers, or for what comes by the link.
	Idle time.Duration `json:"idle,omitempty"`
	// Of the one that sends, at a source or to the next of the chain: it is
	// blocked in writes to the network, makes the link anew, or has sent all
	// and waits until that has been taken.
	Sending time.Duration `json:"sending,omitempty"`
	Paced   time.Duration `json:"paced,omitempty"` // it waits because of a limit of the rate
	// Of the one that takes at a target: it waits for the workers, or does
	// what has to be done in order.
	Taking time.Duration `json:"taking,omitempty"`
	// All buffers are full: the workers of a source wait for what was sent to
	// arrive, the receiver of a target for the workers or for the next of the
	// chain.
	Full time.Duration `json:"full,omitempty"`
	// Of the readers of a source: they wait because of a limit of what is read.
	Braked time.Duration `json:"braked,omitempty"`
	// Of the workers: reading, writing or reading back (small files: all that
	// is done with them), or feeding a command.
	Disk time.Duration `json:"disk,omitempty"`
	CPU  time.Duration `json:"cpu,omitempty"` // of the workers: digests, compression
}

// Detour is how the chain goes on without some of its targets: these get
// nothing by it any more, and are served by need-list if they come back. Members
// are told by name.
type Detour struct {
	Lost  []string   `json:"lost"`
	By    string     `json:"by"`           // who sent to the first of them
	To    string     `json:"to,omitempty"` // whom that sends to instead; empty: nobody
	Error *sdk.Error `json:"error,omitempty"`
}

// PeerError is another member's failure.
type PeerError struct {
	Name  string     `json:"name"`
	Error *sdk.Error `json:"error"`
}

// Warning is something that was not preserved or not as expected; said once,
// with a count.
type Warning struct {
	What    string  `json:"what"` // "sockets are not copied"
	Count   int64   `json:"count"`
	Example sdk.Raw `json:"example"` // one path
}

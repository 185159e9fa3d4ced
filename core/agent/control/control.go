// Package control holds the messages between the controller and its agents:
// their types, their version, their encoding and the checks at the door. It
// imports the standard library and sdk only.
//
// A request is one JSON object. It reaches `transferpy-agent VERB` on its
// standard input, or as a file (`--message PATH --digest SHA256`, which the
// reader deletes) when it is larger than the executor's stdin. One request
// goes to all hosts alike; an agent finds its own part by its agent id. The
// answer is one line of JSON on standard output, a Reply. The exit code is 0
// whenever a Reply was printed.
package control

import (
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Version is the version of the messages. An agent answers a request of
// another version with an error that names both, unless its verb is one by which
// a transfer is looked at or ended: status, stop and recover keep their form, and
// so does what is answered to them, so that what one release left can be ended
// by any other. What such a message has beyond this version is passed over.
const Version = 1

// lasts reports whether a verb keeps its form in all versions.
func (v Verb) lasts() bool { return v == VerbStatus || v == VerbStop || v == VerbRecover }

// Verb is what a request asks for.
type Verb string

// The verbs, each with the field of Request that carries its part.
const (
	VerbProbe   Verb = "probe"   // facts; needs no agent
	VerbPrepare Verb = "prepare" // make an agent: a key, a listener
	VerbStart   Verb = "start"   // hand out the plan; then as status
	VerbDo      Verb = "do"      // commands with their undos; without an agent as a one-shot
	VerbStatus  Verb = "status"  // state, at once or when something changed
	VerbBegin   Verb = "begin"   // Begin of the mode has ended: data may flow; then as status
	VerbCommit  Verb = "commit"  // publish what is verified; then as status
	VerbStop    Verb = "stop"    // undo what is due and end
	VerbRecover Verb = "recover" // after a crash: roll forward what was committed, undo the rest

	VerbManifest Verb = "manifest" // a piece of what was read, from the source's agent
	VerbVerify   Verb = "verify"   // check a directory against a manifest
	VerbRoute    Verb = "route"    // own addresses that lead to others; needs no agent
)

// Request is what the controller sends.
type Request struct {
	V          int    `json:"v"`
	Verb       Verb   `json:"verb"`
	Transfer   string `json:"transfer,omitempty"`   // every verb but probe and a one-shot do
	Generation uint64 `json:"generation,omitempty"` // of the controller; an agent refuses one older than it has seen
	// Call names this call. An agent that has seen it already answers as
	// before and does nothing again.
	Call string `json:"call"`
	// Wait is how long the answer may take when there is nothing new to
	// tell (start, do, status, begin, commit, stop, manifest, verify). 0:
	// answer at once.
	Wait time.Duration `json:"wait,omitempty"`
	// Until, with Wait, makes the answer wait for this phase instead of for
	// any change: it comes when each member of the agent is at least that
	// far, when one has failed, when the agent has ended, when something newer
	// than what was Seen wants the controller (a port is closed, a target was
	// given up), or when Wait is over, whichever is first; Seen does not matter
	// otherwise. So a short job is told in one answer, with its roots in it.
	Until Phase `json:"until,omitempty"`
	// Seen is, for each agent, the Change of the last status that the
	// controller has; an agent with a newer one answers at once.
	Seen map[string]uint64 `json:"seen,omitempty"`
	// Observe, with status, asks without being the controller: whatever its
	// generation, it is answered at once, and an agent that nobody else asks
	// ends as if nobody had.
	Observe bool `json:"observe,omitempty"`

	Probe   *Probe   `json:"probe,omitempty"`
	Prepare *Prepare `json:"prepare,omitempty"`
	Start   *Start   `json:"start,omitempty"`
	Do      *Do      `json:"do,omitempty"`
	Commit  *Commit  `json:"commit,omitempty"`
	Stop    *Stop    `json:"stop,omitempty"`
	Recover *Recover `json:"recover,omitempty"`

	Manifest *Manifest `json:"manifest,omitempty"`
	Verify   *Verify   `json:"verify,omitempty"`
	Route    *Route    `json:"route,omitempty"`
}

// Reply is what one invocation of transferpy-agent prints.
type Reply struct {
	V      int        `json:"v"`
	Facts  *Facts     `json:"facts,omitempty"`  // probe
	Agents []Answer   `json:"agents,omitempty"` // one for every agent of the transfer here under this uid
	Done   []DoResult `json:"done,omitempty"`   // a one-shot do
	// Routes answers a route: own addresses by member, none where no address
	// of it could be reached.
	Routes map[string][]string `json:"routes,omitempty"`
	Error  *sdk.Error          `json:"error,omitempty"` // the request could not be handled at all
}

// Answer is one agent's answer. Several host names may lead to the same
// agent; the controller drops doubles by Agent.
type Answer struct {
	Agent  string     `json:"agent"`
	Ready  *Ready     `json:"ready,omitempty"`  // prepare
	Status *Status    `json:"status,omitempty"` // start, status, begin, commit, stop, recover
	Done   []DoResult `json:"done,omitempty"`   // do
	// Running says that a do, a manifest or a verify is not finished; ask
	// again with the same Call.
	Running  bool      `json:"running,omitempty"`
	Piece    *Piece    `json:"piece,omitempty"`    // manifest
	Verified *Verified `json:"verified,omitempty"` // verify
	// Superseded says that the request was refused, with Error, because the
	// agent has heard from a controller of this newer generation. 0: it was not.
	Superseded uint64 `json:"superseded,omitempty"`
	// Gone says that the agent's process has died; what it left is undone by
	// recover.
	Gone  bool       `json:"gone,omitempty"`
	Error *sdk.Error `json:"error,omitempty"`
}

// Probe carries the union of the questions of all hosts. Each host answers all
// of them, since nobody knows yet what it calls itself; the controller takes
// what it has asked that host.
type Probe struct {
	Paths    []sdk.PathQuestion    `json:"paths,omitempty"`
	Commands []sdk.CommandQuestion `json:"commands,omitempty"`
	// Resolve are host names whose addresses the host is asked for.
	Resolve []string `json:"resolve,omitempty"`
	// Resume is a transfer that is to be resumed: what it has staged in a
	// directory counts as free there, and does not keep it from being empty.
	Resume string `json:"resume,omitempty"`
}

// Facts are what a host says of itself.
type Facts struct {
	// Instance is the same for two names of one host (and one uid on it),
	// and different for two hosts: boot id, machine, namespaces and uid.
	Instance  string    `json:"instance"`
	BootID    string    `json:"boot_id"`
	NetNS     string    `json:"netns"` // inode of the network namespace
	Hostname  string    `json:"hostname"`
	UID       int       `json:"uid"`
	Arch      string    `json:"arch"` // GOARCH
	Kernel    string    `json:"kernel"`
	Now       time.Time `json:"now"`       // by the host's clock
	StateDir  sdk.Raw   `json:"state_dir"` // 0700; messages may be put below its "in" directory
	Program   sdk.Raw   `json:"program"`   // where this agent's file lies
	Addresses []string  `json:"addresses"` // global unicast, literal
	// Resolved has the addresses of each name of Probe.Resolve that this
	// host knows; one that it does not know is missing.
	Resolved map[string][]string      `json:"resolved,omitempty"`
	Paths    map[string]sdk.PathFacts `json:"paths,omitempty"`
	Commands map[string]sdk.Result    `json:"commands,omitempty"`
}

// Prepare makes an agent. It names no parts, since no agent knows yet what
// the executor calls it.
type Prepare struct {
	Port  int           `json:"port,omitempty"` // 0: the first free of PortLow..PortHigh
	Lease time.Duration `json:"lease"`          // before data flows: unasked for so long, the agent undoes and ends
	Hold  time.Duration `json:"hold"`           // --control-lost-for, from when data flows
	// Nice is the nice value, 1 to 19, of the agent and of what it starts;
	// its I/O priority is lowered too. 0: both stay as they are.
	Nice int `json:"nice,omitempty"`
	// NiceOn are the hosts that Nice is for, by instance; empty: all.
	NiceOn []string `json:"nice_on,omitempty"`
	// Alone says that the agent takes part in no transfer: it listens on the
	// loopback address only, on any port.
	Alone bool `json:"alone,omitempty"`
	// Keep is --keep-partial: a target writes checkpoints, and an agent that
	// ends by itself leaves what a resumed transfer can use. One that is
	// stopped does what Stop says.
	Keep bool `json:"keep,omitempty"`
	// Resume is the transfer whose kept state is to be used; empty: none. It is
	// the request's own transfer, whose id stays the same when it is resumed.
	Resume string `json:"resume,omitempty"`
	// Checkpoint is how much time may lie between two checkpoints of a target;
	// 0: CheckpointEvery.
	Checkpoint time.Duration `json:"checkpoint,omitempty"`
}

// CheckpointEvery is how much time lies between two checkpoints, unless
// Prepare says otherwise: so much work a crash can cost.
const CheckpointEvery = 30 * time.Second

// The ports tried when none is asked for.
const (
	PortLow  = 4400
	PortHigh = 4499
)

// Ready is a prepared agent.
type Ready struct {
	Fingerprint string   `json:"fingerprint"` // hex SHA-256 of the public key (SubjectPublicKeyInfo)
	SigningKey  []byte   `json:"signing_key"` // Ed25519 public key: what it signs segments with, if it is the source
	Port        int      `json:"port"`
	Addresses   []string `json:"addresses"`
	BootID      string   `json:"boot_id"`
	NetNS       string   `json:"netns"`
	// Kept says that state of an earlier run of the transfer was found on this
	// host (Prepare.Resume). How much of it serves shows when members start.
	Kept bool `json:"kept,omitempty"`
}

// Do are commands for agents (by agent id) or, without any, for hosts (by
// instance).
type Do struct {
	Parts map[string]DoPart `json:"parts"`
}

// DoPart is one agent's part of a do. With an Undo, it is fsynced before the
// first command runs, and the commands stop at the first that fails.
type DoPart struct {
	Undo     *sdk.Undo     `json:"undo,omitempty"`
	Commands []sdk.Command `json:"commands"`
	// Then are further parts of the same agent, or host, carried out in order
	// whatever has become of those before. They have no Then.
	Then []DoPart `json:"then,omitempty"`
}

// DoResult are the results of one part; those of its Then follow, with the same
// name.
type DoResult struct {
	Part    string       `json:"part"`
	Results []sdk.Result `json:"results"`
	Error   *sdk.Error   `json:"error,omitempty"`
}

// Commit publishes: agents publish those of their members that are named.
type Commit struct {
	Members []string `json:"members"`
	// Stop ends the agents that have nothing left to do, as Stop does, in
	// the same call.
	Stop bool `json:"stop,omitempty"`
}

// Stop ends agents: kills what runs, undoes what is due (last in, first
// out), removes what is not committed.
type Stop struct {
	// SourceDone runs only the undos of that moment and goes on.
	SourceDone bool `json:"source_done,omitempty"`
	// Keep leaves what a resumed transfer can use (--keep-partial): staging
	// directories and the source's manifest. Their undos stay to be done, by
	// recover.
	Keep bool `json:"keep,omitempty"`
}

// Recover is for agents that have died: it runs in a fresh process that
// reads what they left, and what agents have kept.
type Recover struct {
	// Keep leaves what a resumed transfer can use, as Stop's does.
	Keep bool `json:"keep,omitempty"`
}

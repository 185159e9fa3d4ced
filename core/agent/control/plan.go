package control

import (
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Start is the plan of the whole transfer, the same for all agents. Who
// dials whom follows from the order of Members: every target is dialled by
// the source and by its two nearest predecessors.
type Start struct {
	// Members in the order of the chain; the first is the source.
	Members  []Member  `json:"members"`
	Read     sdk.Stage `json:"read"`
	Write    sdk.Stage `json:"write"`
	Settings Settings  `json:"settings"`
	// Begins says that the source waits for a VerbBegin before it reads;
	// else it reads as soon as all links are proven.
	Begins bool `json:"begins,omitempty"`
}

// Member is one end of the transfer: the source or a sink. Several may live
// in one agent.
type Member struct {
	Name  string `json:"name"` // "source", "target-1", ...: unique, used in handshakes
	Host  string `json:"host"` // as the operator wrote it, for messages
	Agent string `json:"agent"`

	// What is needed to reach and know the member's agent, as in Ready.
	Fingerprint string   `json:"fingerprint"`
	SigningKey  []byte   `json:"signing_key,omitempty"` // of the source
	Port        int      `json:"port"`
	DataAddress string   `json:"data_address,omitempty"` // configured; tried first
	Addresses   []string `json:"addresses"`
	BootID      string   `json:"boot_id"`
	NetNS       string   `json:"netns"`

	Destination *sdk.Destination `json:"destination,omitempty"` // of a target
}

// Settings are the knobs of the data plane, the same for all members.
type Settings struct {
	Encrypt      bool          `json:"encrypt"`
	Codec        string        `json:"codec"`                 // none, minlz, zstd, auto
	CodecLevel   int           `json:"codec_level,omitempty"` // of minlz and zstd: 1 to CodecLevels; 0: the default
	Verify       VerifyLevel   `json:"verify"`
	LimitRate    int64         `json:"limit_rate,omitempty"`    // bytes a second on the wire; 0: none
	LimitRead    int64         `json:"limit_read,omitempty"`    // bytes a second from the source's disk
	Owner        string        `json:"owner"`                   // name, numeric or USER:GROUP
	DataNetworks []string      `json:"data_networks,omitempty"` // CIDR; strict where set
	LinkTimeout  time.Duration `json:"link_timeout"`            // how long links may take to be proven
	SlowTarget   string        `json:"slow_target,omitempty"`   // SlowWait, which empty is too, or SlowDetach
	// OpenFor is how much longer they may take where a port is closed, since the
	// controller may have a firewall open it; 0: it does not.
	OpenFor  time.Duration `json:"open_for,omitempty"`
	RetryFor time.Duration `json:"retry_for"` // how long a peer may stay away in mid-transfer
}

// What becomes of a target that holds the others up (Settings.SlowTarget).
const (
	SlowWait   = "wait"   // it is waited for
	SlowDetach = "detach" // it is bypassed, and served by need-list after the others
)

// CodecLevels is how many levels of compression the codecs that have any take.
const CodecLevels = 3

// VerifyLevel is how the copy is verified.
type VerifyLevel string

// The levels.
const (
	VerifyReadBack VerifyLevel = "read-back" // --checksum: the target reads its disk again
	VerifyReceived VerifyLevel = "received"  // --parallel-checksum: digests of what was received
	VerifySigned   VerifyLevel = "signed"    // --no-checksum: the signed segments alone
)

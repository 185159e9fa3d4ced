package link

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/stopwatch"
)

// Purpose is what a connection is for.
type Purpose string

// The purposes.
const (
	PurposeNotes Purpose = "notes" // small messages between the source and one target
	PurposeData  Purpose = "data"  // frames, from a member to the next of the chain
	PurposeProof Purpose = "proof" // nothing: it shows that the way is open, should it be needed
	// PurposeRepair carries frames of a later pass, from the source straight
	// to the target that has asked for them.
	PurposeRepair Purpose = "repair"
)

// Times of a link. Both ends send something every Beat; an end that hears
// nothing for Silence takes the connection for dead and makes a new one.
const (
	Beat    = time.Second
	Silence = 5 * time.Second
	// Handshake bounds the proof of a new connection, so that a stranger
	// cannot hold a slot.
	Handshake = 3 * time.Second
)

// MaxMessage bounds one message on a notes connection.
const MaxMessage = 4 << 20

// Hello is the first message on a proven TLS connection: who dials whom, for
// what. Members are known by name, their agents by key.
type Hello struct {
	V        int     `json:"v"`
	Transfer string  `json:"transfer"`
	From     string  `json:"from"`
	To       string  `json:"to"`
	Purpose  Purpose `json:"purpose"`
	// Plain asks for a token with which an unencrypted connection may be
	// opened; what it carries is guarded by the segments' signatures.
	Plain bool `json:"plain,omitempty"`
	// Pass is, for PurposeRepair, the number of the pass, and Round that of
	// the need-list that it answers.
	Pass  uint32 `json:"pass,omitempty"`
	Round uint32 `json:"round,omitempty"`
}

// welcome answers a Hello.
type welcome struct {
	Token []byte `json:"token,omitempty"`
	Error string `json:"error,omitempty"`
	// Final says that it is of no use to dial again, and why: see finals.
	Final string `json:"final,omitempty"`
}

// Why data is refused for good. Check returns one of them, and so does the Dial
// of the other side.
var (
	ErrBypassed = errors.New("the dialler is bypassed: the chain goes on without it")
	ErrServed   = errors.New("it takes nothing by the chain any more")
)

// finals are how they are told.
var finals = map[string]error{"bypassed": ErrBypassed, "served": ErrServed}

// refusal is the answer to a Hello that is refused.
func refusal(err error) welcome {
	w := welcome{Error: err.Error()}
	for name, final := range finals {
		if errors.Is(err, final) {
			w.Final = name
		}
	}
	return w
}

const helloVersion = 1

// Conn is a proven connection between two members. One goroutine may read
// while another writes; writes of messages are serialised.
type Conn struct {
	net.Conn
	Hello   Hello
	Address string // the peer's, as connected

	below   *bulk // nil for a plain connection
	wait    *stopwatch.Watch
	writing sync.Mutex
}

// newConn makes a Conn of a proven connection; below is what TLS lies on.
func newConn(conn net.Conn, below *bulk, h Hello, address string) *Conn {
	if below != nil && (h.Purpose == PurposeData || h.Purpose == PurposeRepair) {
		below.large()
	}
	return &Conn{Conn: conn, Hello: h, Address: address, below: below}
}

// Measure makes w count the time that Write is blocked by the network; what
// the cipher takes is not counted. Before the first Write.
func (c *Conn) Measure(w *stopwatch.Watch) {
	if c.below == nil {
		c.wait = w
		return
	}
	c.below.mu.Lock()
	defer c.below.mu.Unlock()
	c.below.wait = w
}

// Write writes p as a whole. For one goroutine.
func (c *Conn) Write(p []byte) (int, error) {
	if c.below == nil {
		c.wait.Start()
		defer c.wait.Stop()
		return c.Conn.Write(p)
	}
	c.below.cork()
	n, err := c.Conn.Write(p)
	if uerr := c.below.uncork(); err == nil && uerr != nil {
		return 0, uerr
	}
	return n, err
}

// Read reads with the deadline of Silence.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(Silence)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return n, fmt.Errorf("nothing heard from %s for %s", c.Address, Silence)
	}
	return n, err
}

// WriteMessage sends v as one JSON message.
func (c *Conn) WriteMessage(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > MaxMessage {
		return fmt.Errorf("a message of %d bytes is over the limit of %d", len(body), MaxMessage)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.Conn.SetWriteDeadline(time.Now().Add(Silence)); err != nil {
		return err
	}
	return writeMessage(c.Conn, body)
}

// ReadMessage reads one message into v.
func (c *Conn) ReadMessage(v any) error { return readMessage(c, v) }

func writeMessage(w io.Writer, body []byte) error {
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err := w.Write(append(buf, body...))
	return err
}

func readMessage(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxMessage {
		return fmt.Errorf("a message of %d bytes is over the limit of %d", n, MaxMessage)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// sendMessage is writeMessage of a value, for the handshake.
func sendMessage(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeMessage(w, body)
}

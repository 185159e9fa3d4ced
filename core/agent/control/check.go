package control

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of what a message may hold; MaxMessage bounds all of it together.
const (
	MaxMembers    = 4096
	MaxAgents     = 1024  // that answer in one reply
	MaxQuestions  = 10000 // paths, and commands, in one probe
	MaxCommands   = 1000  // in one part of a do, or one undo
	maxArgs       = 10000 // of one command
	maxWarnings   = 1000
	maxAddresses  = 256
	maxPath       = 64 << 10 // bytes; a path may be longer than the kernel takes in one go
	maxText       = 64 << 10 // bytes of a message, a hint, a tail of stderr
	maxName       = 1024     // bytes of a host name, an undo's ID, a file system's name
	maxPatterns   = 100
	maxWait       = time.Hour
	maxLease      = 7 * 24 * time.Hour
	maxHold       = 366 * 24 * time.Hour
	maxRunTime    = 30 * 24 * time.Hour // of a command
	maxExtraCodes = 256
)

var (
	idPattern  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	hexDigest  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	signalName = regexp.MustCompile(`^(SIG)?[A-Z][A-Z0-9+-]{0,15}$`)
)

// ValidID reports whether s may name a transfer, an agent, a call or a
// member: 1 to 64 letters, digits, "_" and "-", the first no "-" or "_". So
// it is safe as the name of a directory and as an argument.
func ValidID(s string) bool { return idPattern.MatchString(s) }

// NewID returns a random id of 24 characters: for a call, an agent, or a file
// that nobody else is to guess.
func NewID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// check collects the first thing that is wrong.
type check struct{ err *sdk.Error }

// that notes a failure if ok does not hold.
func (c *check) that(ok bool, format string, args ...any) {
	if !ok && c.err == nil {
		c.err = bad(format, args...)
	}
}

// result avoids an error that is not nil and holds a nil *sdk.Error.
func (c *check) result() error {
	if c.err == nil {
		return nil
	}
	return c.err
}

func (c *check) id(what, s string) { c.that(ValidID(s), "%s is no valid id: %.80q", what, s) }

func (c *check) duration(what string, d, most time.Duration) {
	c.that(d >= 0 && d <= most, "%s must lie between 0 and %v: %v", what, most, d)
}

func (c *check) count(what string, n, most int) {
	c.that(n <= most, "%d %s, more than %d", n, what, most)
}

// text is for what is shown to people. Who prints it makes it safe.
func (c *check) text(what, s string, most int) {
	c.that(len(s) <= most, "%s is longer than %d bytes", what, most)
}

// raw is for what the kernel is given.
func (c *check) raw(what string, r sdk.Raw, most int) {
	c.that(len(r) <= most, "%s is longer than %d bytes", what, most)
	c.that(!strings.ContainsRune(string(r), 0), "%s holds a NUL byte", what)
}

func (c *check) absolute(what string, p sdk.Raw) {
	c.raw(what, p, maxPath)
	c.that(path.IsAbs(string(p)), "%s is no absolute path: %.200s", what, p.Display())
}

func (c *check) pattern(what, s string) {
	c.text(what, s, maxText)
	_, err := regexp.Compile(s)
	c.that(err == nil, "%s is no regular expression: %v", what, err)
}

func (c *check) addresses(list []string) {
	c.count("addresses", len(list), maxAddresses)
	for _, s := range list {
		c.address(s)
	}
}

func (c *check) address(s string) {
	_, err := netip.ParseAddr(s)
	c.that(err == nil, "no address: %.80q", s)
}

func (c *check) networks(list []string) {
	c.count("data networks", len(list), maxAddresses)
	for _, network := range list {
		_, err := netip.ParsePrefix(network)
		c.that(err == nil, "no network: %.80q", network)
	}
}

func (c *check) port(what string, n int) { c.that(n >= 0 && n <= 65535, "%s is no port: %d", what, n) }

func (c *check) command(cmd sdk.Command) {
	c.that(len(cmd.Argv) > 0 && len(cmd.Argv[0]) > 0, "a command has no name")
	c.count("arguments of a command", len(cmd.Argv), maxArgs)
	for _, arg := range cmd.Argv {
		c.raw("an argument", arg, MaxMessage)
	}
	c.duration("a command's timeout", cmd.Timeout, maxRunTime)
}

func (c *check) commands(list []sdk.Command) {
	c.count("commands", len(list), MaxCommands)
	for _, cmd := range list {
		c.command(cmd)
	}
}

func (c *check) undo(u sdk.Undo) {
	c.that(u.ID != "", "an undo has no id")
	c.text("an undo's id", u.ID, maxName)
	c.text("what an undo does", u.What, maxText)
	c.that(u.When == sdk.WhenSourceDone || u.When == sdk.WhenEnd, "undo %.80q is due at an unknown moment: %.80q", u.ID, u.When)
	c.commands(u.Commands)
}

// fault checks an error that is part of a message.
func (c *check) fault(e *sdk.Error) {
	if e == nil {
		return
	}
	c.that(e.Kind != "" && len(e.Kind) <= 64, "an error has no kind")
	c.text("an error's host", e.Host, maxName)
	c.text("an error's message", e.Message, maxText)
	c.text("an error's hint", e.Hint, maxText)
	c.text("an error's stderr", e.Stderr, maxText)
}

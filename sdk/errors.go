package sdk

import (
	"errors"
	"strings"
)

// ErrorKind sorts failures by what the reader can do about them. The kinds
// cross the wire; errors.Is works with the Err variables on both sides.
type ErrorKind string

// The kinds of errors.
const (
	KindConfig      ErrorKind = "config"       // a setting is wrong; nothing was touched
	KindUnreachable ErrorKind = "unreachable"  // the host did not answer
	KindAuth        ErrorKind = "auth"         // the host refused who we are, or we refused who it is
	KindNotFound    ErrorKind = "not-found"    // a path, host or object is missing
	KindExists      ErrorKind = "exists"       // something is there already and would be overwritten
	KindNoSpace     ErrorKind = "no-space"     // bytes or inodes are short
	KindMissingTool ErrorKind = "missing-tool" // a program is not installed
	KindPermission  ErrorKind = "permission"   // the kernel or a service said no
	KindTimeout     ErrorKind = "timeout"      // a deadline has passed
	KindCancelled   ErrorKind = "cancelled"    // somebody asked to stop
	KindUnsupported ErrorKind = "unsupported"  // asked for something that this part cannot do
	KindCrashed     ErrorKind = "crashed"      // a plugin or an agent died
	KindIntegrity   ErrorKind = "integrity"    // bytes are not what was signed or read
	KindChanged     ErrorKind = "changed"      // the source changed while it was read
	KindDamaged     ErrorKind = "damaged"      // what was read is broken or incomplete in itself
	KindInternal    ErrorKind = "internal"     // a mistake of ours
)

// Error is a failure with its facts (Kind, Host, Message) and, apart from
// them, the advice (Hint). It is the only error type that crosses a wire.
type Error struct {
	Kind    ErrorKind `json:"kind"`
	Host    string    `json:"host,omitempty"`   // as the operator named it; empty when no host is meant
	Message string    `json:"message"`          // what happened, with the path; one line
	Hint    string    `json:"hint,omitempty"`   // what to do about it
	Stderr  string    `json:"stderr,omitempty"` // last lines of a command's or plugin's stderr
}

// Error implements error: host, message and hint on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Host != "" {
		b.WriteString(e.Host + ": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Is reports whether target is an *Error of the same kind without further
// facts, as the Err variables are.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Message == ""
}

// Sentinels for errors.Is, one a kind.
var (
	ErrConfig      = &Error{Kind: KindConfig}
	ErrUnreachable = &Error{Kind: KindUnreachable}
	ErrAuth        = &Error{Kind: KindAuth}
	ErrNotFound    = &Error{Kind: KindNotFound}
	ErrExists      = &Error{Kind: KindExists}
	ErrNoSpace     = &Error{Kind: KindNoSpace}
	ErrMissingTool = &Error{Kind: KindMissingTool}
	ErrPermission  = &Error{Kind: KindPermission}
	ErrTimeout     = &Error{Kind: KindTimeout}
	ErrCancelled   = &Error{Kind: KindCancelled}
	ErrUnsupported = &Error{Kind: KindUnsupported}
	ErrCrashed     = &Error{Kind: KindCrashed}
	ErrIntegrity   = &Error{Kind: KindIntegrity}
	ErrChanged     = &Error{Kind: KindChanged}
	ErrDamaged     = &Error{Kind: KindDamaged}
	ErrInternal    = &Error{Kind: KindInternal}
)

// AsError returns err as an *Error: itself or the first one it wraps, else
// one of KindInternal with err's text. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: KindInternal, Message: err.Error()}
}

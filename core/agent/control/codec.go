package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/transferpy/transferpy/sdk"
)

// MaxMessage bounds an encoded request and an encoded reply, in bytes.
const MaxMessage = 16 << 20

// EncodeRequest checks q and returns it as one line of JSON of this Version.
func EncodeRequest(q *Request) ([]byte, error) {
	c := *q
	c.V = Version
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return encode(&c)
}

// DecodeRequest reads one request, and nothing but it, up to the end of r.
// What it returns has been checked as Validate does, and is of this Version. A
// request of another version fails with KindUnsupported and an error that names
// both, but for the verbs that keep their form.
func DecodeRequest(r io.Reader) (*Request, error) {
	var q Request
	if err := decode(r, &q, "request", func(h head) bool { return h.Verb.lasts() }); err != nil {
		return nil, err
	}
	q.V = Version
	if err := q.Validate(); err != nil {
		return nil, err
	}
	return &q, nil
}

// EncodeReply checks a and returns it as one line of JSON of this Version.
func EncodeReply(a *Reply) ([]byte, error) {
	c := *a
	c.V = Version
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return encode(&c)
}

// DecodeReply reads one reply, as DecodeRequest does a request. One of another
// version answers a verb that keeps its form, or refuses any other.
func DecodeReply(r io.Reader) (*Reply, error) {
	var a Reply
	if err := decode(r, &a, "reply", func(head) bool { return true }); err != nil {
		return nil, err
	}
	a.V = Version
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return &a, nil
}

func encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode a control message: %w", err)
	}
	if len(data) >= MaxMessage {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("a control message of %d bytes is larger than %d", len(data), MaxMessage)}
	}
	return append(data, '\n'), nil
}

// head is what is read of a message before all else.
type head struct {
	V    int  `json:"v"`
	Verb Verb `json:"verb"`
}

// decode reads at most MaxMessage bytes into v. The version is looked at
// first, since nothing else means anything in another version, unless lasts says
// that this message keeps its form.
func decode(r io.Reader, v any, what string, lasts func(head) bool) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return fmt.Errorf("read the %s: %w", what, err)
	}
	if len(data) > MaxMessage {
		return bad("the %s is larger than %d bytes", what, MaxMessage)
	}
	var h head
	if err := json.Unmarshal(data, &h); err != nil {
		return bad("the %s is not readable: %v", what, err)
	}
	if h.V < 1 || h.V != Version && !lasts(h) {
		return &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: fmt.Sprintf("the %s is of version %d, this side speaks version %d", what, h.V, Version),
			Hint:    "controller and agent must be of the same release",
		}
	}
	strict := json.NewDecoder(bytes.NewReader(data))
	if h.V == Version {
		strict.DisallowUnknownFields()
	}
	if err := strict.Decode(v); err != nil {
		return bad("the %s is not readable: %v", what, err)
	}
	if _, err := strict.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows the %s", what)
	}
	return nil
}

// bad is the error for a message that breaks the rules.
func bad(format string, args ...any) *sdk.Error {
	return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf(format, args...)}
}

package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/sdk"
)

// requestVersion is the version of a stored request. One of another version is
// refused: a transfer that goes on must mean what it meant.
const requestVersion = 1

// storedRequest is a request as journals have it.
type storedRequest struct {
	V int `json:"v"`
	Request
}

// encodeRequest returns the request for the journal.
func encodeRequest(q Request) (json.RawMessage, error) {
	text, err := json.Marshal(storedRequest{requestVersion, q})
	if err != nil {
		return nil, fmt.Errorf("store the request: %w", err)
	}
	return text, nil
}

// DecodeRequest reads a request as a journal has it (journal.Header.Request),
// strictly: one that cannot be understood as a whole is an error of KindConfig.
func DecodeRequest(text json.RawMessage) (Request, error) {
	var stored storedRequest
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&stored)
	switch {
	case err != nil:
	case stored.V != requestVersion:
		err = fmt.Errorf("it has version %d, this program reads version %d", stored.V, requestVersion)
	case len(stored.Targets) >= control.MaxMembers:
		err = fmt.Errorf("it has %d targets", len(stored.Targets))
	default:
		if _, rest := d.Token(); !errors.Is(rest, io.EOF) {
			err = errors.New("something follows it")
			break
		}
		err = stored.complete()
	}
	if err != nil {
		return Request{}, &sdk.Error{Kind: sdk.KindConfig, Message: "the stored request cannot be read: " + err.Error(),
			Hint: "the journal is damaged or was written by another version of transferpy"}
	}
	return stored.Request, nil
}

// requestOf is the request of a journal's transfer.
func requestOf(state *journal.State) (Request, error) {
	req, err := DecodeRequest(state.Header.Request)
	if err != nil {
		e := *sdk.AsError(err)
		e.Message = "transfer " + state.Header.Transfer + ": " + e.Message
		return Request{}, &e
	}
	return req, nil
}

// Stored returns the request of a transfer as its journal has it: what to
// configure the plugins with for Cleanup and Resume. An empty dir means
// journal.Dir().
func Stored(dir, id string) (Request, error) {
	state, _, err := read(dir, id)
	if err != nil {
		return Request{}, err
	}
	return requestOf(&state)
}

// read reads a journal without taking its lock.
func read(dir, id string) (state journal.State, held bool, err error) {
	if dir == "" {
		if dir, err = journal.Dir(); err != nil {
			return journal.State{}, false, err
		}
	}
	return journal.Read(dir, id)
}

// History is what the journal knows of one transfer.
type History struct {
	journal.State
	Held    bool // a living process runs it
	Request Request
	// Report is how the last attempt ended; nil while one is under way, or
	// where its process has died.
	Report *Report
}

// Show reads what the journal knows of a transfer, and changes nothing. An
// empty dir means journal.Dir().
func Show(dir, id string) (*History, error) {
	state, held, err := read(dir, id)
	if err != nil {
		return nil, err
	}
	h := &History{State: state, Held: held}
	if h.Request, err = requestOf(&state); err != nil {
		return nil, err
	}
	if state.Outcome == nil || len(state.Outcome.Report) == 0 {
		return h, nil
	}
	h.Report = &Report{}
	if err := json.Unmarshal(state.Outcome.Report, h.Report); err != nil {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: "the stored report of transfer " + id + " cannot be read: " + err.Error(),
			Hint: "the journal is damaged or was written by another version of transferpy"}
	}
	return h, nil
}

// Published reports whether a target, by its place in the request, is known
// to have its copy.
func (h *History) Published(target int) bool { return slices.Contains(h.Committed, memberName(target)) }

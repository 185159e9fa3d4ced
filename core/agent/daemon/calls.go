package daemon

import (
	"fmt"
	"sync/atomic"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// maxCalls is how many calls an agent remembers. The controller has few
// under way at once, and repeats one soon or never.
const maxCalls = 64

// call is one call of the controller: what it does is done once, however
// often the call comes.
type call struct {
	id       string
	verb     control.Verb
	change   uint64        // the agent's change when the call came
	finished chan struct{} // closed when the action has ended; the rest is set then
	err      *sdk.Error
	done     []control.DoResult
	piece    *control.Piece
	verified *control.Verified
	checked  atomic.Int64 // bytes that a verify has read so far
	ends     bool         // the action has asked the agent to end
}

func (c *call) finish(err *sdk.Error) {
	c.err = err
	close(c.finished)
}

func (c *call) isFinished() bool {
	select {
	case <-c.finished:
		return true
	default:
		return false
	}
}

// calls remembers the last calls, the oldest first. Its owner locks it.
type calls struct{ list []*call }

// take finds the call, or notes a new one. A status and a manifest change
// nothing, so each is new.
func (l *calls) take(id string, verb control.Verb) (c *call, isNew bool, err error) {
	c = &call{id: id, verb: verb, finished: make(chan struct{})}
	if verb == control.VerbStatus || verb == control.VerbManifest {
		return c, true, nil
	}
	for _, old := range l.list {
		if old.id != id {
			continue
		}
		if old.verb != verb {
			return nil, false, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("call %s was a %s and cannot be a %s", id, old.verb, verb)}
		}
		return old, false, nil
	}
	if len(l.list) == maxCalls && !l.forget() {
		return nil, false, &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("%d calls are under way", maxCalls), Hint: "ask again later"}
	}
	l.list = append(l.list, c)
	return c, true, nil
}

// forget drops the oldest call that has finished.
func (l *calls) forget() bool {
	for i, c := range l.list {
		if c.isFinished() {
			l.list = append(l.list[:i], l.list[i+1:]...)
			return true
		}
	}
	return false
}

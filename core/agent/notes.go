package agent

import (
	"context"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/sdk"
)

// noteType is what a note between the source and a target says.
type noteType string

const (
	noteBeat noteType = "beat" // I live

	// From a target to the source.
	noteReady    noteType = "ready"    // all my links are proven
	noteNeed     noteType = "need"     // a pass has ended here; this I lack
	noteVerified noteType = "verified" // what I have is right
	noteFailed   noteType = "failed"   // either way: I have failed, for this reason
	noteLost     noteType = "lost"     // these behind me get nothing from me any more

	// From the source to the targets.
	noteRefused    noteType = "refused"     // you are given up, for this reason; pass on what the others lack
	noteBegin      noteType = "begin"       // data flows from now on
	noteBypassed   noteType = "bypassed"    // you get nothing by the chain any more: pass nothing on, and say what you lack
	noteSourceDone noteType = "source-done" // nothing is read any more
	noteWake       noteType = "wake"        // either way: tell your controller, if it waits; the source tells the others
)

// note is one message on a notes connection.
type note struct {
	Type  noteType   `json:"type"`
	Error *sdk.Error `json:"error,omitempty"`

	// With noteReady: what the target knows of earlier attempts.
	Kept []keptState `json:"kept,omitempty"`

	// With noteBeat of a target: what it does.
	Load *load `json:"load,omitempty"`

	// Members that were lost, and who has taken their place; empty: nobody has,
	// and Error tells why.
	Lost []string `json:"lost,omitempty"`
	To   string   `json:"to,omitempty"`

	// A need-list. The target counts its lists: one that was told again, on a
	// new connection, is not served again. An empty one lacks nothing.
	Round uint32            `json:"round,omitempty"`
	Need  []frame.NeedRange `json:"need,omitempty"` // in ascending order, none overlapping
	More  bool              `json:"more,omitempty"` // the list was cut at its limit
	// EntriesFrom: the entries from this one on are missing, and all that they
	// contain.
	EntriesFrom *uint64 `json:"entries_from,omitempty"`
	// Pieces are entries, in ascending order, whose nodes are wanted: the
	// read-back shows that a file is bad, not where.
	Pieces []uint64 `json:"pieces,omitempty"`
}

// lacksNothing reports whether a need-list is empty.
func (n *note) lacksNothing() bool {
	return len(n.Need) == 0 && n.EntriesFrom == nil && len(n.Pieces) == 0
}

// maxNeed bounds the ranges, and the entries whose nodes are wanted, of one
// need-list; what is beyond it comes with the next one.
const maxNeed = 4096

// exchange reads notes from conn into handle until the connection ends, and
// says beat each second meanwhile; it returns why. It closes conn.
func exchange(ctx context.Context, conn *link.Conn, beat func() note, handle func(note)) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(link.Beat):
				if conn.WriteMessage(beat()) != nil {
					return // the reader sees why
				}
			}
		}
	})
	for {
		var n note
		if err := conn.ReadMessage(&n); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		if n.Type != noteBeat || n.Load != nil {
			handle(n)
		}
	}
}

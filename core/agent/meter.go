package agent

import (
	"sync"
	"sync/atomic"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// meter is a member's state as others may see it: counters that its
// goroutines add to, and a phase that only moves forward. Safe for concurrent
// use.
type meter struct {
	name    string
	changed func() // called after a phase was entered, without locks held

	entries, files, bytes, wire, checked, total atomic.Int64

	mu       sync.Mutex
	phase    control.Phase
	root     string
	peer     string
	paths    []sdk.Raw
	warnings []control.Warning
	err      *sdk.Error
	failed   []control.PeerError // of the source: the targets that it gave up
}

// enter moves to a later phase; an earlier one is ignored. It reports whether
// it moved.
func (m *meter) enter(p control.Phase) bool {
	m.mu.Lock()
	ok := !m.phase.AtLeast(p)
	if ok {
		m.phase = p
	}
	m.mu.Unlock()
	if ok {
		m.changed()
	}
	return ok
}

// fail records the member's failure; the first one counts, and none after it
// was committed.
func (m *meter) fail(err *sdk.Error) bool {
	m.mu.Lock()
	ok := !m.phase.AtLeast(control.PhaseCommitted)
	if ok {
		m.phase, m.err = control.PhaseFailed, err
	}
	m.mu.Unlock()
	if ok {
		m.changed()
	}
	return ok
}

func (m *meter) at() control.Phase {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase
}

func (m *meter) set(change func(*meter)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// maxWarnings bounds the different warnings of one member.
const maxWarnings = 100

func (m *meter) warn(ws ...control.Warning) {
	m.set(func(m *meter) {
		for _, w := range ws {
			if len(m.warnings) < maxWarnings {
				m.warnings = append(m.warnings, w)
			}
		}
	})
}

// status is what the controller is told.
func (m *meter) status() control.MemberStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return control.MemberStatus{
		Name: m.name, Phase: m.phase, Entries: m.entries.Load(), Files: m.files.Load(), Bytes: m.bytes.Load(),
		Wire: m.wire.Load(), Checked: m.checked.Load(), Total: m.total.Load(), Root: m.root, Peer: m.peer,
		Warnings: append([]control.Warning(nil), m.warnings...), Paths: append([]sdk.Raw(nil), m.paths...), Error: m.err,
		Failed: append([]control.PeerError(nil), m.failed...),
	}
}

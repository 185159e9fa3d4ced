package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/stopwatch"
	"github.com/transferpy/transferpy/sdk"
)

// meter is a member's state as others may see it: counters that its
// goroutines add to, and a phase that only moves forward. Safe for concurrent
// use.
type meter struct {
	name    string
	changed func() // called after a phase was entered, without locks held

	entries, files, bytes, wire, checked, total atomic.Int64

	// What control.Times tells; busy is all that workers do: disk, which has
	// what braked counts within it, CPU, and at a source the waiting for
	// buffers.
	born                                                   time.Time
	idle, sending, paced, taking, full, disk, braked, busy stopwatch.Watch

	mu       sync.Mutex
	phase    control.Phase
	root     string
	peer     string
	reached  string
	paths    []sdk.Raw
	warnings []control.Warning
	err      *sdk.Error
	failed   []control.PeerError // of the source: the targets that it gave up
	slow     []control.PeerError // of the source: the targets that all wait for
	detours  []control.Detour    // of the source: how the chain goes on without some
}

func newMeter(name string, changed func()) *meter {
	return &meter{name: name, phase: control.PhasePrepared, changed: changed, born: time.Now()}
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
		Wire: m.wire.Load(), Checked: m.checked.Load(), Total: m.total.Load(), Root: m.root, Peer: m.peer, Reached: m.reached,
		Warnings: append([]control.Warning(nil), m.warnings...), Paths: append([]sdk.Raw(nil), m.paths...), Error: m.err,
		Failed: append([]control.PeerError(nil), m.failed...), Detours: append([]control.Detour(nil), m.detours...), Slow: append([]control.PeerError(nil), m.slow...), Times: m.times(),
	}
}

// times is what the watches say.
func (m *meter) times() *control.Times {
	t := &control.Times{
		Alive: time.Since(m.born), Idle: m.idle.Spent(), Sending: m.sending.Spent(), Paced: m.paced.Spent(),
		Taking: m.taking.Spent(), Full: m.full.Spent(), Braked: m.braked.Spent(),
	}
	// The waiting for buffers is the workers' at a source only; a target's
	// workers need none.
	disk := m.disk.Spent()
	t.CPU = m.busy.Spent() - disk
	if t.Taking == 0 {
		t.CPU -= t.Full
	}
	t.CPU, t.Disk = max(t.CPU, 0), max(disk-t.Braked, 0)
	return t
}

// reading counts what read does as reading, but for the time that it takes to
// hand parcels over.
func (m *meter) reading(read func(emit func(context.Context, *parcel) error) error, emit func(context.Context, *parcel) error) error {
	m.startDisk()
	defer m.stopDisk()
	return read(func(ctx context.Context, p *parcel) error {
		m.stopDisk()
		defer m.startDisk()
		return emit(ctx, p)
	})
}

func (m *meter) startDisk() {
	m.busy.Start()
	m.disk.Start()
}

func (m *meter) stopDisk() {
	m.disk.Stop()
	m.busy.Stop()
}

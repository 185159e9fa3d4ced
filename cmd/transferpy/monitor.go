package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/monitor"
	"github.com/transferpy/transferpy/core/transfer"
)

// transferDeps are what a run needs of this program, for one that others can
// follow and cancel, and that SIGHUP detaches. The function returned ends both;
// what happens is to be told to watched's event before.
func (a *app) transferDeps(plugins transfer.Plugins, settings *config.Settings, events transfer.Events) (transfer.Deps, transfer.Events, func()) {
	deps := a.deps(plugins, settings)
	w := &watched{events: events, warn: a.say, cancel: func() { a.signals.end("transferpy cancel", transfer.ErrCancelled) }}
	deps.Opened = w.open
	var stay func()
	deps.Detach, stay = a.signals.detachable()
	return deps, w.event, func() {
		stay()
		w.close()
	}
}

// watched tells others of a transfer what it tells its own user.
type watched struct {
	events transfer.Events
	warn   func(format string, args ...any)
	cancel func()

	mu     sync.Mutex
	server *monitor.Server // nil: nobody can ask
}

// open lets others ask. Without that the transfer is none the worse.
func (w *watched) open(dir, id string) {
	server, err := monitor.Listen(dir, id, w.cancel)
	if err != nil {
		w.warn("warning: transferpy status and cancel cannot reach this transfer: %v", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = server
}

// event takes one event of the transfer and hands it on.
func (w *watched) event(e transfer.Event) {
	w.mu.Lock()
	server := w.server
	w.mu.Unlock()
	if server != nil {
		switch e.Type {
		case transfer.EventPhase:
			server.Update(func(s *monitor.Snapshot) { s.Phase = e.Phase })
		case transfer.EventProgress:
			server.Update(func(s *monitor.Snapshot) { s.Members, s.Total, s.AtLeast = e.Members, e.Total, e.AtLeast })
		case transfer.EventDone:
			server.Update(func(s *monitor.Snapshot) { s.Done, s.ExitCode = true, e.Report.ExitCode })
		}
	}
	w.events(e)
}

// close ends the answers.
func (w *watched) close() {
	w.mu.Lock()
	server := w.server
	w.server = nil
	w.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

// snapshotEvents shows a living transfer's snapshots as its own process shows
// its events.
func snapshotEvents(events transfer.Events) func(monitor.Snapshot) {
	phase := ""
	return func(s monitor.Snapshot) {
		e := transfer.Event{Time: time.Now(), Transfer: s.Transfer, Members: s.Members, Total: s.Total, AtLeast: s.AtLeast}
		if s.Phase != phase {
			phase = s.Phase
			events(transfer.Event{Type: transfer.EventPhase, Time: e.Time, Transfer: s.Transfer, Phase: phase, Message: fmt.Sprintf("%s (transferpy of pid %d)", phase, s.PID)})
		}
		if len(s.Members) > 0 {
			e.Type = transfer.EventProgress
			events(e)
		}
	}
}

package main

import (
	"context"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/journal"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/core/runlog"
	"github.com/transferpy/transferpy/core/transfer"
)

// logged puts the events of a transfer into its log. Its methods are called
// one at a time.
type logged struct {
	log      *runlog.Log
	warn     func(format string, args ...any)
	progress time.Time // when it was logged last
}

// progressLogged is how often progress is logged: a transfer of a day then
// takes some MiB.
const progressLogged = 10 * time.Second

// membersLogged is of how many members each is logged; of more, the target
// that is furthest behind.
const membersLogged = 16

// event takes one event. The first one that names a transfer begins its log.
func (l *logged) event(e transfer.Event) {
	if e.Transfer == "" {
		return
	}
	dir, err := journal.Dir()
	if err == nil {
		err = l.log.Begin(dir, e.Transfer)
	}
	if err != nil {
		l.warn("warning: %s", err)
	}
	switch e.Type {
	case transfer.EventProgress:
		l.members(e)
	case transfer.EventDone: // the report is logged as people see it
	case transfer.EventError:
		l.log.Accept("transfer", hclog.Error, withHost(e.Host, e.Message), "kind", kindOf(e))
	case transfer.EventWarning:
		l.log.Accept("transfer", hclog.Warn, withHost(e.Host, e.Message))
	case transfer.EventPlanned:
		l.log.Accept("transfer", hclog.Info, "planned")
		if e.Plan != nil {
			for _, h := range e.Plan.Hosts {
				for _, line := range h.Lines {
					l.log.Accept("plan", hclog.Debug, withHost(h.Host, line))
				}
			}
		}
	default:
		l.log.Accept("transfer", hclog.Info, withHost(e.Host, e.Message), "event", string(e.Type))
	}
}

// members logs how far the members are, from time to time.
func (l *logged) members(e transfer.Event) {
	if e.Time.Sub(l.progress) < progressLogged {
		return
	}
	l.progress = e.Time
	members := e.Members
	if len(members) > membersLogged {
		m, busy := slowest(targetsOf(members))
		if members = nil; busy {
			members = []progress.Member{m}
		}
	}
	for i := range members {
		m := &members[i]
		l.log.Accept("progress", hclog.Debug, m.Status.Name+" on "+m.Host+": "+lineOf(m, e.Time).sentence())
	}
}

func kindOf(e transfer.Event) string {
	if e.Err == nil {
		return "-"
	}
	return string(e.Err.Kind)
}

// logText is a writer to the log of the transfer that a verb works on, for
// what is printed for people.
func (a *app) logText(level hclog.Level) io.Writer { return logTextWriter{a.log, level} }

type logTextWriter struct {
	log   *runlog.Log
	level hclog.Level
}

// Write implements io.Writer.
func (w logTextWriter) Write(p []byte) (int, error) {
	w.log.Text("transferpy", w.level, string(p))
	return len(p), nil
}

// noteRefused notes a transfer in the list of all, and begins its log, that
// could not begin because its plugins could not be started. One whose targets
// were not found, or not wanted, is none yet.
func (a *app) noteRefused(ctx context.Context, settings *config.Settings, why error) {
	req := settings.Request
	if req.DryRun || len(req.Targets) == 0 {
		return
	}
	id, err := transfer.Refused(req, transfer.Deps{Version: version()}, exitCode(ctx, why), why)
	if err != nil {
		a.say("warning: the transfer could not be noted in the list of all transfers: %s", err)
		return
	}
	kept := &logged{log: a.log, warn: a.say}
	kept.event(transfer.Event{Type: transfer.EventStarted, Time: time.Now(), Transfer: id, Message: "transfer " + id + " was refused"})
}

package transfer

import (
	"strings"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// Detour tells that some targets were bypassed while data flowed, so that they
// held up no other. A target that was bypassed and is well was served by the
// source afterwards.
type Detour struct {
	Bypassed []string   // hosts
	By       string     // the host that sent to the first of them
	To       string     // the host that it sends to instead; empty: none
	Err      *sdk.Error // what was wrong with the first of them; nil: not known
}

// Line is the detour in words.
func (d Detour) Line() string {
	line := strings.Join(d.Bypassed, ", ") + " bypassed by " + d.By
	if d.To != "" {
		line += ", which sends to " + d.To + " instead"
	}
	if d.Err != nil {
		line += ": " + d.Err.Message
	}
	return line
}

// takeDetours tells of the detours that the source has not told of before.
func (r *run) takeDetours(all []control.Detour) {
	if len(r.report.Detours) >= len(all) {
		return
	}
	for _, told := range all[len(r.report.Detours):] {
		d := Detour{By: r.hostOf(told.By), To: r.hostOf(told.To), Err: told.Error}
		for _, name := range told.Lost {
			d.Bypassed = append(d.Bypassed, r.hostOf(name))
		}
		r.report.Detours = append(r.report.Detours, d)
		after := "; what was bypassed is served afterwards, if it comes back"
		if r.plan.Read.Builtin != sdk.BuiltinTree {
			after = "; a stream cannot be read again, so what was bypassed fails"
		}
		r.emit(Event{Type: EventDetour, Host: d.By, Message: d.Line() + after, Detour: &d})
	}
}

// takeSlow tells of targets that hold the others up, of which the source has not
// told before.
func (r *run) takeSlow(all []control.PeerError) {
	for ; r.slow < len(all); r.slow++ {
		p := all[r.slow]
		if p.Error == nil {
			continue
		}
		after := "; it is waited for (--slow-target wait)"
		if r.plan.Read.Builtin != sdk.BuiltinTree {
			after = "; it is waited for, since a stream cannot be read again"
		}
		r.emit(Event{Type: EventSlow, Host: r.hostOf(p.Name), Message: p.Error.Message + after, Err: p.Error})
	}
}

// hostOf is the host of a member; empty for none.
func (r *run) hostOf(name string) string {
	for _, m := range r.members {
		if m.Name == name {
			return m.Host
		}
	}
	return ""
}

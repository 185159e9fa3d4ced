package main

import (
	"math"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/sdk"
)

// extentJSON is how much is expected: null where that is unknown or known to
// be more than some number, which is then total_at_least.
type extentJSON struct {
	Total   *int64 `json:"total"`
	AtLeast *int64 `json:"total_at_least,omitempty"`
}

func (e *extentJSON) set(total int64, atLeast bool) {
	switch {
	case total < 0:
	case atLeast:
		e.AtLeast = &total
	default:
		e.Total = &total
	}
}

// memberJSON is one member in a progress event; docs/operating.md tells of
// each field.
type memberJSON struct {
	Name    string        `json:"name"`
	Host    string        `json:"host"`
	Path    sdk.Raw       `json:"path"`
	Phase   control.Phase `json:"phase"`
	Bytes   int64         `json:"bytes"`
	Checked int64         `json:"checked"`
	extentJSON
	Files    int64         `json:"files"`
	Entries  int64         `json:"entries"`
	Wire     int64         `json:"wire_bytes"`
	Rate     *int64        `json:"rate"`
	Ratio    *float64      `json:"ratio"`
	ETA      *float64      `json:"eta_seconds"`
	Age      *float64      `json:"age_seconds"`
	HeldBy   *holdup.Cause `json:"held_by"`
	HeldHost string        `json:"held_by_host,omitempty"`
}

func memberLine(m *progress.Member, now time.Time) memberJSON {
	s := &m.Status
	j := memberJSON{Name: s.Name, Host: m.Host, Path: m.Path, Phase: s.Phase, Bytes: s.Bytes, Checked: s.Checked,
		Files: s.Files, Entries: s.Entries, Wire: s.Wire, HeldHost: m.HeldHost}
	j.set(m.Total, m.AtLeast)
	if m.Rate >= 0 {
		rate := int64(min(m.Rate, math.MaxInt64/2))
		j.Rate = &rate
	}
	if m.Held != holdup.Unknown {
		j.HeldBy = &m.Held
	}
	if m.Ratio > 0 {
		ratio := rounded(m.Ratio)
		j.Ratio = &ratio
	}
	if m.At.IsZero() {
		return j
	}
	age := max(now.Sub(m.At), 0)
	seconds := rounded(age.Seconds())
	j.Age = &seconds
	if left := m.Left - age; m.Left >= 0 && left >= 0 {
		eta := rounded(left.Seconds())
		j.ETA = &eta
	}
	return j
}

// rounded keeps a thousandth.
func rounded(x float64) float64 { return math.Round(x*1000) / 1000 }

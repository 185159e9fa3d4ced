package transfer

// PhaseCalls is how many executor calls were begun in a phase.
type PhaseCalls struct {
	Phase string `json:"phase"`
	Calls int    `json:"calls"`
}

// endPhase names what comes after the last phase, or after one that failed:
// ending agents, undoing, and asking again who did not answer.
const endPhase = "end"

// tally counts the executor calls of each phase. It is for the goroutine that
// drives the run.
type tally struct {
	phase  string
	before int // calls when the phase began
	past   []PhaseCalls
}

// enter begins a phase after so many calls.
func (t *tally) enter(phase string, calls int) {
	t.past = t.now(calls)
	t.phase, t.before = phase, calls
}

// now is what each phase has made, after so many calls; phases without any are
// left out.
func (t *tally) now(calls int) []PhaseCalls {
	if t.phase == "" || calls == t.before {
		return t.past
	}
	return append(t.past, PhaseCalls{t.phase, calls - t.before})
}

// count begins to count for a phase.
func (r *run) count(phase string) {
	calls := 0
	if r.fleet != nil {
		calls = r.fleet.Calls()
	}
	r.tally.enter(phase, calls)
}

// reportCalls puts the calls into the report.
func (r *run) reportCalls() {
	if r.fleet != nil {
		r.report.Calls = r.fleet.Calls()
		r.report.PhaseCalls = r.tally.now(r.report.Calls)
	}
}

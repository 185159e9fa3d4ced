package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/core/progress"
)

// oldAfter is the age from which on a figure is shown with its age. Answers
// come each second where the executor bears it.
const oldAfter = 5 * time.Second

// line is what is shown of one target, in words.
type line struct {
	name, state, amount, rate, left, held, ratio, files, age string
}

// lineOf puts a member's figures into words; what is not known is left out.
func lineOf(m *progress.Member, now time.Time) line {
	l := line{name: printable(m.Host) + ":" + printable(string(m.Path)), state: stateText(m)}
	if m.At.IsZero() || m.Status.Phase == control.PhaseFailed {
		return l
	}
	age := now.Sub(m.At)
	if age >= oldAfter && m.AtWork() {
		l.age = "as of " + wholeSeconds(age) + " ago"
	}
	if !m.Status.Phase.AtLeast(control.PhaseMoving) {
		return l
	}
	l.amount = amountText(m)
	if n := m.Status.Files; n > 0 { // a check of a copy counts none
		l.files = fmt.Sprintf("in %d file%s", n, onlyIf(n != 1, "s"))
	}
	if m.Ratio > 0 {
		l.ratio = fmt.Sprintf("ratio %.2f", m.Ratio)
	}
	if !m.AtWork() {
		return l
	}
	if m.Rate >= 0 {
		l.rate = rateText(int64(m.Rate), 1)
	}
	if left := m.Left - max(age, 0); m.Left >= 0 && left >= time.Second/2 {
		l.left = wholeSeconds(left) + " left"
	}
	l.held = heldText(m)
	return l
}

// wholeSeconds is a time that is not known any better.
func wholeSeconds(d time.Duration) string {
	if s := int64(d.Round(time.Second).Seconds()); s < 120 {
		return fmt.Sprintf("%d s", s)
	}
	return secondsText(d.Round(time.Second).Seconds())
}

// stateText is a member's phase as an operator sees it.
func stateText(m *progress.Member) string {
	switch p := m.Status.Phase; {
	case p == control.PhaseFailed, p == control.PhaseCommitted, p == control.PhaseVerified, p == control.PhaseVerifying:
		return string(p)
	case p == control.PhaseReady:
		return "waiting"
	case p.AtLeast(control.PhaseMoving):
		return "sending"
	}
	return "linking"
}

// amountText is how much of what.
func amountText(m *progress.Member) string {
	switch done := bytesText(m.Done); {
	case m.Total < 0:
		return done
	case m.AtLeast:
		return done + " of at least " + bytesText(m.Total)
	case m.Total == 0:
		return done + " of 0 B"
	default:
		return fmt.Sprintf("%s of %s (%d %%)", done, bytesText(m.Total), int64(float64(m.Done)/float64(m.Total)*100))
	}
}

// heldText names what holds a target back, and the host if it is another.
func heldText(m *progress.Member) string {
	other := onlyIf(m.HeldHost != m.Host, " of "+printable(m.HeldHost))
	switch m.Held {
	case holdup.SourceDisk:
		return "held by source disk"
	case holdup.SourceCPU:
		return "held by source CPU"
	case holdup.Limit:
		return "held by the limit"
	case holdup.Link:
		return "held by link" + onlyIf(m.HeldHost != m.Host, " to "+printable(m.HeldHost))
	case holdup.TargetDisk:
		return "held by target disk" + other
	case holdup.TargetCPU:
		return "held by target CPU" + other
	}
	return ""
}

// sentence is the line as one for a log.
func (l line) sentence() string {
	text := strings.Join(slices.DeleteFunc([]string{l.state, l.amount, l.files}, isEmpty), " ")
	return strings.Join(slices.DeleteFunc([]string{text, l.rate, l.ratio, l.left, l.held, l.age}, isEmpty), ", ")
}

func isEmpty(s string) bool { return s == "" }

// column is one of the fields that are shown below each other.
type column struct {
	of    func(*line) *string
	right bool // flush right
	rank  int  // columns of high rank go first where room is short; 0: never
}

// columns are the fields in the order in which they are shown.
var columns = []column{
	{func(l *line) *string { return &l.name }, false, 0},
	{func(l *line) *string { return &l.state }, false, 0},
	{func(l *line) *string { return &l.amount }, true, 0},
	{func(l *line) *string { return &l.rate }, true, 2},
	{func(l *line) *string { return &l.left }, true, 3},
	{func(l *line) *string { return &l.held }, false, 4},
	{func(l *line) *string { return &l.ratio }, false, 5},
	{func(l *line) *string { return &l.files }, false, 6},
	{func(l *line) *string { return &l.age }, false, 1},
}

// table lays lines out below each other in width cells. Where room is short,
// names are cut first, down to a third of the width, then whole columns go.
func table(lines []line, width int) []string {
	least := max(width/3, 8)
	shown := slices.Clone(columns)
	for {
		widths, all := measure(lines, shown)
		if over := all - width; over > 0 {
			cut := max(min(over, widths[0]-least), 0)
			widths[0], all = widths[0]-cut, all-cut
		}
		if all <= width || !dropColumn(&shown) {
			return layOut(lines, shown, widths, width)
		}
	}
}

// gap divides two columns.
const gap = "  "

// measure returns the width of each column, with the gap before it, and of
// all.
func measure(lines []line, shown []column) (widths []int, all int) {
	for i, c := range shown {
		w := 0
		for j := range lines {
			w = max(w, runewidth.StringWidth(*c.of(&lines[j])))
		}
		if w > 0 && i > 0 {
			w += len(gap)
		}
		widths, all = append(widths, w), all+w
	}
	return widths, all
}

// dropColumn drops the column that can be spared most; false: none can.
func dropColumn(shown *[]column) bool {
	most := slices.MaxFunc(*shown, func(a, b column) int { return a.rank - b.rank }).rank
	if most == 0 {
		return false
	}
	*shown = slices.DeleteFunc(*shown, func(c column) bool { return c.rank == most })
	return true
}

func layOut(lines []line, shown []column, widths []int, width int) []string {
	var out []string
	for j := range lines {
		var b strings.Builder
		for i, c := range shown {
			cells := widths[i]
			if cells == 0 {
				continue
			}
			if i > 0 {
				b.WriteString(gap)
				cells -= len(gap)
			}
			text := runewidth.Truncate(*c.of(&lines[j]), cells, "…")
			if c.right {
				b.WriteString(runewidth.FillLeft(text, cells))
			} else {
				b.WriteString(runewidth.FillRight(text, cells))
			}
		}
		out = append(out, runewidth.Truncate(strings.TrimRight(b.String(), " "), width, "…"))
	}
	return out
}

// board is what a terminal of width cells and rows lines shows of the targets:
// a line each. Where there is no room for all, those at work go before the
// others, and the last line counts the rest.
func board(targets []progress.Member, now time.Time, width, rows int) []string {
	width, rows = max(width-1, 20), max(rows-2, 1) // a full last column wraps on some terminals; something above is to be seen too
	shown := targets
	var rest []progress.Member
	if len(targets) > rows {
		ordered := slices.Clone(targets)
		slices.SortStableFunc(ordered, func(a, b progress.Member) int { return rank(&a) - rank(&b) })
		shown, rest = ordered[:rows-1], ordered[rows-1:]
	}
	lines := make([]line, len(shown))
	for i := range shown {
		lines[i] = lineOf(&shown[i], now)
	}
	out := table(lines, width)
	if len(rest) > 0 {
		out = append(out, runewidth.Truncate(restText(rest, len(shown)), width, "…"))
	}
	return out
}

// rank puts targets at work before those that have failed and those that are
// done.
func rank(m *progress.Member) int {
	switch {
	case m.AtWork():
		return 0
	case m.Status.Phase == control.PhaseFailed:
		return 1
	}
	return 2
}

// restText counts targets that are not shown one by one.
func restText(rest []progress.Member, shown int) string {
	counts := map[string]int{}
	for i := range rest {
		counts[stateText(&rest[i])]++
	}
	var parts []string
	for _, state := range []string{"failed", "linking", "waiting", "sending", "verifying", "verified", "committed"} {
		if n := counts[state]; n > 0 {
			parts = append(parts, strconv.Itoa(n)+" "+state)
		}
	}
	return fmt.Sprintf("%s%d%s: %s", onlyIf(shown > 0, "and "), len(rest), onlyIf(shown > 0, " more"), strings.Join(parts, ", "))
}

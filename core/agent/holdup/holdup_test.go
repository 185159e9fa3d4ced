package holdup

import (
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// share makes times of ten seconds out of hundredths of them.
func share(idle, sending, paced, taking, full, disk, cpu int) *control.Times {
	part := func(n int) time.Duration { return time.Duration(n) * 100 * time.Millisecond }
	return &control.Times{Alive: part(100), Idle: part(idle), Sending: part(sending), Paced: part(paced),
		Taking: part(taking), Full: part(full), Disk: part(disk), CPU: part(cpu)}
}

func TestFind(t *testing.T) {
	var (
		blocked = share(3, 90, 0, 0, 0, 20, 10) // a source that sends as fast as it may
		waits   = share(90, 0, 0, 5, 0, 10, 10) // a target that lacks data
		writes  = share(2, 0, 0, 95, 90, 300, 40)
		decodes = share(2, 0, 0, 95, 90, 40, 300)
		passes  = share(80, 90, 0, 15, 85, 20, 10) // one whose successor takes nothing
		ended   = share(0, 0, 0, 0, 0, 0, 0)
	)
	braked := share(80, 15, 0, 0, 0, 50, 40)
	braked.Braked = 30 * time.Second
	type times = []*control.Times
	cases := map[string]struct {
		spent times
		want  Cause
		at    int
	}{
		"nothing known":                  {times{nil, nil}, Unknown, 0},
		"two answers of one moment":      {times{{}, {}}, Unknown, 0},
		"reading":                        {times{share(80, 15, 0, 0, 0, 350, 40), waits}, SourceDisk, 0},
		"walking a tree":                 {times{share(95, 3, 0, 0, 0, 90, 5), waits}, SourceDisk, 0},
		"compressing":                    {times{share(70, 20, 0, 0, 0, 40, 300), waits}, SourceCPU, 0},
		"the cipher of one connection":   {times{share(20, 30, 0, 0, 0, 50, 50), waits}, SourceCPU, 0},
		"a limit":                        {times{share(5, 5, 85, 0, 0, 10, 10), waits}, Limit, 0},
		"a limit of the reading":         {times{braked, waits}, Limit, 0},
		"the link":                       {times{blocked, waits}, Link, 1},
		"a link of long latency":         {times{share(90, 5, 0, 0, 200, 20, 10), waits}, Link, 1},
		"the target's disk":              {times{blocked, writes}, TargetDisk, 1},
		"the target's CPU":               {times{blocked, decodes}, TargetCPU, 1},
		"the target is unknown":          {times{blocked, nil}, Unknown, 0},
		"the second target's disk":       {times{blocked, passes, writes, waits}, TargetDisk, 2},
		"the second link":                {times{blocked, passes, waits, waits}, Link, 2},
		"the last one's disk":            {times{blocked, passes, passes, writes}, TargetDisk, 3},
		"a link slow both ways":          {times{blocked, passes, share(90, 95, 0, 5, 0, 20, 10), waits}, Link, 2},
		"a host that rarely runs":        {times{blocked, share(90, 95, 0, 5, 0, 20, 10), waits, waits}, Link, 1},
		"the last link, full elsewhere":  {times{blocked, share(90, 10, 0, 5, 85, 20, 10), share(90, 95, 0, 5, 0, 20, 10), waits}, Link, 3},
		"the last link":                  {times{blocked, passes, passes, waits}, Link, 3},
		"the source has sent all":        {times{blocked, writes}, TargetDisk, 1},
		"the second link, for a while":   {times{blocked, share(20, 90, 0, 10, 25, 20, 10), waits}, Link, 2},
		"only the second has not ended":  {times{blocked, ended, writes}, TargetDisk, 2},
		"nobody has anything left to do": {times{blocked, ended}, Unknown, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got, at := Find(c.spent); got != c.want || at != c.at {
				t.Errorf("got %q of member %d, want %q of %d", got, at, c.want, c.at)
			}
		})
	}
}

// TestSlow: a target is slow if it is the others that wait for it, and not where
// all, or most, are as slow.
func TestSlow(t *testing.T) {
	var (
		blocked = share(3, 90, 0, 0, 0, 20, 10)
		waits   = share(90, 0, 0, 5, 0, 10, 10)
		writes  = share(2, 0, 0, 95, 90, 300, 40)
		passes  = share(80, 90, 0, 15, 85, 20, 10)
		busy    = share(30, 90, 0, 65, 85, 200, 10) // it passes on to one that is slower, not by much
		half    = share(45, 0, 0, 50, 0, 150, 10)
		ended   = share(0, 0, 0, 0, 0, 0, 0)
	)
	type times = []*control.Times
	for name, c := range map[string]struct {
		spent times
		want  Cause
		at    int
	}{
		"one alone":                       {times{blocked, writes}, Unknown, 0},
		"a disk, of two":                  {times{blocked, writes, waits}, TargetDisk, 1},
		"the last disk":                   {times{blocked, passes, passes, writes}, TargetDisk, 3},
		"a link":                          {times{blocked, passes, waits, waits}, Link, 2},
		"the last link":                   {times{blocked, passes, waits}, Link, 2},
		"the source's own link":           {times{blocked, waits, waits, waits}, Unknown, 0},
		"both are slow":                   {times{blocked, writes, writes}, Unknown, 0},
		"the others are nearly as slow":   {times{blocked, busy, busy, writes}, Unknown, 0},
		"the other takes over half of it": {times{blocked, writes, half}, Unknown, 0},
		"two of five":                     {times{blocked, passes, writes, waits, writes, waits}, TargetDisk, 2},
		"three of four":                   {times{blocked, writes, writes, writes, waits}, Unknown, 0},
		"the others have got all":         {times{blocked, ended, writes, ended}, Unknown, 0},
		"the source's disk":               {times{share(80, 15, 0, 0, 0, 350, 40), waits, waits}, Unknown, 0},
		"a limit":                         {times{share(5, 5, 85, 0, 0, 10, 10), waits, waits}, Unknown, 0},
		"one is not known":                {times{blocked, nil, waits}, Unknown, 0},
	} {
		if got, at := Slow(c.spent); got != c.want || at != c.at {
			t.Errorf("%s: got %q of member %d, want %q of %d", name, got, at, c.want, c.at)
		}
	}
}

func TestBetween(t *testing.T) {
	a, b := share(1, 2, 3, 4, 5, 6, 7), share(2, 2, 3, 4, 5, 3, 9)
	b.Alive += time.Second
	got := Between(a, b)
	want := control.Times{Alive: time.Second, Idle: 100 * time.Millisecond, CPU: 200 * time.Millisecond}
	if *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	for name, pair := range map[string][2]*control.Times{"no first": {nil, b}, "no second": {a, nil}, "made anew": {b, a}} {
		if got := Between(pair[0], pair[1]); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

package transfer

import "time"

// earlyPolls is how many answers that came before their time may each be
// followed by the next question at once.
const earlyPolls = 2

// pacing spaces the beginnings of polls by what the executors bear. An answer
// that comes early tells of something that has happened, and more may be about
// to: a port was opened, the last target is nearly done. To leave the agents
// alone for the rest of a minute then would cost that minute. So some early
// answers are followed up soon; a poll that lasted its whole time earns one
// more. Over hours it is one poll each time all the same, also where agents
// answer early again and again.
type pacing struct {
	every time.Duration
	early int // answers that may still be followed up soon
}

func newPacing(every time.Duration) *pacing { return &pacing{every: every, early: earlyPolls} }

// pause is how long to wait after a poll that took so long.
func (p *pacing) pause(took time.Duration) time.Duration {
	if took >= p.every {
		p.early = min(p.early+1, earlyPolls)
		return 0
	}
	if p.early == 0 || p.every <= progressEvery {
		return p.every - took
	}
	p.early--
	return max(0, progressEvery-took)
}

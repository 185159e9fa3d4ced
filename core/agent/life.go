package agent

import (
	"context"
	"sync"
)

// life is a member's time from its start to its end, with the goroutines that
// it owns meanwhile.
type life struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	group  sync.WaitGroup
}

func newLife(ctx context.Context) *life {
	l := &life{}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	return l
}

// end ends what runs, and waits for it.
func (l *life) end() {
	l.cancel(errEnded)
	l.group.Wait()
}

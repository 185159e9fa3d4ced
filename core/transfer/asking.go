package transfer

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/remote"
)

// asking is the questions to agents that are under way. Who asks takes what has
// come and goes on: a host that is slow to answer is asked nothing more until
// it has, and holds up no other. Its methods are for one goroutine at a time;
// the calls themselves have theirs, for which end waits.
type asking struct {
	fleet  *remote.Fleet
	ctx    context.Context // of the calls
	cancel context.CancelFunc
	calls  sync.WaitGroup
	came   chan struct{} // has room for one: there is something to take

	mu   sync.Mutex
	busy map[string]bool // hosts that have not answered yet
	got  map[string]remote.Answer
}

func newAsking(ctx context.Context, fleet *remote.Fleet) *asking {
	ctx, cancel := context.WithCancel(ctx)
	return &asking{fleet: fleet, ctx: ctx, cancel: cancel, came: make(chan struct{}, 1), busy: map[string]bool{}, got: map[string]remote.Answer{}}
}

// free are those of hosts that may be asked.
func (a *asking) free(hosts []string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var free []string
	for _, h := range hosts {
		if !a.busy[h] {
			free = append(free, h)
		}
	}
	return free
}

// ask begins to ask hosts that are free.
func (a *asking) ask(req control.Request, hosts []string) {
	if len(hosts) == 0 {
		return
	}
	a.mu.Lock()
	for _, h := range hosts {
		a.busy[h] = true
	}
	a.mu.Unlock()
	a.calls.Go(func() { a.fleet.Stream(a.ctx, req, a.add, hosts...) })
}

// add takes a batch of answers.
func (a *asking) add(batch map[string]remote.Answer) {
	a.mu.Lock()
	for h := range batch {
		delete(a.busy, h)
	}
	maps.Copy(a.got, batch)
	a.mu.Unlock()
	select {
	case a.came <- struct{}{}:
	default:
	}
}

// straggling is how long the answers of a question may lie apart without being
// taken one by one.
const straggling = 2 * time.Second

// take returns what has come since the last take. It waits for all of the
// hosts that were asked last, but for stragglers only so long, and for none
// longer than limit.
func (a *asking) take(ctx context.Context, asked []string, limit time.Duration) map[string]remote.Answer {
	patience := time.NewTimer(limit)
	defer patience.Stop()
	var late <-chan time.Time // the stragglers are
	for waiting := true; waiting && (len(asked) == 0 || len(a.free(asked)) < len(asked)); {
		select {
		case <-a.came:
			if late == nil {
				late = time.After(straggling)
			}
			waiting = len(asked) > 0
		case <-late:
			waiting = false
		case <-patience.C:
			waiting = false
		case <-ctx.Done():
			return nil
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	got := a.got
	a.got = map[string]remote.Answer{}
	return got
}

// end ends the calls that are under way; what they tell is dropped.
func (a *asking) end() {
	a.cancel()
	a.calls.Wait()
}

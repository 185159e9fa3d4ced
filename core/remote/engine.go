package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// grace is what a call may take beyond what it was told to, before its hosts
// count as silent: the executor's own way there and back, on a bad day.
const grace = 30 * time.Second

// engine makes calls through one executor within its limits.
type engine struct {
	name   string
	exec   sdk.Executor
	traits sdk.ExecutorTraits
	calls  *atomic.Int64 // of the whole fleet
	slots  chan struct{} // one for each call at once
}

// longestWait is how long an agent may be asked to wait, so that the call's
// own cost still fits into what the executor allows.
func (e *engine) longestWait() time.Duration {
	margin := max(2*time.Second, 2*e.traits.Latency)
	if e.traits.MaxWait < 2*margin {
		return e.traits.MaxWait / 2
	}
	return e.traits.MaxWait - margin
}

// run runs cmd on hosts and returns one result for each.
func (e *engine) run(ctx context.Context, hosts []string, cmd sdk.Command) map[string]sdk.Result {
	var mu sync.Mutex
	all := make(map[string]sdk.Result, len(hosts))
	e.stream(ctx, hosts, cmd, func(results map[string]sdk.Result) {
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(all, results)
	})
	return all
}

// stream runs cmd on hosts and hands the results on as each does.
func (e *engine) stream(ctx context.Context, hosts []string, cmd sdk.Command, take func(map[string]sdk.Result)) {
	limit := cmd.Timeout
	if limit == 0 {
		limit = e.traits.MaxWait
	}
	e.each(ctx, hosts, limit, func(ctx context.Context, hosts []string, emit func(sdk.Result)) error {
		return e.exec.Run(ctx, hosts, cmd, emit)
	}, take)
}

// each makes as few calls as the executor's MaxHosts allows, as many at once
// as its MaxCalls does. take gets one result for each host, in batches, from
// several goroutines at once: all of them together where the hosts answer,
// and where some are slow or silent those that have answered do not wait for
// them. each returns when the last take has returned.
func (e *engine) each(ctx context.Context, hosts []string, limit time.Duration, call func(context.Context, []string, func(sdk.Result)) error, take func(map[string]sdk.Result)) {
	size := len(hosts)
	if e.traits.MaxHosts > 0 {
		size = min(size, e.traits.MaxHosts)
	}
	results := newBatches(hosts, e.quiet(), take)
	defer results.close()
	var wg sync.WaitGroup
	for chunk := range slices.Chunk(hosts, max(size, 1)) {
		wg.Go(func() {
			err := e.one(ctx, limit, func(ctx context.Context) error { return call(ctx, chunk, results.add) })
			for _, h := range chunk {
				results.add(sdk.Result{Host: h, Err: e.silent(h, err)}) // where there was none
			}
		})
	}
	wg.Wait()
}

// quiet is after how much silence of all hosts those that have answered go on
// without the others. It is long beside what a call usually takes, so that
// hosts that are well stay together in few calls.
func (e *engine) quiet() time.Duration { return max(time.Second, 2*e.traits.Latency) }

// one makes one call, when a slot is free.
func (e *engine) one(ctx context.Context, limit time.Duration, call func(context.Context) error) error {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e.calls.Add(1)
	ctx, cancel := context.WithTimeout(ctx, limit+2*e.traits.Latency+grace)
	defer cancel()
	if err := call(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// silent is the error for a host of which a call told nothing.
func (e *engine) silent(host string, err error) *sdk.Error {
	var typed *sdk.Error
	switch {
	case err == nil:
		return &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: fmt.Sprintf("executor %s gave no result for the host", e.name),
			Hint: "this is a mistake of the executor's plugin"}
	case errors.As(err, &typed):
		copied := *typed
		copied.Host = host
		return &copied
	case errors.Is(err, context.DeadlineExceeded):
		return &sdk.Error{Kind: sdk.KindTimeout, Host: host, Message: fmt.Sprintf("no answer came through executor %s in time", e.name),
			Hint: "see whether the host is overloaded or cut off"}
	case errors.Is(err, context.Canceled):
		return &sdk.Error{Kind: sdk.KindCancelled, Host: host, Message: "the call was cancelled"}
	default:
		return &sdk.Error{Kind: sdk.KindUnreachable, Host: host, Message: fmt.Sprintf("executor %s: %v", e.name, err)}
	}
}

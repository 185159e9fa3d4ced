package sdk

import (
	"context"
	"sync"
)

// EachHost is Executor.Run (or Put) for an author whose backend takes one
// host at a time: it calls one for every host, at most atOnce at the same time
// (atOnce below 1 means 1), and hands each result on to emit with its Host
// filled in. It returns when all calls of one have returned; after ctx has
// ended it begins no new ones, and the hosts left over get a Result of
// KindCancelled. It calls emit from one goroutine at a time.
func EachHost(ctx context.Context, hosts []string, atOnce int, one func(ctx context.Context, host string) Result, emit func(Result)) {
	atOnce = max(1, min(atOnce, len(hosts)))
	next := make(chan string)
	var workers sync.WaitGroup
	var emitting sync.Mutex
	for range atOnce {
		workers.Go(func() {
			for host := range next {
				var r Result
				if err := ctx.Err(); err != nil {
					r.Err = &Error{Kind: KindCancelled, Host: host, Message: "not begun: " + err.Error()}
				} else {
					r = one(ctx, host)
				}
				r.Host = host
				emitting.Lock()
				emit(r)
				emitting.Unlock()
			}
		})
	}
	for _, host := range hosts {
		next <- host
	}
	close(next)
	workers.Wait()
}

package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestEachHost(t *testing.T) {
	var hosts []string
	for i := range 50 {
		hosts = append(hosts, fmt.Sprintf("h%02d", i))
	}
	var now, most atomic.Int32
	var got []string
	EachHost(t.Context(), hosts, 4, func(_ context.Context, host string) Result {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(time.Millisecond)
		return Result{Stdout: []byte(host)}
	}, func(r Result) {
		if r.Host != string(r.Stdout) {
			t.Errorf("host %q has the result of %q", r.Host, r.Stdout)
		}
		got = append(got, r.Host) // the race detector tells whether it is serial
	})
	slices.Sort(got)
	if !slices.Equal(got, hosts) || most.Load() > 4 {
		t.Errorf("results for %q, %d at once", got, most.Load())
	}
}

func TestEachHostCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ran, cancelled := 0, 0
	EachHost(ctx, []string{"a", "b", "c"}, 0, func(context.Context, string) Result {
		ran++
		cancel()
		return Result{}
	}, func(r Result) {
		if r.Err != nil && errors.Is(r.Err, ErrCancelled) {
			cancelled++
		}
	})
	if ran != 1 || cancelled != 2 {
		t.Errorf("%d ran and %d were cancelled", ran, cancelled)
	}
	EachHost(t.Context(), nil, 8, nil, nil) // no hosts, no calls
}

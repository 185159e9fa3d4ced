package daemon

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/facts"
	"github.com/transferpy/transferpy/core/agent/link"
)

// parallelRoutes bounds how many names are looked up at once.
const parallelRoutes = 16

// route answers which of this host's addresses lead to others.
func route(ctx context.Context, state *state, q *control.Route) (*control.Reply, error) {
	host, err := facts.Host(state.path)
	if err != nil {
		return nil, fmt.Errorf("facts of the host: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	reply := &control.Reply{Routes: make(map[string][]string, len(q.To))}
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, parallelRoutes)
	for _, to := range q.To {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			own := routesTo(ctx, host, to, q.Networks)
			mu.Lock()
			defer mu.Unlock()
			reply.Routes[to.Member] = own
		})
	}
	wait.Wait()
	return reply, nil
}

// anyPort stands for the port, which makes no difference to a route.
const anyPort = control.PortLow

// routesTo are the addresses that this host would dial to from, each once.
func routesTo(ctx context.Context, host *control.Facts, to control.RouteTo, networks []string) []string {
	own := []string{}
	for _, candidate := range link.Candidates(ctx, link.Reach{
		Host: to.Host, DataAddress: to.DataAddress, Addresses: to.Addresses, Port: anyPort,
		SameHost: to.BootID == host.BootID && to.NetNS == host.NetNS, Networks: networks,
	}) {
		local := link.Local(candidate)
		if net.ParseIP(local) != nil && !slices.Contains(own, local) {
			own = append(own, local)
		}
	}
	return own
}

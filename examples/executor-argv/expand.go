package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// queryTime bounds the program that finds hosts.
const queryTime = 30 * time.Second

// Expand implements sdk.Expander: the site's program prints the hosts.
func (e *executor) Expand(ctx context.Context, query string) ([]string, error) {
	if len(e.query) == 0 {
		return nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: "no program is configured that finds hosts by a query", Hint: "set query in [executor argv]"}
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	out, err := program(ctx, e.query, "{query}", query)
	switch {
	case ctx.Err() != nil:
		return nil, &sdk.Error{Kind: sdk.KindTimeout, Message: e.query[0] + " did not end in time"}
	case err != nil:
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%s failed: %v", e.query[0], err), Stderr: out.stderr.String()}
	}
	hosts := strings.Fields(out.stdout.String())
	for _, h := range hosts {
		if err := checkHost(h); err != nil {
			return nil, err
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

package cumin

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
)

const (
	// queryTime bounds the finding of hosts; PuppetDB may take its time.
	queryTime = 28 * time.Second
	// maxFound bounds what one query may find.
	maxFound = 20_000
)

// counted is what cumin says of how many hosts it found.
var counted = regexp.MustCompile(`(?m)^(\d+) hosts will be targeted:`)

// Expand implements sdk.Expander: cumin itself finds the hosts, by whatever
// backends it has, and runs nothing.
func (e *executor) Expand(ctx context.Context, query string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	out, err := program.Program{Argv: e.argv("--dry-run", "--", query), Env: e.env, MaxOutput: 4 << 20}.Run(ctx)
	if err != nil {
		return nil, err
	}
	stderr := plain(out.Stderr)
	switch {
	case out.ExitCode != 0 || out.Cut:
		return nil, &sdk.Error{Kind: sdk.KindConfig, Stderr: stderr,
			Message: fmt.Sprintf("cumin does not understand the query %q: %s", query, complaint(stderr)),
			Hint:    "try it: cumin --dry-run QUERY"}
	case strings.Contains(stderr, "No hosts found"):
		return nil, nil
	}
	hosts, err := unfold(strings.TrimSpace(string(colour.ReplaceAll(out.Stdout, nil))))
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindInternal, Stderr: stderr, Message: fmt.Sprintf("cumin's answer to the query %q is not understood: %v", query, err)}
	}
	for _, h := range hosts {
		if err := checkHost(h); err != nil {
			return nil, err
		}
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	// cumin counts them too: a form of ranges that unfold reads otherwise
	// than ClusterShell must not become other hosts.
	if m := counted.FindStringSubmatch(stderr); m == nil || m[1] != strconv.Itoa(len(hosts)) {
		return nil, &sdk.Error{Kind: sdk.KindInternal, Stderr: stderr, Message: fmt.Sprintf("cumin's answer to the query %q names another number of hosts than the %d that were read", query, len(hosts))}
	}
	return hosts, nil
}

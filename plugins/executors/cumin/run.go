package cumin

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/plugins/executors/sshclient"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

var (
	// hostPattern is what cumin's direct backend takes as one name: commas,
	// brackets and !&^ are its language, an @ a group.
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$`)
	// operatorPattern is what it takes for an operator at the beginning.
	operatorPattern = regexp.MustCompile(`(?i)^(and|or|xor|not)([^A-Za-z0-9_$]|$)`)
)

// checkHost refuses what cumin would read as a query.
func checkHost(host string) *sdk.Error {
	if hostPattern.MatchString(host) && !operatorPattern.MatchString(host) {
		return nil
	}
	return &sdk.Error{
		Kind: sdk.KindConfig, Host: host,
		Message: fmt.Sprintf("%q is no host name for cumin", host),
		Hint:    "name a host; what finds hosts by a query is --targets, and the login user stands in cumin's configuration",
	}
}

// Run implements sdk.Executor. All hosts go into one run of cumin, as many as
// it speaks to at once. cumin tells nothing before its last host has answered.
// When ctx ends, cumin and its ssh are killed; what was started on hosts goes
// on until Command.Timeout (66 s if 0).
func (e *executor) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	if cmd.Timeout == 0 {
		cmd.Timeout = maxWait
	}
	nonce := shell.NewNonce()
	line, err := e.wrapper.Line(cmd, nonce)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for chunk := range slices.Chunk(well(hosts, emit), e.site.fanout()) {
		wg.Go(func() { e.call(ctx, chunk, cmd.Timeout, line, nonce, emit) })
	}
	return nil
}

// well returns the hosts that can be asked for and tells what is wrong with
// the others.
func well(hosts []string, emit func(sdk.Result)) []string {
	var good []string
	for _, h := range hosts {
		if err := checkHost(h); err != nil {
			emit(sdk.Result{Host: h, Err: err})
			continue
		}
		good = append(good, h)
	}
	return good
}

// call is one run of cumin.
func (e *executor) call(ctx context.Context, hosts []string, limit time.Duration, line, nonce string, emit func(sdk.Result)) {
	perHost := limit + min(e.site.connect()+hostExtra, mostExtra-ownExtra)
	ctx, cancel := context.WithTimeout(ctx, limit+mostExtra)
	defer cancel()
	seconds := int((perHost + time.Second - 1) / time.Second)
	argv := e.argv("--force", "--no-progress", "-o", "json", "-t", strconv.Itoa(seconds), "D{"+strings.Join(hosts, ",")+"}", line)
	out, runErr := program.Program{Argv: argv, Env: e.env, MaxOutput: len(hosts) * hostOutput}.Run(ctx)
	said, whole := readOutput(out.Stdout)
	for _, h := range hosts {
		text, has := said[h]
		r, err := e.wrapper.Parse([]byte(text), nonce)
		if err != nil {
			r = sdk.Result{Err: e.why(text, has, whole, out, runErr, sdk.AsError(err))}
		}
		r.Host = h
		if r.Err != nil {
			failed := *r.Err
			failed.Host = h
			r.Err = &failed
		}
		emit(r)
	}
}

// hostOutput is what one host may add to cumin's JSON: two outputs in base64,
// and banners.
const hostOutput = 3*maxOutput + 128<<10

// argv is cumin with its configuration and arguments.
func (e *executor) argv(args ...string) []string {
	argv := slices.Clone(e.command)
	if e.config != "" {
		argv = append(argv, "-c", e.config)
	}
	return append(argv, args...)
}

// why says why a host has no answer: the host's own reason where cumin has
// passed it on, else cumin's.
func (e *executor) why(text string, has, whole bool, out program.Output, runErr error, parse *sdk.Error) *sdk.Error {
	if has {
		if failure := sshclient.Failure(text); failure != nil {
			return failure
		}
		return parse
	}
	if runErr != nil {
		return sdk.AsError(runErr)
	}
	stderr := plain(out.Stderr)
	switch {
	case !whole && strings.Contains(stderr, "UnicodeDecodeError"):
		return &sdk.Error{Kind: sdk.KindUnreachable, Stderr: stderr,
			Message: "cumin lost the answers of all hosts of this call, since one of them printed something that is no UTF-8 (the command has run)",
			Hint:    "look for a login banner in another encoding"}
	case !whole:
		return &sdk.Error{Kind: sdk.KindUnreachable, Stderr: stderr,
			Message: fmt.Sprintf("cumin failed (exit code %d): %s", out.ExitCode, complaint(stderr)),
			Hint:    "see cumin's log, and try: cumin --dry-run HOST"}
	case strings.Contains(stderr, "timeout to execute"):
		return &sdk.Error{Kind: sdk.KindUnreachable, Message: "the host did not answer in time", Stderr: stderr,
			Hint: "the host or the way to it may hang; what was started there may still run"}
	}
	return &sdk.Error{Kind: sdk.KindUnreachable, Message: "cumin got no answer of the host", Stderr: stderr, Hint: "try: cumin --force HOST true"}
}

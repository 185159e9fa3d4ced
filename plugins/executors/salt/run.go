package salt

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

// maxLine bounds one minion's answer, and maxOther what salt says beside.
const (
	maxLine  = 4 << 20
	maxOther = 64 << 20
)

// Run implements sdk.Executor: one run of salt for all hosts, whose answers
// come as the minions return them. When ctx ends, salt is killed; what was
// started on minions goes on until Command.Timeout (66 s if 0). Hosts with the
// same minion id get the same answer, of one command.
func (e *executor) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	if cmd.Timeout == 0 {
		cmd.Timeout = maxWait
	}
	nonce := shell.NewNonce()
	line, input, err := e.wrapper.Feed(cmd, nonce)
	if err != nil {
		return err
	}
	names := map[string][]string{} // of a minion
	for _, h := range hosts {
		id, err := e.id.of(h)
		if err != nil {
			emit(sdk.Result{Host: h, Err: err})
			continue
		}
		names[id] = append(names[id], h)
	}
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cmd.Timeout+grace)
	defer cancel()
	r := &replies{wrapper: e.wrapper, nonce: nonce, names: names, emit: emit}
	salt := program.Program{
		Argv:      append(slices.Clone(e.command), "--args-stdin"),
		Env:       e.env,
		Stdin:     e.arguments(slices.Sorted(maps.Keys(names)), line, input),
		MaxOutput: maxLine,
		Line:      r.line,
	}
	out, runErr := salt.Run(ctx)
	r.end(out, runErr)
	return nil
}

// arguments are what salt reads from its stdin, one a line, where no limit of
// the kernel binds them. All options must be there: this second list resets
// those of the first. Nothing is parsed as YAML that is ours to choose.
func (e *executor) arguments(ids []string, line string, input []byte) []byte {
	args := []string{"--out=json", "--out-indent=-1", "--no-parse=cmd,stdin"}
	if e.timeout > 0 {
		args = append(args, "-t", strconv.Itoa(e.timeout))
	}
	args = append(args,
		"-L", strings.Join(ids, ","),
		"cmd.run_all",
		"cmd=base64 -d|"+line,
		"stdin="+base64.StdEncoding.EncodeToString(input),
		"shell=/bin/sh",
	)
	return []byte(strings.Join(args, "\n") + "\n")
}

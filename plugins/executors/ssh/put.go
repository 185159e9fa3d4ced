package ssh

import (
	"context"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

// Put implements sdk.Putter. The file is not flushed to the disk. A transfer
// that is cut short is removed by the host itself, one that takes longer than
// 60 s (and 1 s a MiB) through a second call.
func (e *executor) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	cmd, err := shell.PutCommand(file, maxWait)
	if err != nil {
		return err
	}
	if e.opts.installed {
		e.putSystem(ctx, hosts, file, emit)
		return nil
	}
	write, err := newJob(cmd, e.opts.sudo)
	if err != nil {
		return err
	}
	remove, err := newJob(sdk.Command{Argv: []sdk.Raw{"rm", "-f", "--", file.Path}, Timeout: killWait}, e.opts.sudo)
	if err != nil {
		return err
	}
	sdk.EachHost(ctx, hosts, hostsAtOnce, func(ctx context.Context, host string) sdk.Result {
		r, half := shell.PutResult(file.Path, e.pool.run(ctx, host, write))
		if half {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
			defer cancel()
			e.pool.run(undo, host, remove)
		}
		return r
	}, emit)
	return nil
}

package transfer

import (
	"context"

	"github.com/transferpy/transferpy/sdk"
)

// lasting is an executor that outlives its plugin's process. A call in which
// the process dies fails; the next one has a new process. All that is asked of
// agents can be asked twice, so whoever asks again needs to know nothing of it.
type lasting struct {
	sdk.Executor // the first, for what it says of itself
	plugins      Plugins
	name         string
}

// Run implements sdk.Executor.
func (l *lasting) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	exec, _, err := l.plugins.Executor(ctx, l.name)
	if err != nil {
		return err
	}
	return exec.Run(ctx, hosts, cmd, emit)
}

// Put implements sdk.Putter; the core calls it only where the plugin said that
// it can.
func (l *lasting) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	exec, _, err := l.plugins.Executor(ctx, l.name)
	if err != nil {
		return err
	}
	putter, ok := exec.(sdk.Putter)
	if !ok {
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: "executor " + l.name + " cannot place files, though it said so"}
	}
	return putter.Put(ctx, hosts, file, emit)
}

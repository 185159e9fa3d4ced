package salt

import (
	"context"
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

// Put implements sdk.Putter: the content goes to all minions in one call. The
// file is not flushed to the disk. salt keeps what it has carried in its job
// cache for a day.
func (e *executor) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	cmd, err := shell.PutCommand(file, maxWait)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var halves []string
	err = e.Run(ctx, hosts, cmd, func(r sdk.Result) {
		r, half := shell.PutResult(file.Path, r)
		if half {
			mu.Lock()
			halves = append(halves, r.Host)
			mu.Unlock()
		}
		emit(r)
	})
	if len(halves) > 0 {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		e.Run(undo, halves, sdk.Command{Argv: []sdk.Raw{"rm", "-f", "--", file.Path}, Timeout: 10 * time.Second}, func(sdk.Result) {})
	}
	return err
}

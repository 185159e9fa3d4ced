package cumin

import (
	"context"
	"sync"

	"github.com/transferpy/transferpy/plugins/executors/sshclient"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

// putsAtOnce is to how many hosts a file goes at the same time: each costs an
// ssh of its own, and each has the whole content in memory.
const putsAtOnce = 16

// Put implements sdk.Putter: by the ssh of cumin's configuration, and in
// pieces through cumin to hosts that this way does not reach. The file is not
// flushed to the disk.
func (e *executor) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	if _, err := shell.PutCommand(file, maxWait); err != nil {
		return err
	}
	good := well(hosts, emit)
	if e.pieces {
		e.putPieces(ctx, good, file, emit)
		return nil
	}
	ssh, err := e.site.ssh()
	if err != nil {
		return err // Configure has seen it
	}
	env := e.env
	for name, value := range e.site.Environment {
		env = append(env, name+"="+value)
	}
	client := sshclient.Client{Program: ssh, Env: env, Connect: e.site.connect(), MaxOutput: 64 << 10, Sudo: e.sudo}
	var mu sync.Mutex
	var missed []string
	sdk.EachHost(ctx, good, putsAtOnce, func(ctx context.Context, host string) sdk.Result {
		return client.Put(ctx, host, file, maxWait)
	}, func(r sdk.Result) {
		if !notReached(r.Err) || ctx.Err() != nil {
			emit(r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		missed = append(missed, r.Host)
	})
	// cumin may have ways that its configuration file does not tell, such as
	// ClusterShell's own files.
	e.putPieces(ctx, missed, file, emit)
	return nil
}

// notReached reports whether ssh did not get to the host at all.
func notReached(err *sdk.Error) bool {
	if err == nil {
		return false
	}
	switch err.Kind {
	case sdk.KindUnreachable, sdk.KindAuth, sdk.KindMissingTool, sdk.KindConfig:
		return true
	}
	return false
}

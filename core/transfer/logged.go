package transfer

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// logged is an executor of which the log gets every call: what was run, on
// which hosts, how long it took and what failed. Standard input and output are
// left out: they are messages, or files.
type logged struct {
	*lasting
	log *slog.Logger
}

// Run implements sdk.Executor.
func (l *logged) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	done, seen := l.begin(hosts, commandText(cmd.Argv), len(cmd.Stdin))
	err := l.lasting.Run(ctx, hosts, cmd, func(r sdk.Result) {
		seen(r)
		emit(r)
	})
	done(err)
	return err
}

// Put implements sdk.Putter.
func (l *logged) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	done, seen := l.begin(hosts, "put "+file.Path.Display(), len(file.Content))
	err := l.lasting.Put(ctx, hosts, file, func(r sdk.Result) {
		seen(r)
		emit(r)
	})
	done(err)
	return err
}

// begin notes a call. seen takes each host's result, from any goroutine; done
// tells how the call ended.
func (l *logged) begin(hosts []string, what string, input int) (done func(error), seen func(sdk.Result)) {
	began := time.Now()
	var mu sync.Mutex
	answered := 0
	seen = func(r sdk.Result) {
		mu.Lock()
		answered++
		mu.Unlock()
		switch took := time.Since(began).Round(time.Millisecond).String(); {
		case r.Err != nil:
			l.log.Debug("call failed", "executor", l.name, "host", r.Host, "took", took, "error", r.Err.Error())
		case r.ExitCode != 0:
			l.log.Debug("call", "executor", l.name, "host", r.Host, "took", took, "exit_code", r.ExitCode, "stderr", sdk.Raw(r.Stderr[:min(len(r.Stderr), maxLogged)]).Display())
		}
	}
	done = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		args := []any{"executor", l.name, "hosts", describe(hosts), "command", what, "stdin", input,
			"answers", fmt.Sprintf("%d of %d", answered, len(hosts)), "took", time.Since(began).Round(time.Millisecond).String()}
		if err != nil {
			args = append(args, "error", err.Error())
		}
		l.log.Debug("call", args...)
	}
	return done, seen
}

// maxLogged bounds what a log has of an argument or of a command's stderr, in
// bytes: a script is not to be read in every line.
const maxLogged = 120

// commandText is a command in short.
func commandText(argv []sdk.Raw) string {
	short := make([]sdk.Raw, len(argv))
	for i, a := range argv {
		if short[i] = a; len(a) > maxLogged {
			short[i] = a[:maxLogged] + "..."
		}
	}
	return argvText(short)
}

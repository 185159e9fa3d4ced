package launch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

// supervisor joins every call with the life of the plugin's process, and
// kills a process that shows no sign of life in time.
type supervisor struct{ proc *process }

// Watch implements wire.Supervisor.
func (s *supervisor) Watch(ctx context.Context, call string, idle time.Duration) (context.Context, wire.Watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{proc: s.proc, ctx: ctx, cancel: cancel, call: call, idle: idle, ended: make(chan struct{})}
	w.timer = time.AfterFunc(idle, w.hang)
	go w.follow()
	return ctx, w
}

type watch struct {
	proc   *process
	ctx    context.Context
	cancel context.CancelCauseFunc
	call   string
	idle   time.Duration
	ended  chan struct{}

	mu    sync.Mutex
	timer *time.Timer
	held  int
	over  bool
}

// follow ends the call when the process ends. It ends with the call.
func (w *watch) follow() {
	select {
	case <-w.proc.exited:
		w.cancel(w.proc.crash("in " + w.call))
	case <-w.ended:
	}
}

// hang kills a plugin that shows no sign of life.
func (w *watch) hang() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held > 0 || w.over {
		return
	}
	w.cancel(w.proc.hang(sdk.KindTimeout, fmt.Sprintf("gave no sign of life in %s for %v and was killed", w.call, w.idle)))
}

// Alive implements wire.Watch.
func (w *watch) Alive() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over && w.held == 0 {
		w.timer.Reset(w.idle)
	}
}

// Hold implements wire.Watch.
func (w *watch) Hold() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held++
	w.timer.Stop()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.held--; w.held == 0 && !w.over {
			w.timer.Reset(w.idle)
		}
	}
}

// End implements wire.Watch.
func (w *watch) End(err error) error {
	w.mu.Lock()
	w.over = true
	w.timer.Stop()
	w.mu.Unlock()
	close(w.ended)
	defer w.cancel(nil)
	if err == nil {
		return nil
	}
	var cause *sdk.Error
	if errors.As(context.Cause(w.ctx), &cause) {
		return cause
	}
	if wire.Broken(err) {
		// The connection breaks a moment before the process is waited for.
		if w.proc.waitExit(time.Second) {
			return w.proc.crash("in " + w.call)
		}
		return w.proc.failure(sdk.KindCrashed, "closed its connection in "+w.call, "report it to the plugin's author")
	}
	return w.proc.tail.cleanError(err)
}

// crash says that and how the process ended. It has ended.
func (p *process) crash(when string) *sdk.Error {
	p.mu.Lock()
	hung := p.hung
	p.mu.Unlock()
	switch {
	case hung != nil:
		return hung
	case p.stop.Load():
		return &sdk.Error{Kind: sdk.KindCancelled, Message: fmt.Sprintf("plugin %s was stopped %s", p.prog.Title, when)}
	}
	return p.failure(sdk.KindCrashed, fmt.Sprintf("died %s: %s", when, p.state),
		"its last lines may tell why; run again with --plugin-debug to see more, and report it to the plugin's author")
}

// hang kills the process; did says why, for this error and all later ones.
func (p *process) hang(kind sdk.ErrorKind, did string) *sdk.Error {
	err := p.failure(kind, did, "run again with --plugin-debug to see what it does, and report it to the plugin's author")
	p.mu.Lock()
	p.hung = err
	p.mu.Unlock()
	p.kill()
	return err
}

// failure is an error that names the plugin, its file and its last lines.
func (p *process) failure(kind sdk.ErrorKind, did, hint string) *sdk.Error {
	return &sdk.Error{Kind: kind, Message: fmt.Sprintf("plugin %s (%s) %s", p.prog.Title, p.prog.Path, did),
		Hint: hint, Stderr: p.tail.String()}
}

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/transferpy/transferpy/core/transfer"
)

// signals are what is done about the signals of this process.
type signals struct {
	cancel context.CancelCauseFunc
	stderr io.Writer

	mu     sync.Mutex
	count  int                // of those that ask for an end
	detach context.CancelFunc // nil: SIGHUP counts as SIGTERM
}

// withSignals returns a context that SIGINT and SIGTERM cancel, with the cause
// that decides the exit code, as does SIGHUP while nothing is detachable. Only
// the first of these does something: what follows it is the undo, which no
// further signal may tear apart, so those are answered with a line that says so.
// The function returned ends the watch and waits for it.
//
// A signal that was ignored when we were started (nohup, a background job)
// stays ignored. SIGPIPE is taken and dropped, so that a reader of our output
// who leaves does not kill a transfer in mid-run.
func withSignals(ctx context.Context, stderr io.Writer) (context.Context, *signals, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &signals{cancel: cancel, stderr: stderr}
	came := make(chan os.Signal, 8)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(sig) {
			signal.Notify(came, sig)
		}
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { s.watch(came, done) })
	return ctx, s, func() {
		signal.Stop(came)
		close(done)
		watch.Wait()
		cancel(nil)
	}
}

// watch takes signals until done.
func (s *signals) watch(came <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig := <-came:
			s.take(sig)
		}
	}
}

// take does what a signal asks for.
func (s *signals) take(sig os.Signal) {
	switch {
	case sig == syscall.SIGPIPE:
	case sig == syscall.SIGHUP && s.tryDetach():
		fmt.Fprintf(s.stderr, "transferpy: %s: leaving as soon as the copy can go on without this process\n", sig)
	case sig == syscall.SIGINT:
		s.end(sig.String(), transfer.ErrInterrupted)
	default:
		s.end(sig.String(), transfer.ErrTerminated)
	}
}

// end cancels the context, the first time.
func (s *signals) end(why string, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count++; s.count > 1 {
		fmt.Fprintf(s.stderr, "transferpy: %s (signal %d): still undoing, please wait\n", why, s.count)
		return
	}
	s.cancel(cause)
	fmt.Fprintf(s.stderr, "transferpy: %s: stopping and undoing, please wait\n", why)
}

// tryDetach asks for a detach, where that is possible.
func (s *signals) tryDetach() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detach == nil || s.count > 0 {
		return false
	}
	s.detach()
	return true
}

// detachable makes SIGHUP, from now on, end the context that it returns, and
// nothing else, until the function returned is called.
func (s *signals) detachable() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detach = cancel
	return ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.detach = nil
		cancel()
	}
}

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

// withSignals returns a context that SIGINT, SIGTERM and SIGHUP cancel, with
// the cause that decides the exit code; SIGHUP counts as SIGTERM. Only the
// first signal does something: what follows it is the undo, which no further
// signal may tear apart, so those are answered with a line that says so. The
// function returned ends the watch and waits for it.
//
// A signal that was ignored when we were started (nohup, a background job)
// stays ignored. SIGPIPE is taken and dropped, so that a reader of our output
// who leaves does not kill a transfer in mid-run.
func withSignals(ctx context.Context, stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		watchSignals(signals, done, cancel, stderr)
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		watch.Wait()
		cancel(nil)
	}
}

// watchSignals cancels at the first signal and counts the others until done.
func watchSignals(signals <-chan os.Signal, done <-chan struct{}, cancel context.CancelCauseFunc, stderr io.Writer) {
	for count := 0; ; {
		var s os.Signal
		select {
		case <-done:
			return
		case s = <-signals:
		}
		if s == syscall.SIGPIPE {
			continue
		}
		count++
		switch {
		case count > 1:
			fmt.Fprintf(stderr, "transferpy: %s (signal %d): still undoing, please wait\n", s, count)
			continue
		case s == syscall.SIGINT:
			cancel(transfer.ErrInterrupted)
		default:
			cancel(transfer.ErrTerminated)
		}
		fmt.Fprintf(stderr, "transferpy: %s: stopping and undoing, please wait\n", s)
	}
}

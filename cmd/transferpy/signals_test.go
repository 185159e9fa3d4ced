package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/transferpy/transferpy/core/transfer"
)

func TestSignals(t *testing.T) {
	tests := []struct {
		signals []os.Signal
		want    error
		said    string
	}{
		{[]os.Signal{syscall.SIGINT}, transfer.ErrInterrupted, "stopping and undoing"},
		{[]os.Signal{syscall.SIGTERM}, transfer.ErrTerminated, "stopping and undoing"},
		{[]os.Signal{syscall.SIGHUP}, transfer.ErrTerminated, "stopping and undoing"},
		{[]os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGINT}, transfer.ErrInterrupted, "(signal 3): still undoing"},
		{[]os.Signal{syscall.SIGPIPE}, nil, ""},
		{[]os.Signal{syscall.SIGPIPE, syscall.SIGTERM}, transfer.ErrTerminated, "stopping"},
	}
	for _, tt := range tests {
		ctx, cancel := context.WithCancelCause(t.Context())
		came, done := make(chan os.Signal), make(chan struct{})
		var stderr bytes.Buffer
		s := &signals{cancel: cancel, stderr: &stderr}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.watch(came, done)
		}()
		for _, sig := range tt.signals {
			came <- sig
		}
		close(done)
		<-ended
		if got := context.Cause(ctx); !errors.Is(got, tt.want) {
			t.Errorf("%v: cause %v, want %v", tt.signals, got, tt.want)
		}
		if !strings.Contains(stderr.String(), tt.said) || tt.said == "" && stderr.Len() > 0 {
			t.Errorf("%v: said %q", tt.signals, stderr.String())
		}
		cancel(nil)
	}
}

// TestHangup: while a transfer is detachable SIGHUP asks for that alone.
func TestHangup(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var stderr bytes.Buffer
	s := &signals{cancel: cancel, stderr: &stderr}
	detach, release := s.detachable()
	s.take(syscall.SIGHUP)
	if detach.Err() == nil || ctx.Err() != nil || !strings.Contains(stderr.String(), "leaving as soon as") {
		t.Errorf("detach %v, context %v: %q", detach.Err(), ctx.Err(), stderr.String())
	}
	s.take(syscall.SIGINT)
	if !errors.Is(context.Cause(ctx), transfer.ErrInterrupted) {
		t.Errorf("SIGINT after it: %v", context.Cause(ctx))
	}
	release()
	s.take(syscall.SIGHUP)
	if !strings.Contains(stderr.String(), "still undoing") {
		t.Errorf("SIGHUP while it undoes: %q", stderr.String())
	}
}

func TestExitCodeOfSignals(t *testing.T) {
	for cause, want := range map[error]int{transfer.ErrInterrupted: 130, transfer.ErrTerminated: 143} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if got := exitCode(ctx, context.Canceled); got != want {
			t.Errorf("%v: exit code %d, want %d", cause, got, want)
		}
	}
}

package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of an error's texts on the wire. gRPC carries a status in headers,
// where a large one breaks the call instead of explaining it.
const (
	maxErrorText   = 2 << 10
	maxErrorStderr = 4 << 10
)

// guard is deferred by every handler: it turns a panic into an error of
// KindCrashed, and any error into a status that carries an sdk.Error.
func guard(method string, err *error) {
	if p := recover(); p != nil {
		stack := string(debug.Stack())
		slog.Error("panic in "+method, "panic", fmt.Sprint(p), "stack", stack)
		*err = &sdk.Error{Kind: sdk.KindCrashed,
			Message: fmt.Sprintf("panic in %s: %v", shortMethod(method), p),
			Hint:    "this is a mistake in the plugin; report it to its author with the text below",
			Stderr:  stack}
	}
	*err = toStatus(*err)
}

// shortMethod is the name after the service: "Inspect".
func shortMethod(method string) string {
	return method[strings.LastIndexByte(method, '/')+1:]
}

// toStatus is err as a gRPC status with its sdk.Error in the details.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok && len(s.Details()) > 0 {
		return err // made by another call of this wire: facts intact
	}
	e := boundError(classify(err))
	s, detailErr := status.New(codes.Unknown, e.Message).WithDetails(errorToPB(e))
	if detailErr != nil {
		return status.Error(codes.Internal, e.Message)
	}
	return s.Err()
}

// classify is err as an *sdk.Error, a context's end and a foreign status
// included.
func classify(err error) *sdk.Error {
	var e *sdk.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled):
		return &sdk.Error{Kind: sdk.KindCancelled, Message: err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &sdk.Error{Kind: sdk.KindTimeout, Message: err.Error()}
	}
	return sdk.AsError(err)
}

// boundError is e with texts that fit a status: valid UTF-8, cut at their
// beginning (stderr) or end.
func boundError(e *sdk.Error) *sdk.Error {
	cut := *e
	cut.Host = text(firstBytes(e.Host, maxErrorText))
	cut.Message = text(firstBytes(e.Message, maxErrorText))
	cut.Hint = text(firstBytes(e.Hint, maxErrorText))
	cut.Stderr = text(lastBytes(e.Stderr, maxErrorStderr))
	return &cut
}

func firstBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}

func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "..." + s[len(s)-n:]
}

// fromStatus turns what a gRPC call returned into an *sdk.Error; nil stays
// nil, and so does the io.EOF that ends a stream.
func fromStatus(ctx context.Context, method string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return classify(err)
	}
	for _, d := range s.Details() {
		if e, ok := d.(*pb.Error); ok {
			return errorFromPB(e)
		}
	}
	name := shortMethod(method)
	switch {
	case ctx.Err() != nil:
		var cause *sdk.Error
		if errors.As(context.Cause(ctx), &cause) {
			return cause
		}
		kind := sdk.KindCancelled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			kind = sdk.KindTimeout
		}
		return &sdk.Error{Kind: kind, Message: name + " was cut short: " + context.Cause(ctx).Error()}
	case s.Code() == codes.Unimplemented:
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: "the plugin does not serve " + name,
			Hint: "what its Describe announces and what it implements differ; report it to its author"}
	case s.Code() == codes.ResourceExhausted:
		return &sdk.Error{Kind: sdk.KindUnsupported,
			Message: fmt.Sprintf("%s: a message is larger than %d MiB: %s", name, MaxMessage>>20, s.Message()),
			Hint:    "ask for less output, or for fewer hosts in one call"}
	case s.Code() == codes.Internal && strings.Contains(s.Message(), "invalid UTF-8"):
		return &sdk.Error{Kind: sdk.KindConfig, Message: name + ": a host name or another name is not valid UTF-8"}
	case s.Code() == codes.Unavailable:
		return broken{&sdk.Error{Kind: sdk.KindCrashed, Message: name + ": the connection to the plugin broke: " + s.Message()}}
	}
	return &sdk.Error{Kind: sdk.KindInternal, Message: name + ": " + s.Message()}
}

// broken is the error of a call whose connection broke.
type broken struct{ cause *sdk.Error }

// Error implements error.
func (b broken) Error() string { return b.cause.Error() }

// Unwrap gives the typed error.
func (b broken) Unwrap() error { return b.cause }

// Broken reports whether err says that the connection broke, and is not the
// plugin's own answer.
func Broken(err error) bool {
	var b broken
	return errors.As(err, &b)
}

// Package wire maps package sdk to gRPC and back: on a plugin's side it serves
// an sdk.Plugin, on the core's side it gives the sdk interface of a plugin
// that is reached over a connection. It starts no process. Authors have no
// use for it; sdk/plugin.Serve is theirs.
package wire

import (
	"context"
	"math"

	"google.golang.org/grpc"
)

// What both sides of the handshake know. The cookie is no secret: it tells a
// person who starts a plugin by hand that this is not how it is meant.
const (
	CookieKey   = "TRANSFERPY_PLUGIN"
	CookieValue = "3a1f5c0e-transferpy-plugin"
	// PluginKey is the one name under which a plugin is dispensed.
	PluginKey = "transferpy"
	// LifelineEnv names the descriptor that a plugin reads until its end: at
	// the end of file the host is gone, and the plugin exits.
	LifelineEnv = "TRANSFERPY_PLUGIN_LIFELINE"
	// DirPrefix begins the name of a plugin's private directory, which holds
	// its sockets and is removed with it.
	DirPrefix = "tpy-"
	// LogLevelEnv sets the level of a plugin's log: debug, info, warn, error.
	LogLevelEnv = "TRANSFERPY_PLUGIN_LOG"
)

// MaxMessage bounds one message in bytes, both ways. It leaves room for the
// answers of some 100 hosts at the 256 KiB of output that an executor brings
// back; what is longer is data and has no business on this wire.
const MaxMessage = 64 << 20

// Dial reaches the core's HostService under a broker's id, as go-plugin's
// GRPCBroker.DialWithOptions does. An id serves once.
type Dial func(id uint32, opts ...grpc.DialOption) (*grpc.ClientConn, error)

// ServerOptions are what every gRPC server of this wire uses: bounded
// messages, typed errors, and panics that end the call and not the process.
// Each handler is entered and left through track, where it is not nil.
func ServerOptions(track func() (done func())) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(1024),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
			defer tracked(track)()
			defer guard(info.FullMethod, &err)
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
			defer tracked(track)()
			defer guard(info.FullMethod, &err)
			return next(srv, stream)
		}),
	}
}

// tracked enters a handler; what it returns leaves it.
func tracked(track func() func()) func() {
	if track == nil {
		return func() {}
	}
	return track()
}

// DialOptions are what every gRPC client of this wire uses.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessage),
			grpc.MaxCallSendMsgSize(MaxMessage)),
		// The other side is this machine and alive, or gone for good.
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	}
}

// clamp32 is n as an int32, at its bounds where it lies beyond.
func clamp32(n int) int32 {
	return int32(max(math.MinInt32, min(n, math.MaxInt32)))
}

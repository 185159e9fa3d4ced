package wire

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// Broker lets the core serve something back to the plugin, as go-plugin's
// GRPCBroker does. AcceptAndServe returns when the broker is closed or the
// server that newServer gave is stopped.
type Broker interface {
	NextId() uint32
	AcceptAndServe(id uint32, newServer func([]grpc.ServerOption) *grpc.Server)
}

// scope is what a token stands for: the hosts of one call of the plugin.
type scope struct {
	host     sdk.Host
	readOnly bool
	phase    string // the method that was called: "Inspect"
	watch    Watch

	ctx   context.Context // ends with the call
	calls *sync.WaitGroup // requests under way
}

// hostServer serves HostService to one plugin: once, over the broker, for all
// of the plugin's calls, told apart by their tokens.
type hostServer struct {
	pb.UnimplementedHostServiceServer
	broker Broker

	mu      sync.Mutex
	scopes  map[uint64]scope
	server  *grpc.Server
	closed  bool
	serving sync.WaitGroup
}

func newHostServer(broker Broker) *hostServer {
	return &hostServer{broker: broker, scopes: map[uint64]scope{}}
}

// serve begins to serve and returns the broker's id to dial; 0 without a
// broker. Each id can be dialled once, and for 5 s.
func (h *hostServer) serve() uint32 {
	if h.broker == nil {
		return 0
	}
	id := h.broker.NextId()
	h.serving.Go(func() {
		h.broker.AcceptAndServe(id, func(opts []grpc.ServerOption) *grpc.Server {
			s := grpc.NewServer(append(opts, ServerOptions(nil)...)...)
			pb.RegisterHostServiceServer(s, h)
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.closed {
				s.Stop()
			}
			h.server = s
			return s
		})
	})
	return id
}

// close stops serving and cancels what is under way.
func (h *hostServer) close() {
	h.mu.Lock()
	h.closed = true
	server := h.server
	h.mu.Unlock()
	if server != nil {
		server.Stop()
	}
}

// open makes a token for s, which lives until revoke has returned; then no
// request is under way on its behalf any more.
func (h *hostServer) open(ctx context.Context, s scope) (token uint64, revoke func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.ctx, s.calls = ctx, &sync.WaitGroup{}
	h.mu.Lock()
	defer h.mu.Unlock()
	for token == 0 || h.scopes[token].calls != nil {
		// Random, so that no plugin can use what it was not given.
		var b [8]byte
		rand.Read(b[:])
		token = binary.BigEndian.Uint64(b[:])
	}
	h.scopes[token] = s
	return token, func() {
		h.mu.Lock()
		delete(h.scopes, token)
		h.mu.Unlock()
		cancel()
		s.calls.Wait()
	}
}

// enter finds the scope of a token and begins a request on its behalf; the
// returned context ends with the request and with the scope.
func (h *hostServer) enter(ctx context.Context, token uint64) (scope, context.Context, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.scopes[token]
	if !ok {
		return s, nil, nil, &sdk.Error{Kind: sdk.KindUnsupported,
			Message: "the call that this Host belongs to has ended",
			Hint:    "a plugin may use its Host only until the method that was given it returns"}
	}
	if s.host == nil {
		return s, nil, nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: "no hosts are served in " + s.phase}
	}
	s.calls.Add(1)
	release := s.watch.Hold()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return s, ctx, func() { stop(); cancel(); release(); s.calls.Done() }, nil
}

// Run implements pb.HostServiceServer.
func (h *hostServer) Run(ctx context.Context, req *pb.HostServiceRunRequest) (*pb.HostServiceRunResponse, error) {
	s, ctx, leave, err := h.enter(ctx, req.GetHostToken())
	if err != nil {
		return nil, err
	}
	defer leave()
	results, err := s.host.Run(ctx, each(req.GetWork(), hostCommandsFromPB))
	if err != nil {
		return nil, err
	}
	return &pb.HostServiceRunResponse{Results: each(results, hostResultsToPB)}, nil
}

// Change implements pb.HostServiceServer.
func (h *hostServer) Change(ctx context.Context, req *pb.HostServiceChangeRequest) (*pb.HostServiceChangeResponse, error) {
	s, ctx, leave, err := h.enter(ctx, req.GetHostToken())
	if err != nil {
		return nil, err
	}
	defer leave()
	if s.readOnly {
		return nil, &sdk.Error{Kind: sdk.KindPermission,
			Message: fmt.Sprintf("Change is refused in %s, which is read-only", s.phase),
			Hint:    "change hosts in Begin (a mode) or Open (a firewall)"}
	}
	results, err := s.host.Change(ctx, each(req.GetWork(), hostChangeFromPB))
	if err != nil {
		return nil, err
	}
	return &pb.HostServiceChangeResponse{Results: each(results, hostResultsToPB)}, nil
}

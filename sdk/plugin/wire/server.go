package wire

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// Check reports whether p is what its Describe says: one of the three kinds,
// with that kind's interface.
func Check(p sdk.Plugin) error {
	d := p.Describe()
	var is bool
	switch d.Kind {
	case sdk.KindExecutor:
		_, is = p.(sdk.Executor)
	case sdk.KindMode:
		_, is = p.(sdk.Mode)
	case sdk.KindFirewall:
		_, is = p.(sdk.Firewall)
	}
	if !is {
		return fmt.Errorf("plugin %q: Describe says kind %q, but %T is none: it lacks methods of sdk's interface for it", d.Name, d.Kind, p)
	}
	return nil
}

// Register serves p on s, which was made with ServerOptions. dial reaches the
// core's HostService; it may be nil.
func Register(s *grpc.Server, p sdk.Plugin, dial Dial) error {
	if err := Check(p); err != nil {
		return err
	}
	hosts := &hostLink{dial: dial}
	switch p.Describe().Kind {
	case sdk.KindExecutor:
		pb.RegisterExecutorServiceServer(s, &executorServer{e: p.(sdk.Executor)})
	case sdk.KindMode:
		pb.RegisterModeServiceServer(s, &modeServer{m: p.(sdk.Mode), hosts: hosts})
	case sdk.KindFirewall:
		pb.RegisterFirewallServiceServer(s, &firewallServer{f: p.(sdk.Firewall), hosts: hosts})
	}
	pb.RegisterPluginServiceServer(s, &pluginServer{p: p, hosts: hosts})
	return nil
}

type pluginServer struct {
	pb.UnimplementedPluginServiceServer
	p     sdk.Plugin
	hosts *hostLink
}

// Describe implements pb.PluginServiceServer.
func (s *pluginServer) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	d := s.p.Describe()
	d.SDKVersion = sdk.Version
	return &pb.DescribeResponse{Description: descriptionToPB(d)}, nil
}

// Configure implements pb.PluginServiceServer.
func (s *pluginServer) Configure(ctx context.Context, req *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	for name, value := range req.GetEnvironment() {
		if err := os.Setenv(name, string(value)); err != nil {
			return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("environment variable %q: %v", name, err)}
		}
	}
	if err := s.hosts.connect(req.GetHostBrokerId()); err != nil {
		return nil, err
	}
	found, err := s.p.Configure(ctx, valuesFromPB(req.GetValues()))
	if err != nil {
		return nil, err
	}
	return &pb.ConfigureResponse{Diagnostics: each(found, diagnosticToPB)}, nil
}

type executorServer struct {
	pb.UnimplementedExecutorServiceServer
	e sdk.Executor
}

// Run implements pb.ExecutorServiceServer.
func (s *executorServer) Run(req *pb.RunRequest, stream grpc.ServerStreamingServer[pb.RunResponse]) error {
	out := emitter{send: func(r *pb.Result) error { return stream.Send(&pb.RunResponse{Result: r}) }}
	return out.finish(s.e.Run(stream.Context(), req.GetHosts(), commandFromPB(req.GetCommand()), out.emit))
}

// Put implements pb.ExecutorServiceServer.
func (s *executorServer) Put(req *pb.PutRequest, stream grpc.ServerStreamingServer[pb.PutResponse]) error {
	p, ok := s.e.(sdk.Putter)
	if !ok {
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: "this executor has no Put"}
	}
	out := emitter{send: func(r *pb.Result) error { return stream.Send(&pb.PutResponse{Result: r}) }}
	return out.finish(p.Put(stream.Context(), req.GetHosts(), fileFromPB(req.GetFile()), out.emit))
}

// Expand implements pb.ExecutorServiceServer.
func (s *executorServer) Expand(ctx context.Context, req *pb.ExpandRequest) (*pb.ExpandResponse, error) {
	x, ok := s.e.(sdk.Expander)
	if !ok {
		return nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: "this executor has no Expand"}
	}
	hosts, err := x.Expand(ctx, req.GetQuery())
	if err != nil {
		return nil, err
	}
	return &pb.ExpandResponse{Hosts: hosts}, nil
}

// emitter sends results from any number of goroutines until the call ends.
type emitter struct {
	mu    sync.Mutex
	send  func(*pb.Result) error
	ended bool
	err   error
}

func (e *emitter) emit(r sdk.Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		slog.Error("emit was called after Run or Put had returned; the result is lost", "host", r.Host)
		return
	}
	if e.err == nil {
		e.err = e.send(resultToPB(r))
	}
}

// finish ends the call with err, or with the first error of sending.
func (e *emitter) finish(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	if err != nil {
		return err
	}
	return e.err
}

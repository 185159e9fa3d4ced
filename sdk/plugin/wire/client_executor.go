package wire

import (
	"context"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// Executor gives the plugin as an sdk.Executor, which is an sdk.Putter and an
// sdk.Expander exactly if its description says so. Ask comes first.
func (c *Client) Executor() (sdk.Executor, error) {
	if err := c.wrongKind(sdk.KindExecutor); err != nil {
		return nil, err
	}
	e := executor{Client: c, rpc: pb.NewExecutorServiceClient(c.conn)}
	switch t := c.desc.Executor; {
	case t.CanPut && t.CanExpand:
		return struct {
			executor
			putter
			expander
		}{e, putter{e}, expander{e}}, nil
	case t.CanPut:
		return struct {
			executor
			putter
		}{e, putter{e}}, nil
	case t.CanExpand:
		return struct {
			executor
			expander
		}{e, expander{e}}, nil
	}
	return e, nil
}

type executor struct {
	*Client
	rpc pb.ExecutorServiceClient
}

// Run implements sdk.Executor. It holds the plugin to the contract: each host
// gets exactly one result, and a host that the plugin left out gets an error.
func (e executor) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	return stream(ctx, e, pb.ExecutorService_Run_FullMethodName, e.patience(cmd.Timeout), hosts, emit,
		func(ctx context.Context, hosts []string) (grpc.ServerStreamingClient[pb.RunResponse], error) {
			return e.rpc.Run(ctx, &pb.RunRequest{Hosts: hosts, Command: commandToPB(cmd)})
		})
}

// patience is how long the next result may take for a command that may take
// timeout.
func (e executor) patience(timeout time.Duration) time.Duration {
	wait := e.desc.Executor.MaxWait
	if wait <= 0 {
		wait = 30 * time.Second
	}
	return max(timeout, wait) + e.limits.Grace
}

type putter struct{ e executor }

// Put implements sdk.Putter.
func (p putter) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	return stream(ctx, p.e, pb.ExecutorService_Put_FullMethodName, p.e.patience(0), hosts, emit,
		func(ctx context.Context, hosts []string) (grpc.ServerStreamingClient[pb.PutResponse], error) {
			return p.e.rpc.Put(ctx, &pb.PutRequest{Hosts: hosts, File: fileToPB(file)})
		})
}

type expander struct{ e executor }

// Expand implements sdk.Expander.
func (x expander) Expand(ctx context.Context, query string) ([]string, error) {
	resp, err := call(ctx, x.e.Client, pb.ExecutorService_Expand_FullMethodName, x.e.limits.Pure, x.e.rpc.Expand, &pb.ExpandRequest{Query: query})
	return resp.GetHosts(), err
}

// resultMessage is a message of a stream of results.
type resultMessage interface{ GetResult() *pb.Result }

// stream makes one call that streams results, and emits one for each host.
func stream[M any, P interface {
	*M
	resultMessage
}](ctx context.Context, e executor, method string, idle time.Duration, hosts []string, emit func(sdk.Result),
	open func(context.Context, []string) (grpc.ServerStreamingClient[M], error)) error {
	hosts = speakable(hosts, emit)
	if len(hosts) == 0 {
		return nil
	}
	ctx, watch := e.super.Watch(ctx, shortMethod(method), idle)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream where we leave before its end

	missing := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		missing[h] = true
	}
	s, err := open(ctx, hosts)
	for err == nil {
		var m *M
		if m, err = s.Recv(); err != nil {
			break
		}
		watch.Alive()
		r := resultFromPB(P(m).GetResult())
		if missing[r.Host] { // else not asked for, or a second one: not ours to believe
			delete(missing, r.Host)
			emit(r)
		}
	}
	if err != io.EOF {
		return watch.End(fromStatus(ctx, method, err))
	}
	for _, h := range hosts {
		if missing[h] {
			emit(sdk.Result{Host: h, Err: &sdk.Error{Kind: sdk.KindInternal, Host: h,
				Message: fmt.Sprintf("executor %s gave no result for this host", e.desc.Name),
				Hint:    "this is a mistake in the plugin; report it to its author"}})
			delete(missing, h)
		}
	}
	return watch.End(nil)
}

// speakable returns the hosts, each once, that the wire can name; the others
// get their result at once.
func speakable(hosts []string, emit func(sdk.Result)) []string {
	seen := make(map[string]bool, len(hosts))
	out := make([]string, 0, len(hosts))
	for _, h := range hosts {
		switch {
		case seen[h]:
			continue
		case !utf8.ValidString(h) || h == "":
			emit(sdk.Result{Host: h, Err: &sdk.Error{Kind: sdk.KindConfig, Host: sdk.Raw(h).Display(),
				Message: "this is no name of a host: it is empty or not valid UTF-8"}})
		default:
			out = append(out, h)
		}
		seen[h] = true
	}
	return out
}

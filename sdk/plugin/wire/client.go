package wire

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// Client is the core's end of the wire to one plugin. Its Executor, Mode and
// Firewall give the sdk interface; all methods may be called at once.
type Client struct {
	conn   grpc.ClientConnInterface
	plugin pb.PluginServiceClient
	hosts  *hostServer
	super  Supervisor
	limits Limits
	desc   sdk.Description
}

// NewClient makes the client of the plugin at the other end of conn. broker
// serves HostService back to it; nil for none. The caller owns conn and
// closes the client before it.
func NewClient(conn grpc.ClientConnInterface, broker Broker, super Supervisor, limits Limits) *Client {
	return &Client{
		conn:   conn,
		plugin: pb.NewPluginServiceClient(conn),
		hosts:  newHostServer(broker),
		super:  super,
		limits: limits,
	}
}

// Close stops serving hosts to the plugin. Close the broker next, then Wait.
func (c *Client) Close() { c.hosts.close() }

// Wait waits until nothing of the client runs any more.
func (c *Client) Wait() { c.hosts.serving.Wait() }

// Ask asks the plugin to describe itself, and keeps the answer for Describe.
// Call it first, from one goroutine.
func (c *Client) Ask(ctx context.Context) (sdk.Description, error) {
	resp, err := call(ctx, c, pb.PluginService_Describe_FullMethodName, c.limits.Describe, c.plugin.Describe, &pb.DescribeRequest{})
	if err != nil {
		return sdk.Description{}, err
	}
	c.desc = descriptionFromPB(resp.GetDescription())
	return c.desc, nil
}

// Describe implements sdk.Plugin with the answer to Ask.
func (c *Client) Describe() sdk.Description { return c.desc }

// Configure implements sdk.Plugin; no variable reaches the plugin.
func (c *Client) Configure(ctx context.Context, values sdk.Values) ([]sdk.Diagnostic, error) {
	return c.ConfigureWith(ctx, values, nil)
}

// ConfigureWith is Configure with the variables that the plugin asked for.
// Modes and firewalls are told here where hosts are served.
func (c *Client) ConfigureWith(ctx context.Context, values sdk.Values, environment map[string]string) ([]sdk.Diagnostic, error) {
	req := &pb.ConfigureRequest{Values: valuesToPB(values), Environment: eachValue(environment, stringToPB)}
	if c.desc.Kind != sdk.KindExecutor {
		req.HostBrokerId = c.hosts.serve()
	}
	resp, err := call(ctx, c, pb.PluginService_Configure_FullMethodName, c.limits.Configure, c.plugin.Configure, req)
	if err != nil {
		return nil, err
	}
	return each(resp.GetDiagnostics(), diagnosticFromPB), nil
}

// call makes one unary call under the supervisor's eyes.
func call[Req, Resp any](ctx context.Context, c *Client, method string, idle time.Duration,
	f func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req) (*Resp, error) {
	ctx, watch := c.super.Watch(ctx, shortMethod(method), idle)
	resp, err := f(ctx, req)
	return resp, watch.End(fromStatus(ctx, method, err))
}

// hostCall is call for a method that reaches hosts: it hands out a token for
// host that ends with the call.
func hostCall[Req, Resp any](ctx context.Context, c *Client, method string, host sdk.Host, readOnly bool,
	f func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req func(token uint64) *Req) (*Resp, error) {
	ctx, watch := c.super.Watch(ctx, shortMethod(method), c.limits.Idle)
	token, revoke := c.hosts.open(ctx, scope{host: host, readOnly: readOnly, phase: shortMethod(method), watch: watch})
	resp, err := f(ctx, req(token))
	err = fromStatus(ctx, method, err)
	revoke()
	return resp, watch.End(err)
}

// wrongKind says that a plugin is not what it was asked to be.
func (c *Client) wrongKind(want sdk.Kind) error {
	if c.desc.Kind == want {
		return nil
	}
	return &sdk.Error{Kind: sdk.KindUnsupported,
		Message: fmt.Sprintf("plugin %s is a plugin of kind %q, not %q", c.desc.Name, c.desc.Kind, want)}
}

// IsRemote says that this plugin is reached over a wire.
func (c *Client) IsRemote() bool { return true }

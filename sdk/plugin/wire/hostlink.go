package wire

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// hostLink is the plugin's connection to the core's HostService. A broker's
// id can be dialled only once, so it is made in Configure and kept until the
// process ends.
type hostLink struct {
	dial Dial

	mu   sync.Mutex
	conn *grpc.ClientConn
}

// connect dials id; 0 is none. A second Configure replaces the connection.
func (l *hostLink) connect(id uint32) error {
	if id == 0 || l.dial == nil {
		return nil
	}
	conn, err := l.dial(id, DialOptions()...)
	if err != nil {
		return &sdk.Error{Kind: sdk.KindInternal, Message: "the core's Host service cannot be reached: " + err.Error()}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
	l.conn = conn
	return nil
}

// host gives the hosts that token stands for.
func (l *hostLink) host(token uint64) sdk.Host { return remoteHost{link: l, token: token} }

// remoteHost is sdk.Host over the wire.
type remoteHost struct {
	link  *hostLink
	token uint64
}

func (h remoteHost) rpc() (pb.HostServiceClient, error) {
	h.link.mu.Lock()
	defer h.link.mu.Unlock()
	if h.link.conn == nil {
		return nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: "no Host service was given to this plugin"}
	}
	return pb.NewHostServiceClient(h.link.conn), nil
}

// Run implements sdk.Host.
func (h remoteHost) Run(ctx context.Context, work []sdk.HostCommands) ([]sdk.HostResults, error) {
	rpc, err := h.rpc()
	if err != nil {
		return nil, err
	}
	resp, err := rpc.Run(ctx, &pb.HostServiceRunRequest{HostToken: h.token, Work: each(work, hostCommandsToPB)})
	return each(resp.GetResults(), hostResultsFromPB), fromStatus(ctx, "Host.Run", err)
}

// Change implements sdk.Host.
func (h remoteHost) Change(ctx context.Context, work []sdk.HostChange) ([]sdk.HostResults, error) {
	rpc, err := h.rpc()
	if err != nil {
		return nil, err
	}
	resp, err := rpc.Change(ctx, &pb.HostServiceChangeRequest{HostToken: h.token, Work: each(work, hostChangeToPB)})
	return each(resp.GetResults(), hostResultsFromPB), fromStatus(ctx, "Host.Change", err)
}

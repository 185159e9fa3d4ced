package wire

import (
	"context"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// Firewall gives the plugin as an sdk.Firewall. Ask comes first.
func (c *Client) Firewall() (sdk.Firewall, error) {
	if err := c.wrongKind(sdk.KindFirewall); err != nil {
		return nil, err
	}
	return firewall{Client: c, rpc: pb.NewFirewallServiceClient(c.conn)}, nil
}

type firewall struct {
	*Client
	rpc pb.FirewallServiceClient
}

// Detect implements sdk.Firewall; the plugin is refused host.Change.
func (f firewall) Detect(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Filter, error) {
	resp, err := hostCall(ctx, f.Client, pb.FirewallService_Detect_FullMethodName, host, true, f.rpc.Detect,
		func(token uint64) *pb.DetectRequest { return &pb.DetectRequest{HostToken: token, Hosts: hosts} })
	return each(resp.GetFilters(), filterFromPB), err
}

// Open implements sdk.Firewall.
func (f firewall) Open(ctx context.Context, transferID string, holes []sdk.Hole, host sdk.Host) ([]sdk.Rule, error) {
	resp, err := hostCall(ctx, f.Client, pb.FirewallService_Open_FullMethodName, host, false, f.rpc.Open,
		func(token uint64) *pb.OpenRequest {
			return &pb.OpenRequest{HostToken: token, TransferId: transferID, Holes: each(holes, holeToPB)}
		})
	return each(resp.GetRules(), ruleFromPB), err
}

// Close implements sdk.Firewall. It closes rules, not the client.
func (f firewall) Close(ctx context.Context, transferID string, rules []sdk.Rule, host sdk.Host) error {
	_, err := hostCall(ctx, f.Client, pb.FirewallService_Close_FullMethodName, host, false, f.rpc.Close,
		func(token uint64) *pb.CloseRequest {
			return &pb.CloseRequest{HostToken: token, TransferId: transferID, Rules: each(rules, ruleToPB)}
		})
	return err
}

// Sweep implements sdk.Firewall.
func (f firewall) Sweep(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Rule, error) {
	resp, err := hostCall(ctx, f.Client, pb.FirewallService_Sweep_FullMethodName, host, false, f.rpc.Sweep,
		func(token uint64) *pb.SweepRequest { return &pb.SweepRequest{HostToken: token, Hosts: hosts} })
	return each(resp.GetRules(), ruleFromPB), err
}

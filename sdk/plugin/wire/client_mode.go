package wire

import (
	"context"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// Mode gives the plugin as an sdk.Mode. Ask comes first.
func (c *Client) Mode() (sdk.Mode, error) {
	if err := c.wrongKind(sdk.KindMode); err != nil {
		return nil, err
	}
	return mode{Client: c, rpc: pb.NewModeServiceClient(c.conn)}, nil
}

type mode struct {
	*Client
	rpc pb.ModeServiceClient
}

// Questions implements sdk.Mode.
func (m mode) Questions(ctx context.Context, t sdk.Transfer) ([]sdk.HostQuestions, error) {
	resp, err := call(ctx, m.Client, pb.ModeService_Questions_FullMethodName, m.limits.Pure, m.rpc.Questions,
		&pb.QuestionsRequest{Transfer: transferToPB(t)})
	return each(resp.GetQuestions(), questionsFromPB), err
}

// Inspect implements sdk.Mode; the plugin is refused host.Change.
func (m mode) Inspect(ctx context.Context, t sdk.Transfer, answers []sdk.Answers, host sdk.Host) (sdk.Findings, error) {
	resp, err := hostCall(ctx, m.Client, pb.ModeService_Inspect_FullMethodName, host, true, m.rpc.Inspect,
		func(token uint64) *pb.InspectRequest {
			return &pb.InspectRequest{HostToken: token, Transfer: transferToPB(t), Answers: each(answers, answersToPB)}
		})
	return findingsFromPB(resp.GetFindings()), err
}

// Plan implements sdk.Mode.
func (m mode) Plan(ctx context.Context, t sdk.Transfer, found sdk.Findings) (sdk.Plan, error) {
	resp, err := call(ctx, m.Client, pb.ModeService_Plan_FullMethodName, m.limits.Pure, m.rpc.Plan,
		&pb.PlanRequest{Transfer: transferToPB(t), Findings: findingsToPB(found)})
	return planFromPB(resp.GetPlan()), err
}

// Begin implements sdk.Mode.
func (m mode) Begin(ctx context.Context, t sdk.Transfer, host sdk.Host) error {
	_, err := hostCall(ctx, m.Client, pb.ModeService_Begin_FullMethodName, host, false, m.rpc.Begin,
		func(token uint64) *pb.BeginRequest {
			return &pb.BeginRequest{HostToken: token, Transfer: transferToPB(t)}
		})
	return err
}

// Finish implements sdk.Mode.
func (m mode) Finish(ctx context.Context, t sdk.Transfer, outcome sdk.Outcome, host sdk.Host) error {
	_, err := hostCall(ctx, m.Client, pb.ModeService_Finish_FullMethodName, host, false, m.rpc.Finish,
		func(token uint64) *pb.FinishRequest {
			return &pb.FinishRequest{HostToken: token, Transfer: transferToPB(t), Outcome: outcomeToPB(outcome)}
		})
	return err
}

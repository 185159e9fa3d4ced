package wire

import (
	"context"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

type modeServer struct {
	pb.UnimplementedModeServiceServer
	m     sdk.Mode
	hosts *hostLink
}

// Questions implements pb.ModeServiceServer.
func (s *modeServer) Questions(ctx context.Context, req *pb.QuestionsRequest) (*pb.QuestionsResponse, error) {
	q, err := s.m.Questions(ctx, transferFromPB(req.GetTransfer()))
	if err != nil {
		return nil, err
	}
	return &pb.QuestionsResponse{Questions: each(q, questionsToPB)}, nil
}

// Inspect implements pb.ModeServiceServer.
func (s *modeServer) Inspect(ctx context.Context, req *pb.InspectRequest) (*pb.InspectResponse, error) {
	found, err := s.m.Inspect(ctx, transferFromPB(req.GetTransfer()), each(req.GetAnswers(), answersFromPB), s.hosts.host(req.GetHostToken()))
	if err != nil {
		return nil, err
	}
	return &pb.InspectResponse{Findings: findingsToPB(found)}, nil
}

// Plan implements pb.ModeServiceServer.
func (s *modeServer) Plan(ctx context.Context, req *pb.PlanRequest) (*pb.PlanResponse, error) {
	plan, err := s.m.Plan(ctx, transferFromPB(req.GetTransfer()), findingsFromPB(req.GetFindings()))
	if err != nil {
		return nil, err
	}
	return &pb.PlanResponse{Plan: planToPB(plan)}, nil
}

// Begin implements pb.ModeServiceServer.
func (s *modeServer) Begin(ctx context.Context, req *pb.BeginRequest) (*pb.BeginResponse, error) {
	return &pb.BeginResponse{}, s.m.Begin(ctx, transferFromPB(req.GetTransfer()), s.hosts.host(req.GetHostToken()))
}

// Finish implements pb.ModeServiceServer.
func (s *modeServer) Finish(ctx context.Context, req *pb.FinishRequest) (*pb.FinishResponse, error) {
	return &pb.FinishResponse{}, s.m.Finish(ctx, transferFromPB(req.GetTransfer()), outcomeFromPB(req.GetOutcome()), s.hosts.host(req.GetHostToken()))
}

type firewallServer struct {
	pb.UnimplementedFirewallServiceServer
	f     sdk.Firewall
	hosts *hostLink
}

// Detect implements pb.FirewallServiceServer.
func (s *firewallServer) Detect(ctx context.Context, req *pb.DetectRequest) (*pb.DetectResponse, error) {
	filters, err := s.f.Detect(ctx, req.GetHosts(), s.hosts.host(req.GetHostToken()))
	if err != nil {
		return nil, err
	}
	return &pb.DetectResponse{Filters: each(filters, filterToPB)}, nil
}

// Open implements pb.FirewallServiceServer.
func (s *firewallServer) Open(ctx context.Context, req *pb.OpenRequest) (*pb.OpenResponse, error) {
	rules, err := s.f.Open(ctx, req.GetTransferId(), each(req.GetHoles(), holeFromPB), s.hosts.host(req.GetHostToken()))
	if err != nil {
		return nil, err
	}
	return &pb.OpenResponse{Rules: each(rules, ruleToPB)}, nil
}

// Close implements pb.FirewallServiceServer.
func (s *firewallServer) Close(ctx context.Context, req *pb.CloseRequest) (*pb.CloseResponse, error) {
	return &pb.CloseResponse{}, s.f.Close(ctx, req.GetTransferId(), each(req.GetRules(), ruleFromPB), s.hosts.host(req.GetHostToken()))
}

// Sweep implements pb.FirewallServiceServer.
func (s *firewallServer) Sweep(ctx context.Context, req *pb.SweepRequest) (*pb.SweepResponse, error) {
	rules, err := s.f.Sweep(ctx, req.GetHosts(), s.hosts.host(req.GetHostToken()))
	if err != nil {
		return nil, err
	}
	return &pb.SweepResponse{Rules: each(rules, ruleToPB)}, nil
}

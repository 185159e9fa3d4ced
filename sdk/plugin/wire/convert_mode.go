package wire

import (
	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

func transferToPB(t sdk.Transfer) *pb.Transfer {
	return &pb.Transfer{Id: t.ID, Source: endpointToPB(t.Source), Targets: each(t.Targets, endpointToPB),
		Options: eachValue(t.Options, stringToPB)}
}

func transferFromPB(t *pb.Transfer) sdk.Transfer {
	return sdk.Transfer{ID: t.GetId(), Source: endpointFromPB(t.GetSource()),
		Targets: each(t.GetTargets(), endpointFromPB), Options: eachValue(t.GetOptions(), stringFromPB)}
}

func endpointToPB(e sdk.Endpoint) *pb.Endpoint {
	return &pb.Endpoint{Host: e.Host, Path: rawToPB(e.Path)}
}

func endpointFromPB(e *pb.Endpoint) sdk.Endpoint {
	return sdk.Endpoint{Host: e.GetHost(), Path: rawFromPB(e.GetPath())}
}

func questionsToPB(q sdk.HostQuestions) *pb.HostQuestions {
	return &pb.HostQuestions{Host: q.Host,
		Paths: each(q.Paths, func(p sdk.PathQuestion) *pb.PathQuestion {
			return &pb.PathQuestion{Id: p.ID, Path: rawToPB(p.Path), Count: p.Count}
		}),
		Commands: each(q.Commands, func(c sdk.CommandQuestion) *pb.CommandQuestion {
			return &pb.CommandQuestion{Id: c.ID, Command: commandToPB(c.Command)}
		})}
}

func questionsFromPB(q *pb.HostQuestions) sdk.HostQuestions {
	return sdk.HostQuestions{Host: q.GetHost(),
		Paths: each(q.GetPaths(), func(p *pb.PathQuestion) sdk.PathQuestion {
			return sdk.PathQuestion{ID: p.GetId(), Path: rawFromPB(p.GetPath()), Count: p.GetCount()}
		}),
		Commands: each(q.GetCommands(), func(c *pb.CommandQuestion) sdk.CommandQuestion {
			return sdk.CommandQuestion{ID: c.GetId(), Command: commandFromPB(c.GetCommand())}
		})}
}

func answersToPB(a sdk.Answers) *pb.Answers {
	return &pb.Answers{Host: a.Host, Paths: eachValue(a.Paths, factsToPB), Commands: eachValue(a.Commands, resultToPB)}
}

func answersFromPB(a *pb.Answers) sdk.Answers {
	return sdk.Answers{Host: a.GetHost(), Paths: eachValue(a.GetPaths(), factsFromPB), Commands: eachValue(a.GetCommands(), resultFromPB)}
}

func factsToPB(f sdk.PathFacts) *pb.PathFacts {
	return &pb.PathFacts{Exists: f.Exists, Type: string(f.Type), Size: f.Size, Mode: f.Mode, Uid: f.UID, Gid: f.GID,
		Empty: f.Empty, Writable: f.Writable, Readable: f.Readable, FreeBytes: f.FreeBytes, FreeInodes: f.FreeInodes,
		FileSystem: f.FileSystem, Entries: f.Entries, Bytes: f.Bytes, Partial: f.Partial,
		Took: durationToPB(f.Took), Error: errorToPB(f.Err)}
}

func factsFromPB(f *pb.PathFacts) sdk.PathFacts {
	return sdk.PathFacts{Exists: f.GetExists(), Type: sdk.FileType(f.GetType()), Size: f.GetSize(), Mode: f.GetMode(),
		UID: f.GetUid(), GID: f.GetGid(), Empty: f.GetEmpty(), Writable: f.GetWritable(), Readable: f.GetReadable(),
		FreeBytes: f.GetFreeBytes(), FreeInodes: f.GetFreeInodes(), FileSystem: f.GetFileSystem(),
		Entries: f.GetEntries(), Bytes: f.GetBytes(), Partial: f.GetPartial(),
		Took: durationFromPB(f.GetTook()), Err: errorFromPB(f.GetError())}
}

func findingsToPB(f sdk.Findings) *pb.Findings {
	return &pb.Findings{Bytes: f.Bytes, Entries: f.Entries, AtLeast: f.AtLeast,
		Refusals: each(f.Refusals, errorToPB), Warnings: each(f.Warnings, text), Facts: eachValue(f.Facts, stringToPB)}
}

func findingsFromPB(f *pb.Findings) sdk.Findings {
	return sdk.Findings{Bytes: f.GetBytes(), Entries: f.GetEntries(), AtLeast: f.GetAtLeast(),
		Refusals: each(f.GetRefusals(), errorFromPB), Warnings: stringsOf(f.GetWarnings()),
		Facts: eachValue(f.GetFacts(), stringFromPB)}
}

func planToPB(p sdk.Plan) *pb.Plan {
	return &pb.Plan{Read: stageToPB(p.Read), Write: stageToPB(p.Write), Targets: each(p.Targets, destinationToPB),
		Bytes: p.Bytes, Compressed: p.Compressed,
		Verify: each(p.Verify, func(v sdk.Verify) string { return string(v) }),
		Begins: p.Begins, Finishes: p.Finishes, Notes: each(p.Notes, text)}
}

func planFromPB(p *pb.Plan) sdk.Plan {
	return sdk.Plan{Read: stageFromPB(p.GetRead()), Write: stageFromPB(p.GetWrite()), Targets: each(p.GetTargets(), destinationFromPB),
		Bytes: p.GetBytes(), Compressed: p.GetCompressed(),
		Verify: each(p.GetVerify(), func(v string) sdk.Verify { return sdk.Verify(v) }),
		Begins: p.GetBegins(), Finishes: p.GetFinishes(), Notes: stringsOf(p.GetNotes())}
}

func stageToPB(s sdk.Stage) *pb.Stage {
	out := &pb.Stage{Builtin: s.Builtin, Path: rawToPB(s.Path)}
	if u := s.Unpack; u != nil {
		out.Unpack = &pb.Unpack{Strip: u.Strip, OutsideLinks: u.OutsideLinks, Proof: rawsToPB(u.Proof), ProofLine: u.ProofLine}
	}
	if c := s.Command; c != nil {
		out.Command = &pb.StageCommand{Argv: rawsToPB(c.Argv), Dir: rawToPB(c.Dir), Env: rawsToPB(c.Env), User: c.User,
			Success: &pb.Success{ExitCodes: each(c.Success.ExitCodes, clamp32),
				LastStderrLine: c.Success.LastStderrLine, EmptyStderr: c.Success.EmptyStderr},
			StopSignal: c.StopSignal, StopAfter: durationToPB(c.StopAfter), Progress: c.Progress, Redact: c.Redact, KeepLog: c.KeepLog}
	}
	return out
}

func stageFromPB(s *pb.Stage) sdk.Stage {
	out := sdk.Stage{Builtin: s.GetBuiltin(), Path: rawFromPB(s.GetPath())}
	if u := s.GetUnpack(); u != nil {
		out.Unpack = &sdk.Unpack{Strip: u.GetStrip(), OutsideLinks: u.GetOutsideLinks(), Proof: rawsFromPB(u.GetProof()), ProofLine: u.GetProofLine()}
	}
	if c := s.GetCommand(); c != nil {
		out.Command = &sdk.StageCommand{Argv: rawsFromPB(c.GetArgv()), Dir: rawFromPB(c.GetDir()), Env: rawsFromPB(c.GetEnv()),
			User: c.GetUser(),
			Success: sdk.Success{ExitCodes: each(c.GetSuccess().GetExitCodes(), func(n int32) int { return int(n) }),
				LastStderrLine: c.GetSuccess().GetLastStderrLine(), EmptyStderr: c.GetSuccess().GetEmptyStderr()},
			StopSignal: c.GetStopSignal(), StopAfter: durationFromPB(c.GetStopAfter()),
			Progress: c.GetProgress(), Redact: stringsOf(c.GetRedact()), KeepLog: c.GetKeepLog()}
	}
	return out
}

func destinationToPB(d sdk.Destination) *pb.Destination {
	return &pb.Destination{External: d.External, Dir: rawToPB(d.Dir), Publish: rawsToPB(d.Publish), MustEmpty: d.MustEmpty,
		Commit: each(d.Commit, commandToPB), Abort: each(d.Abort, commandToPB), Last: rawsToPB(d.Last)}
}

func destinationFromPB(d *pb.Destination) sdk.Destination {
	return sdk.Destination{External: d.GetExternal(), Dir: rawFromPB(d.GetDir()), Publish: rawsFromPB(d.GetPublish()),
		MustEmpty: d.GetMustEmpty(), Commit: each(d.GetCommit(), commandFromPB), Abort: each(d.GetAbort(), commandFromPB), Last: rawsFromPB(d.GetLast())}
}

func outcomeToPB(o sdk.Outcome) *pb.Outcome {
	return &pb.Outcome{Targets: each(o.Targets, func(t sdk.TargetOutcome) *pb.TargetOutcome {
		return &pb.TargetOutcome{Endpoint: endpointToPB(t.Endpoint), Committed: t.Committed, Bytes: t.Bytes,
			Files: t.Files, Error: errorToPB(t.Err)}
	})}
}

func outcomeFromPB(o *pb.Outcome) sdk.Outcome {
	return sdk.Outcome{Targets: each(o.GetTargets(), func(t *pb.TargetOutcome) sdk.TargetOutcome {
		return sdk.TargetOutcome{Endpoint: endpointFromPB(t.GetEndpoint()), Committed: t.GetCommitted(), Bytes: t.GetBytes(),
			Files: t.GetFiles(), Err: errorFromPB(t.GetError())}
	})}
}

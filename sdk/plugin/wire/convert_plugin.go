package wire

import (
	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

func descriptionToPB(d sdk.Description) *pb.Description {
	return &pb.Description{Kind: string(d.Kind), Name: d.Name, Version: d.Version, SdkVersion: d.SDKVersion,
		Summary: text(d.Summary), Fields: each(d.Fields, fieldToPB), Environment: d.Environment,
		Executor: traitsToPB(d.Executor), Tools: d.Tools}
}

func descriptionFromPB(d *pb.Description) sdk.Description {
	return sdk.Description{Kind: sdk.Kind(d.GetKind()), Name: d.GetName(), Version: d.GetVersion(),
		SDKVersion: d.GetSdkVersion(), Summary: d.GetSummary(), Fields: each(d.GetFields(), fieldFromPB),
		Environment: stringsOf(d.GetEnvironment()), Executor: traitsFromPB(d.GetExecutor()), Tools: stringsOf(d.GetTools())}
}

func fieldToPB(f sdk.Field) *pb.Field {
	return &pb.Field{Name: f.Name, Type: string(f.Type), Default: f.Default, Required: f.Required,
		Secret: f.Secret, Enum: f.Enum, Help: text(f.Help)}
}

func fieldFromPB(f *pb.Field) sdk.Field {
	return sdk.Field{Name: f.GetName(), Type: sdk.FieldType(f.GetType()), Default: f.GetDefault(),
		Required: f.GetRequired(), Secret: f.GetSecret(), Enum: stringsOf(f.GetEnum()), Help: f.GetHelp()}
}

func traitsToPB(t sdk.ExecutorTraits) *pb.ExecutorTraits {
	return &pb.ExecutorTraits{CanPut: t.CanPut, CanExpand: t.CanExpand,
		MaxCommand: int64(t.MaxCommand), MaxStdin: int64(t.MaxStdin), MaxOutput: int64(t.MaxOutput),
		MaxHosts: int64(t.MaxHosts), MaxCalls: int64(t.MaxCalls), Latency: durationToPB(t.Latency),
		MaxWait: durationToPB(t.MaxWait), PollEvery: durationToPB(t.PollEvery), Streams: t.Streams}
}

func traitsFromPB(t *pb.ExecutorTraits) sdk.ExecutorTraits {
	return sdk.ExecutorTraits{CanPut: t.GetCanPut(), CanExpand: t.GetCanExpand(),
		MaxCommand: int(t.GetMaxCommand()), MaxStdin: int(t.GetMaxStdin()), MaxOutput: int(t.GetMaxOutput()),
		MaxHosts: int(t.GetMaxHosts()), MaxCalls: int(t.GetMaxCalls()), Latency: durationFromPB(t.GetLatency()),
		MaxWait: durationFromPB(t.GetMaxWait()), PollEvery: durationFromPB(t.GetPollEvery()), Streams: t.GetStreams()}
}

func valuesToPB(v sdk.Values) map[string]*pb.ConfigValues {
	return eachValue(v, func(list []string) *pb.ConfigValues {
		return &pb.ConfigValues{Values: each(list, stringToPB)}
	})
}

func valuesFromPB(m map[string]*pb.ConfigValues) sdk.Values {
	return eachValue(m, func(v *pb.ConfigValues) []string { return each(v.GetValues(), stringFromPB) })
}

func diagnosticToPB(d sdk.Diagnostic) *pb.Diagnostic {
	return &pb.Diagnostic{Field: d.Field, Severity: string(d.Severity), Message: text(d.Message)}
}

func diagnosticFromPB(d *pb.Diagnostic) sdk.Diagnostic {
	return sdk.Diagnostic{Field: d.GetField(), Severity: sdk.Severity(d.GetSeverity()), Message: d.GetMessage()}
}

func filterToPB(f sdk.Filter) *pb.Filter {
	return &pb.Filter{Host: f.Host, Filters: f.Filters, What: text(f.What), Why: text(f.Why),
		Others: each(f.Others, barrierToPB), Error: errorToPB(f.Err)}
}

func filterFromPB(f *pb.Filter) sdk.Filter {
	return sdk.Filter{Host: f.GetHost(), Filters: f.GetFilters(), What: f.GetWhat(), Why: f.GetWhy(),
		Others: each(f.GetOthers(), barrierFromPB), Err: errorFromPB(f.GetError())}
}

func barrierToPB(b sdk.Barrier) *pb.Barrier {
	return &pb.Barrier{Hook: text(b.Hook), What: text(b.What), Firewall: text(b.Firewall)}
}

func barrierFromPB(b *pb.Barrier) sdk.Barrier {
	return sdk.Barrier{Hook: b.GetHook(), What: b.GetWhat(), Firewall: b.GetFirewall()}
}

func holeToPB(h sdk.Hole) *pb.Hole {
	return &pb.Hole{Host: h.Host, Port: uint32(max(h.Port, 0)), Sources: h.Sources, Expiry: timeToPB(h.Expiry)}
}

func holeFromPB(h *pb.Hole) sdk.Hole {
	return sdk.Hole{Host: h.GetHost(), Port: int(h.GetPort()), Sources: stringsOf(h.GetSources()), Expiry: timeFromPB(h.GetExpiry())}
}

func ruleToPB(r sdk.Rule) *pb.Rule {
	return &pb.Rule{Host: r.Host, Id: r.ID, Text: text(r.Text), Expiry: timeToPB(r.Expiry)}
}

func ruleFromPB(r *pb.Rule) sdk.Rule {
	return sdk.Rule{Host: r.GetHost(), ID: r.GetId(), Text: r.GetText(), Expiry: timeFromPB(r.GetExpiry())}
}

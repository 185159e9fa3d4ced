package wire

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/transferpy/transferpy/sdk/proto/v1"

	"github.com/transferpy/transferpy/sdk"
)

// each maps a list; an empty one becomes nil, as it does on the wire.
func each[A, B any](list []A, f func(A) B) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i, a := range list {
		out[i] = f(a)
	}
	return out
}

// eachValue maps the values of a map; an empty one becomes nil.
func eachValue[A, B any](m map[string]A, f func(A) B) map[string]B {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]B, len(m))
	for k, a := range m {
		out[k] = f(a)
	}
	return out
}

// text is s for a field that people read: what is not UTF-8 is replaced,
// since it would break the whole message.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func rawToPB(r sdk.Raw) []byte         { return []byte(r) }
func rawFromPB(b []byte) sdk.Raw       { return sdk.Raw(b) }
func stringToPB(s string) []byte       { return []byte(s) }
func stringFromPB(b []byte) string     { return string(b) }
func rawsToPB(r []sdk.Raw) [][]byte    { return each(r, rawToPB) }
func rawsFromPB(b [][]byte) []sdk.Raw  { return each(b, rawFromPB) }
func stringsOf(list []string) []string { return each(list, func(s string) string { return s }) }

// bytesOf is b, or nil when it is empty: on the wire there is no difference.
func bytesOf(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func durationToPB(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func durationFromPB(d *durationpb.Duration) time.Duration { return d.AsDuration() }

func timeToPB(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromPB(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func errorToPB(e *sdk.Error) *pb.Error {
	if e == nil {
		return nil
	}
	return &pb.Error{Kind: text(string(e.Kind)), Host: text(e.Host), Message: text(e.Message), Hint: text(e.Hint), Stderr: text(e.Stderr)}
}

func errorFromPB(e *pb.Error) *sdk.Error {
	if e == nil {
		return nil
	}
	kind := sdk.ErrorKind(e.GetKind())
	if kind == "" {
		kind = sdk.KindInternal
	}
	return &sdk.Error{Kind: kind, Host: e.GetHost(), Message: e.GetMessage(), Hint: e.GetHint(), Stderr: e.GetStderr()}
}

func commandToPB(c sdk.Command) *pb.Command {
	return &pb.Command{Argv: rawsToPB(c.Argv), Stdin: c.Stdin, Timeout: durationToPB(c.Timeout)}
}

func commandFromPB(c *pb.Command) sdk.Command {
	return sdk.Command{Argv: rawsFromPB(c.GetArgv()), Stdin: bytesOf(c.GetStdin()), Timeout: durationFromPB(c.GetTimeout())}
}

func resultToPB(r sdk.Result) *pb.Result {
	return &pb.Result{Host: r.Host, ExitCode: clamp32(r.ExitCode), Stdout: r.Stdout, Stderr: r.Stderr,
		Truncated: r.Truncated, Error: errorToPB(r.Err)}
}

func resultFromPB(r *pb.Result) sdk.Result {
	return sdk.Result{Host: r.GetHost(), ExitCode: int(r.GetExitCode()), Stdout: bytesOf(r.GetStdout()),
		Stderr: bytesOf(r.GetStderr()), Truncated: r.GetTruncated(), Err: errorFromPB(r.GetError())}
}

func fileToPB(f sdk.File) *pb.File {
	return &pb.File{Path: rawToPB(f.Path), Mode: f.Mode, Content: f.Content}
}

func fileFromPB(f *pb.File) sdk.File {
	return sdk.File{Path: rawFromPB(f.GetPath()), Mode: f.GetMode(), Content: bytesOf(f.GetContent())}
}

func hostCommandsToPB(w sdk.HostCommands) *pb.HostCommands {
	return &pb.HostCommands{Host: w.Host, Commands: each(w.Commands, commandToPB)}
}

func hostCommandsFromPB(w *pb.HostCommands) sdk.HostCommands {
	return sdk.HostCommands{Host: w.GetHost(), Commands: each(w.GetCommands(), commandFromPB)}
}

func hostChangeToPB(w sdk.HostChange) *pb.HostChange {
	return &pb.HostChange{Host: w.Host, Undo: undoToPB(w.Undo), Commands: each(w.Commands, commandToPB)}
}

func hostChangeFromPB(w *pb.HostChange) sdk.HostChange {
	return sdk.HostChange{Host: w.GetHost(), Undo: undoFromPB(w.GetUndo()), Commands: each(w.GetCommands(), commandFromPB)}
}

func hostResultsToPB(r sdk.HostResults) *pb.HostResults {
	return &pb.HostResults{Host: r.Host, Results: each(r.Results, resultToPB), Error: errorToPB(r.Err)}
}

func hostResultsFromPB(r *pb.HostResults) sdk.HostResults {
	return sdk.HostResults{Host: r.GetHost(), Results: each(r.GetResults(), resultFromPB), Err: errorFromPB(r.GetError())}
}

func undoToPB(u sdk.Undo) *pb.Undo {
	return &pb.Undo{Id: u.ID, What: text(u.What), When: string(u.When), Commands: each(u.Commands, commandToPB)}
}

func undoFromPB(u *pb.Undo) sdk.Undo {
	return sdk.Undo{ID: u.GetId(), What: u.GetWhat(), When: sdk.When(u.GetWhen()), Commands: each(u.GetCommands(), commandFromPB)}
}

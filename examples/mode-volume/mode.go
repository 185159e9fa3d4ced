package main

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

type mode struct{ storage storage }

func newMode() *mode { return &mode{} }

// Describe implements sdk.Plugin.
func (m *mode) Describe() sdk.Description {
	return sdk.Description{
		Kind: sdk.KindMode, Name: "volume", Version: "1.0.0",
		Summary: "copies volumes, named GROUP/NAME, from a snapshot",
		Fields: []sdk.Field{
			{Name: "root", Type: sdk.TypeString, Default: "/srv/volumes", Help: "the directory in which the groups lie, on every host"},
		},
	}
}

// Configure implements sdk.Plugin.
func (m *mode) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	root := v.String("root")
	if !path.IsAbs(root) {
		return []sdk.Diagnostic{{Field: "root", Severity: sdk.SeverityError, Message: "it is not absolute"}}, nil
	}
	m.storage = storage{root: path.Clean(root)}
	return nil, nil
}

// sourceID and targetID are the ids of the questions.
const sourceID = "source"

func targetID(i int) string { return "target-" + strconv.Itoa(i) }

// Questions implements sdk.Mode. What is no name of a volume is not asked
// for; Inspect refuses it.
func (m *mode) Questions(_ context.Context, t sdk.Transfer) ([]sdk.HostQuestions, error) {
	var questions []sdk.HostQuestions
	ask := func(host, id string, c sdk.Command) {
		for i := range questions {
			if questions[i].Host == host { // source and target on one host
				questions[i].Commands = append(questions[i].Commands, sdk.CommandQuestion{ID: id, Command: c})
				return
			}
		}
		questions = append(questions, sdk.HostQuestions{Host: host, Commands: []sdk.CommandQuestion{{ID: id, Command: c}}})
	}
	if v, ok := parseVolume(t.Source.Path); ok {
		ask(t.Source.Host, sourceID, m.storage.sizeOf(v))
	}
	for i, target := range t.Targets {
		if v, ok := parseVolume(target.Path); ok {
			ask(target.Host, targetID(i), m.storage.roomFor(v))
		}
	}
	return questions, nil
}

// Inspect implements sdk.Mode. All that it needs was answered by probe, so it
// asks the hosts nothing more.
func (m *mode) Inspect(_ context.Context, t sdk.Transfer, answers []sdk.Answers, _ sdk.Host) (sdk.Findings, error) {
	found := sdk.Findings{Bytes: -1, Entries: -1}
	size, refusal := m.inspectSource(t.Source, answers)
	if refusal != nil {
		found.Refusals = append(found.Refusals, refusal)
	} else {
		found.Bytes = size
	}
	for i, target := range t.Targets {
		if refusal := m.inspectTarget(target, answer(answers, target.Host, targetID(i)), found.Bytes); refusal != nil {
			found.Refusals = append(found.Refusals, refusal)
		}
	}
	return found, nil
}

// inspectSource gives the size of the source, or why it is refused.
func (m *mode) inspectSource(e sdk.Endpoint, answers []sdk.Answers) (int64, *sdk.Error) {
	if _, ok := parseVolume(e.Path); !ok {
		return 0, noVolume(e)
	}
	r := answer(answers, e.Host, sourceID)
	if r.Err != nil {
		return 0, r.Err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(r.Stdout)), 10, 64)
	if r.ExitCode != 0 || err != nil {
		return 0, refuse(sdk.KindNotFound, e, "does not exist", "see what lies below "+m.storage.root)
	}
	return size, nil
}

// inspectTarget says why a target is refused; nil if it is not.
func (m *mode) inspectTarget(e sdk.Endpoint, r sdk.Result, size int64) *sdk.Error {
	if _, ok := parseVolume(e.Path); !ok {
		return noVolume(e)
	}
	word := strings.TrimSpace(string(r.Stdout))
	free, err := strconv.ParseInt(word, 10, 64)
	switch {
	case r.Err != nil:
		return r.Err
	case word == "missing":
		return refuse(sdk.KindNotFound, e, "cannot be made: its group does not exist", "make the group first")
	case word == "taken":
		return refuse(sdk.KindExists, e, "exists already", "remove it, or choose another name")
	case err != nil || r.ExitCode != 0:
		return refuse(sdk.KindInternal, e, "cannot be asked for: "+strings.TrimSpace(string(r.Stderr)), "run it with --verbose")
	case size > free:
		return refuse(sdk.KindNoSpace, e, fmt.Sprintf("needs %d bytes, but %d are free", size, free), "free some space in its group")
	}
	return nil
}

func refuse(kind sdk.ErrorKind, e sdk.Endpoint, message, hint string) *sdk.Error {
	return &sdk.Error{Kind: kind, Host: e.Host, Message: "volume " + e.Path.Display() + " " + message, Hint: hint}
}

func noVolume(e sdk.Endpoint) *sdk.Error {
	return refuse(sdk.KindConfig, e, "is no name of a volume", "write it as GROUP/NAME")
}

// answer finds the answer to a question; one that is missing is an error.
func answer(answers []sdk.Answers, host, id string) sdk.Result {
	for _, a := range answers {
		if r, ok := a.Commands[id]; ok && a.Host == host {
			return r
		}
	}
	return sdk.Result{Err: &sdk.Error{Kind: sdk.KindUnreachable, Host: host, Message: "the host did not answer", Hint: "make sure that it is up"}}
}

// Plan implements sdk.Mode.
func (m *mode) Plan(_ context.Context, t sdk.Transfer, found sdk.Findings) (sdk.Plan, error) {
	source, ok := parseVolume(t.Source.Path)
	if !ok {
		return sdk.Plan{}, noVolume(t.Source)
	}
	plan := sdk.Plan{
		Read:     sdk.Stage{Command: m.storage.send(source, t.ID)},
		Write:    sdk.Stage{Command: m.storage.receive()},
		Bytes:    found.Bytes,
		Verify:   []sdk.Verify{sdk.VerifyStream},
		Begins:   true,
		Finishes: true,
		Notes:    []string{"reads the snapshot " + m.storage.snapshotDir(source, t.ID)},
	}
	for _, target := range t.Targets {
		v, ok := parseVolume(target.Path)
		if !ok {
			return sdk.Plan{}, noVolume(target)
		}
		plan.Targets = append(plan.Targets, sdk.Destination{
			External: true,
			Dir:      sdk.Raw(m.storage.groupDir(v)),
			Commit:   []sdk.Command{m.storage.commit(v)},
			Abort:    []sdk.Command{m.storage.abort()},
		})
	}
	return plan, nil
}

// Begin implements sdk.Mode: it makes the snapshot, and has it removed when
// nothing is read from it any more, hours before the targets have verified.
func (m *mode) Begin(ctx context.Context, t sdk.Transfer, host sdk.Host) error {
	v, ok := parseVolume(t.Source.Path)
	if !ok {
		return noVolume(t.Source)
	}
	results, err := host.Change(ctx, []sdk.HostChange{{
		Host: t.Source.Host,
		Undo: sdk.Undo{
			ID:       "volume-snapshot",
			What:     "remove the snapshot of " + t.Source.Path.Display(),
			When:     sdk.WhenSourceDone,
			Commands: []sdk.Command{m.storage.removeSnapshot(v, t.ID)},
		},
		Commands: []sdk.Command{m.storage.snapshot(v, t.ID)},
	}})
	if err != nil {
		return err
	}
	return failed(results, "the snapshot of "+t.Source.Path.Display()+" cannot be made")
}

// Finish implements sdk.Mode: the volumes have to be there.
func (m *mode) Finish(ctx context.Context, _ sdk.Transfer, outcome sdk.Outcome, host sdk.Host) error {
	var work []sdk.HostCommands
	for _, o := range outcome.Targets {
		if v, ok := parseVolume(o.Endpoint.Path); ok && o.Committed {
			work = append(work, sdk.HostCommands{Host: o.Endpoint.Host, Commands: []sdk.Command{command("test", "-d", m.storage.dir(v))}})
		}
	}
	if len(work) == 0 {
		return nil
	}
	results, err := host.Run(ctx, work)
	if err != nil {
		return err
	}
	return failed(results, "the volume is not there after its commit")
}

// failed is the first failure among results, as what could not be done.
func failed(results []sdk.HostResults, what string) error {
	for _, h := range results {
		if h.Err != nil {
			return h.Err
		}
		for _, r := range h.Results {
			if r.Err != nil {
				return r.Err
			}
			if r.ExitCode != 0 {
				return &sdk.Error{Kind: sdk.KindInternal, Host: h.Host, Message: fmt.Sprintf("%s: exit code %d", what, r.ExitCode), Stderr: string(r.Stderr)}
			}
		}
	}
	return nil
}

package transfer

import (
	"context"
	"fmt"

	"github.com/transferpy/transferpy/sdk"
)

// fakeMode is a mode whose every call a test may change.
type fakeMode struct {
	sdk.Mode
	found  sdk.Findings
	change func(*sdk.Plan)
	begin  func(context.Context, sdk.Host) error
	finish func(sdk.Outcome, sdk.Host) error
	asked  []sdk.Answers
}

func (m *fakeMode) Questions(_ context.Context, t sdk.Transfer) ([]sdk.HostQuestions, error) {
	q := []sdk.HostQuestions{{Host: t.Source.Host, Paths: []sdk.PathQuestion{{ID: "path", Path: t.Source.Path}}}}
	for _, e := range t.Targets {
		q = append(q, sdk.HostQuestions{Host: e.Host, Paths: []sdk.PathQuestion{{ID: "path", Path: e.Path}}})
	}
	return q, nil
}

func (m *fakeMode) Inspect(ctx context.Context, t sdk.Transfer, answers []sdk.Answers, host sdk.Host) (sdk.Findings, error) {
	m.asked = answers
	if _, err := host.Change(ctx, nil); err == nil {
		return sdk.Findings{}, fmt.Errorf("Change was allowed in Inspect")
	}
	return m.found, nil
}

func (m *fakeMode) Plan(_ context.Context, t sdk.Transfer, _ sdk.Findings) (sdk.Plan, error) {
	p := sdk.Plan{
		Read: sdk.Stage{Builtin: sdk.BuiltinTree, Path: t.Source.Path}, Write: sdk.Stage{Builtin: sdk.BuiltinTree, Path: "data"},
		Bytes: 1000, Verify: []sdk.Verify{sdk.VerifyDisk},
	}
	for _, e := range t.Targets {
		p.Targets = append(p.Targets, sdk.Destination{Dir: e.Path, Publish: []sdk.Raw{"data"}})
	}
	if m.change != nil {
		m.change(&p)
	}
	return p, nil
}

func (m *fakeMode) Begin(ctx context.Context, _ sdk.Transfer, host sdk.Host) error {
	return m.begin(ctx, host)
}

func (m *fakeMode) Finish(_ context.Context, _ sdk.Transfer, o sdk.Outcome, host sdk.Host) error {
	return m.finish(o, host)
}

// fakeFirewall opens each hole by one Change.
type fakeFirewall struct{ sdk.Firewall }

func (fakeFirewall) Open(ctx context.Context, id string, holes []sdk.Hole, host sdk.Host) ([]sdk.Rule, error) {
	var work []sdk.HostChange
	for _, h := range holes {
		work = append(work, sdk.HostChange{Host: h.Host,
			Undo:     sdk.Undo{ID: "fw-" + h.Host, What: "close the hole", When: sdk.WhenEnd, Commands: []sdk.Command{{Argv: []sdk.Raw{"close"}}}},
			Commands: []sdk.Command{{Argv: []sdk.Raw{"open", sdk.Raw(fmt.Sprint(h.Port, h.Sources))}}}})
	}
	_, err := host.Change(ctx, work)
	return nil, err
}

// plugins gives the fakes.
type plugins struct {
	site *site
	mode *fakeMode
}

func (p plugins) Executor(context.Context, string) (sdk.Executor, sdk.Description, error) {
	return p.site, sdk.Description{Executor: p.site.traits}, nil
}

func (p plugins) Mode(context.Context, string) (sdk.Mode, sdk.Description, error) {
	return p.mode, sdk.Description{}, nil
}

func (p plugins) Firewall(context.Context, string) (sdk.Firewall, sdk.Description, error) {
	return fakeFirewall{}, sdk.Description{}, nil
}

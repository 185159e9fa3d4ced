package transfer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
type fakeFirewall struct {
	sdk.Firewall
	name string
}

// look reads what filters on hosts.
func (f fakeFirewall) look(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.HostResults, error) {
	var work []sdk.HostCommands
	for _, h := range hosts {
		work = append(work, sdk.HostCommands{Host: h, Commands: []sdk.Command{{Argv: []sdk.Raw{"detect"}}}})
	}
	return host.Run(ctx, work)
}

func (f fakeFirewall) Detect(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Filter, error) {
	if _, err := host.Change(ctx, nil); err == nil {
		return nil, fmt.Errorf("Change was allowed in Detect")
	}
	results, err := f.look(ctx, hosts, host)
	if err != nil {
		return nil, err
	}
	var filters []sdk.Filter
	for _, r := range results {
		found := sdk.Filter{Host: r.Host, What: f.name + ": nothing", Why: "read by detect", Err: r.Err}
		if r.Err != nil {
			filters = append(filters, found)
			continue
		}
		switch by := string(r.Results[0].Stdout); {
		case by == "":
		case slices.Contains(strings.Split(by, "+"), f.name):
			found.Filters, found.What = true, f.name+": drops"
		default:
			found.Others = []sdk.Barrier{{Hook: "input", What: by + ": drops", Firewall: by}}
		}
		filters = append(filters, found)
	}
	return filters, nil
}

func (f fakeFirewall) Sweep(ctx context.Context, hosts []string, host sdk.Host) ([]sdk.Rule, error) {
	var work []sdk.HostChange
	for _, h := range hosts {
		work = append(work, sdk.HostChange{Host: h, Undo: sdk.Undo{ID: "sweep", What: "nothing", When: sdk.WhenEnd, Commands: []sdk.Command{{Argv: []sdk.Raw{"true"}}}},
			Commands: []sdk.Command{{Argv: []sdk.Raw{"sweep", sdk.Raw(f.name)}}}})
	}
	_, err := host.Change(ctx, work)
	return nil, err
}

func (f fakeFirewall) Open(ctx context.Context, id string, holes []sdk.Hole, host sdk.Host) ([]sdk.Rule, error) {
	var work []sdk.HostChange
	var rules []sdk.Rule
	var hosts []string
	for _, h := range holes {
		hosts = append(hosts, h.Host)
	}
	if _, err := f.look(ctx, hosts, host); err != nil {
		return nil, err
	}
	for _, h := range holes {
		work = append(work, sdk.HostChange{Host: h.Host,
			Undo:     sdk.Undo{ID: "fw-" + f.name + "-" + h.Host, What: "close the hole", When: sdk.WhenEnd, Commands: []sdk.Command{{Argv: []sdk.Raw{"close"}}}},
			Commands: []sdk.Command{{Argv: []sdk.Raw{"open", sdk.Raw(f.name), sdk.Raw(fmt.Sprint(h.Port, h.Sources)), sdk.Raw(fmt.Sprint(int(time.Until(h.Expiry).Minutes() + 0.5)))}}}})
		rules = append(rules, sdk.Rule{Host: h.Host, ID: "1", Text: fmt.Sprintf("%s accepts %v to %d", f.name, h.Sources, h.Port), Expiry: h.Expiry})
	}
	_, err := host.Change(ctx, work)
	return rules, err
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

func (p plugins) Firewall(_ context.Context, name string) (sdk.Firewall, sdk.Description, error) {
	return fakeFirewall{name: name}, sdk.Description{}, nil
}

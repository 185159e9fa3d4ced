// Package file is the mode that copies one regular file or one directory tree
// into an existing directory of each target, and overwrites nothing. It works
// on answers alone: it asks its questions through probe and runs nothing.
package file

import (
	"context"
	"fmt"
	"path"

	"github.com/transferpy/transferpy/plugins/modes/preflight"
	"github.com/transferpy/transferpy/sdk"
)

type mode struct{}

// New returns the mode. It has no configuration and no state.
func New() sdk.Mode { return mode{} }

// Describe implements sdk.Plugin.
func (mode) Describe() sdk.Description {
	return sdk.Description{
		Kind:    sdk.KindMode,
		Name:    "file",
		Version: sdk.Version,
		Summary: "copies a file or a directory tree into an existing directory",
		Tools:   []string{"sh", "stat", "grep"},
	}
}

// Configure implements sdk.Plugin.
func (mode) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

// paths are the endpoints' paths in the form in which they are used.
type paths struct {
	source sdk.Raw
	base   sdk.Raw   // the name that the source gets in each target directory
	dirs   []sdk.Raw // of the targets, in order
}

// entry returns what is made in the i-th target directory.
func (p *paths) entry(i int) sdk.Raw { return sdk.Raw(path.Join(string(p.dirs[i]), string(p.base))) }

// parse checks the paths as text; all that is wrong is in the one error.
func parse(t sdk.Transfer) (*paths, *sdk.Error) {
	const hint = "mode file copies HOST:/absolute/path into HOST:/existing/directory"
	source, dirs, err := preflight.Paths(t, hint)
	if source == "/" {
		nameless := fmt.Sprintf("source %s:/ has no name to give it on a target", t.Source.Host)
		if err == nil {
			err = &sdk.Error{Kind: sdk.KindConfig, Message: nameless, Hint: hint}
		} else {
			err.Message = nameless + "; " + err.Message
		}
	}
	if err != nil {
		return nil, err
	}
	return &paths{source: source, base: sdk.Raw(path.Base(string(source))), dirs: dirs}, nil
}

// The names of the questions. Those of targets end in the target's number, as
// several may be on one host.
const (
	askSource = "source"
	askLive   = "live-datadir"
)

func askDir(i int) string   { return fmt.Sprintf("dir-%d", i) }
func askEntry(i int) string { return fmt.Sprintf("entry-%d", i) }

func askLiveDir(i int) string { return fmt.Sprintf("live-datadir-%d", i) }

// Questions asks for the source, counted, and for each target's directory and
// what may be in the way there. Paths that cannot be right are an error of
// KindConfig that names them all.
func (mode) Questions(_ context.Context, t sdk.Transfer) ([]sdk.HostQuestions, error) {
	p, err := parse(t)
	if err != nil {
		return nil, err
	}
	var q preflight.Questions
	source := q.Of(t.Source.Host)
	source.Paths = append(source.Paths, sdk.PathQuestion{ID: askSource, Path: p.source, Count: true})
	source.Commands = append(source.Commands, sdk.CommandQuestion{ID: askLive, Command: liveCommand(p.source, true)})
	for i, target := range t.Targets {
		of := q.Of(target.Host)
		of.Paths = append(of.Paths,
			sdk.PathQuestion{ID: askDir(i), Path: p.dirs[i]},
			sdk.PathQuestion{ID: askEntry(i), Path: p.entry(i)})
		of.Commands = append(of.Commands, sdk.CommandQuestion{ID: askLiveDir(i), Command: liveCommand(p.dirs[i], false)})
	}
	return q.All(), nil
}

// Plan reads the tree and publishes its one top-level name in each target
// directory.
func (mode) Plan(_ context.Context, t sdk.Transfer, found sdk.Findings) (sdk.Plan, error) {
	p, err := parse(t)
	if err != nil {
		return sdk.Plan{}, err
	}
	plan := sdk.Plan{
		Read:   sdk.Stage{Builtin: sdk.BuiltinTree, Path: p.source},
		Write:  sdk.Stage{Builtin: sdk.BuiltinTree},
		Bytes:  found.Bytes,
		Verify: []sdk.Verify{sdk.VerifyDisk},
	}
	for i, target := range t.Targets {
		plan.Targets = append(plan.Targets, sdk.Destination{Dir: p.dirs[i], Publish: []sdk.Raw{p.base}})
		plan.Notes = append(plan.Notes, fmt.Sprintf("%s:%s becomes %s:%s",
			t.Source.Host, p.source.Display(), target.Host, p.entry(i).Display()))
	}
	return plan, nil
}

// Begin does nothing: Plan does not ask for it.
func (mode) Begin(context.Context, sdk.Transfer, sdk.Host) error { return nil }

// Finish does nothing: Plan does not ask for it.
func (mode) Finish(context.Context, sdk.Transfer, sdk.Outcome, sdk.Host) error { return nil }

package remote

import (
	"context"

	"github.com/transferpy/transferpy/sdk"
)

// Room is how many bytes of output the executor of a host brings back; 0 for
// a host that the fleet does not have.
func (f *Fleet) Room(name string) int {
	if h := f.hosts[name]; h != nil {
		return h.engine.traits.MaxOutput
	}
	return 0
}

// Put places content as a new file where a host's agent reads messages, and
// returns its path. The agent deletes what it has read; Withdraw the rest.
func (f *Fleet) Put(ctx context.Context, name string, content []byte) (sdk.Raw, *sdk.Error) {
	h := f.hosts[name]
	if h == nil || h.place.StateDir == "" {
		return "", &sdk.Error{Kind: sdk.KindInternal, Host: name, Message: "the host was not probed"}
	}
	var at sdk.Raw
	var failed *sdk.Error
	h.engine.putNew(ctx, []string{name}, newFile{dir: h.place.StateDir + "/in", content: content},
		func(path sdk.Raw, _ []string) { at = path }, func(_ string, err *sdk.Error) { failed = err })
	return at, failed
}

// Withdraw removes files that were put and that no agent will read. It has a
// deadline of its own, since ctx may have ended. What cannot be removed now is
// swept by a later agent.
func (f *Fleet) Withdraw(ctx context.Context, name string, paths []sdk.Raw) {
	h := f.hosts[name]
	if h == nil || len(paths) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
	defer cancel()
	const atOnce = 100 // they fit into the smallest command
	for len(paths) > 0 {
		n := min(atOnce, len(paths))
		h.engine.run(ctx, []string{name}, sdk.Command{Argv: append([]sdk.Raw{"rm", "-f", "--"}, paths[:n]...)})
		paths = paths[n:]
	}
}

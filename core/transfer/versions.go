package transfer

import (
	"context"
	"maps"
	"sync"

	"github.com/transferpy/transferpy/sdk"
)

// versions gives a transfer its plugins and notes which versions they say they
// have, for the record.
type versions struct {
	Plugins

	mu    sync.Mutex
	noted map[string]string // by "KIND/NAME"
}

// Executor implements Plugins.
func (v *versions) Executor(ctx context.Context, name string) (sdk.Executor, sdk.Description, error) {
	e, about, err := v.Plugins.Executor(ctx, name)
	v.note(sdk.KindExecutor, name, about)
	return e, about, err
}

// Mode implements Plugins.
func (v *versions) Mode(ctx context.Context, name string) (sdk.Mode, sdk.Description, error) {
	m, about, err := v.Plugins.Mode(ctx, name)
	v.note(sdk.KindMode, name, about)
	return m, about, err
}

// Firewall implements Plugins.
func (v *versions) Firewall(ctx context.Context, name string) (sdk.Firewall, sdk.Description, error) {
	f, about, err := v.Plugins.Firewall(ctx, name)
	v.note(sdk.KindFirewall, name, about)
	return f, about, err
}

func (v *versions) note(kind sdk.Kind, name string, about sdk.Description) {
	if about.Version == "" {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.noted == nil {
		v.noted = map[string]string{}
	}
	v.noted[string(kind)+"/"+name] = about.Version
}

// all are the versions noted so far and the program's own.
func (v *versions) all(program string) map[string]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string]string{"transferpy": program}
	maps.Copy(all, v.noted)
	return all
}

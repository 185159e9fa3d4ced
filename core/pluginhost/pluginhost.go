// Package pluginhost gives the core its plugins: it finds and verifies their
// files, starts them, checks their sections of the configuration, configures
// them, and stops them. How a plugin's process is run and spoken with is
// sdk/plugin/launch's; what a section may hold is sdk/plugin/fields'.
package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
	"github.com/transferpy/transferpy/sdk/plugin/launch"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

// Options of a Host.
type Options struct {
	// Dirs are where a site's plugins lie, the first ones first. Absolute;
	// one that does not exist is passed over.
	Dirs []string
	// Debug lets plugins log at level debug.
	Debug bool
	// Log takes what plugins log; nil: nowhere.
	Log hclog.Logger
	// Shadow lets a site's plugin replace a bundled one of its name.
	Shadow bool
	// Pins are the only content that a site's plugin may have: "executor/foo"
	// -> SHA-256 in hex.
	Pins map[string]string
	// Program is this program, which serves the bundled plugins; empty:
	// /proc/self/exe, which holds even when its file is replaced.
	Program string
	// Bundled gives the arguments with which Program serves a bundled plugin:
	// {"__plugin", "executor", "ssh"}; nil when it is not bundled.
	Bundled func(kind sdk.Kind, name string) []string
	// BundledNames are all bundled plugins, as "executor/ssh", for List.
	BundledNames []string
	// Config gives the raw text values of a plugin's section, key by key;
	// nil when it has none. A relative path in it is the caller's business.
	Config func(kind sdk.Kind, name string) map[string][]string
	// Warn takes what a plugin thinks of its configuration short of an error,
	// without secrets; nil: it is logged. plugin is "executor/ssh".
	Warn func(plugin string, d sdk.Diagnostic)
	// Limits are the times in which plugins must answer; zero: the defaults.
	Limits wire.Limits
}

// Host holds the plugins of a run. Its methods may be called at once.
type Host struct {
	opt Options

	open  context.Context // ends with Close, and with it every start
	close context.CancelFunc

	mu    sync.Mutex
	slots map[string]*slot // by "executor/ssh"
}

// slot is one plugin; its mutex is held while it is started.
type slot struct {
	mu   sync.Mutex
	proc *launch.Process
}

// New makes a Host; nothing is started or looked for yet.
func New(opt Options) *Host {
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	if opt.Program == "" {
		opt.Program = "/proc/self/exe"
	}
	open, end := context.WithCancel(context.Background())
	return &Host{opt: opt, open: open, close: end, slots: map[string]*slot{}}
}

// Executor gives the executor of this name: found, verified, started,
// described, its section checked, configured. A second call gives the same,
// as long as its process lives; one that has died is started again. ctx bounds
// the start only. A mistake in the configuration is of KindConfig,
// a plugin that nobody has of KindNotFound.
func (h *Host) Executor(ctx context.Context, name string) (sdk.Executor, sdk.Description, error) {
	return get(ctx, h, sdk.KindExecutor, name, (*wire.Client).Executor)
}

// Mode is Executor for a mode.
func (h *Host) Mode(ctx context.Context, name string) (sdk.Mode, sdk.Description, error) {
	return get(ctx, h, sdk.KindMode, name, (*wire.Client).Mode)
}

// Firewall is Executor for a firewall.
func (h *Host) Firewall(ctx context.Context, name string) (sdk.Firewall, sdk.Description, error) {
	return get(ctx, h, sdk.KindFirewall, name, (*wire.Client).Firewall)
}

func get[T any](ctx context.Context, h *Host, kind sdk.Kind, name string, as func(*wire.Client) (T, error)) (T, sdk.Description, error) {
	var none T
	p, err := h.configured(ctx, kind, name)
	if err != nil {
		return none, sdk.Description{}, err
	}
	t, err := as(p.Client)
	return t, p.Describe(), err
}

// configured gives the running plugin of a slot; the first call starts it, and
// the first one after its death.
func (h *Host) configured(ctx context.Context, kind sdk.Kind, name string) (*launch.Process, error) {
	s := h.slot(kind, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		select {
		case <-s.proc.Exited():
			s.proc.Stop() // it is gone; what belonged to it is not yet
			s.proc = nil
		default:
			return s.proc, nil
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.open, cancel)()
	p, err := h.start(ctx, kind, name)
	if err != nil {
		return nil, err
	}
	if err := h.configure(ctx, p); err != nil {
		p.Stop()
		return nil, err
	}
	if h.open.Err() != nil { // Close may have passed this slot already
		p.Stop()
		return nil, &sdk.Error{Kind: sdk.KindCancelled, Message: "plugin " + key(kind, name) + " is not started: the run has ended"}
	}
	s.proc = p
	return p, nil
}

// slot gives the slot of a name, which is made at its first use.
func (h *Host) slot(kind sdk.Kind, name string) *slot {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.slots[key(kind, name)]
	if s == nil {
		s = &slot{}
		h.slots[key(kind, name)] = s
	}
	return s
}

// start starts a plugin and lets it describe itself.
func (h *Host) start(ctx context.Context, kind sdk.Kind, name string) (*launch.Process, error) {
	prog, err := h.program(kind, name)
	if err != nil {
		return nil, err
	}
	if prog.File != nil {
		defer prog.File.Close()
	}
	return h.launch(ctx, kind, name, prog)
}

// launch starts prog and holds it to its name.
func (h *Host) launch(ctx context.Context, kind sdk.Kind, name string, prog launch.Program) (*launch.Process, error) {
	p, err := launch.Start(ctx, prog, launch.Options{Log: h.opt.Log, Debug: h.opt.Debug, Limits: h.opt.Limits})
	if err != nil {
		return nil, err
	}
	d, err := p.Ask(ctx)
	switch {
	case err != nil:
	case d.Kind != kind || d.Name != name:
		err = &sdk.Error{Kind: sdk.KindConfig,
			Message: fmt.Sprintf("plugin %s (%s) says that it is %s", prog.Title, prog.Path, sdk.Raw(key(d.Kind, d.Name)).Display()),
			Hint:    "give the file the name transferpy-KIND-NAME that fits what it is"}
	default:
		if wrong := fields.Validate(d); wrong != nil {
			err = &sdk.Error{Kind: sdk.KindUnsupported,
				Message: fmt.Sprintf("plugin %s (%s): %v", prog.Title, prog.Path, wrong),
				Hint:    "this is a mistake in the plugin; report it to its author"}
		}
	}
	if err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// configure checks the plugin's section and hands it over.
func (h *Host) configure(ctx context.Context, p *launch.Process) error {
	d := p.Describe()
	var raw map[string][]string
	if h.opt.Config != nil {
		raw = h.opt.Config(d.Kind, d.Name)
	}
	checked, mistakes := fields.Check(d, raw)
	if len(mistakes) > 0 {
		return join(mistakes)
	}
	p.Redact(checked.Secrets)
	env := map[string]string{}
	for _, name := range d.Environment {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	found, err := p.ConfigureWith(ctx, checked.Values, env)
	if err != nil {
		return err
	}
	for _, diag := range found {
		diag.Message = p.Text(diag.Message)
		if diag.Severity == sdk.SeverityWarning {
			h.warn(key(d.Kind, d.Name), diag)
			continue
		}
		mistakes = append(mistakes, &sdk.Error{Kind: sdk.KindConfig,
			Message: fmt.Sprintf("%s.%s: %s (%s %s)", d.Name, diag.Field, diag.Message, d.Kind, d.Name)})
	}
	return join(mistakes)
}

func (h *Host) warn(plugin string, d sdk.Diagnostic) {
	if h.opt.Warn != nil {
		h.opt.Warn(plugin, d)
		return
	}
	h.opt.Log.Warn(d.Message, "plugin", plugin, "field", d.Field)
}

// join is all mistakes as one error of KindConfig; nil if there are none.
func join(mistakes []*sdk.Error) error {
	switch len(mistakes) {
	case 0:
		return nil
	case 1:
		return mistakes[0]
	}
	var texts []string
	for _, m := range mistakes {
		texts = append(texts, m.Error())
	}
	slices.Sort(texts)
	return &sdk.Error{Kind: sdk.KindConfig, Message: strings.Join(texts, "; ")}
}

// Close stops all plugins, at once, and returns when their processes are gone,
// after 5 s at most. Later calls of Host start nothing.
func (h *Host) Close() error {
	h.close()
	h.mu.Lock()
	slots := h.slots
	h.slots = map[string]*slot{}
	h.mu.Unlock()

	var stopping sync.WaitGroup
	errs := make(chan error, len(slots))
	for name, s := range slots {
		stopping.Go(func() {
			s.mu.Lock() // a start under way has been cancelled
			defer s.mu.Unlock()
			if s.proc == nil {
				return
			}
			s.proc.Stop()
			select {
			case <-s.proc.Exited():
			default:
				errs <- fmt.Errorf("plugin %s is still there after SIGKILL", name)
			}
		})
	}
	stopping.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// key is "executor/ssh".
func key(kind sdk.Kind, name string) string { return string(kind) + "/" + name }

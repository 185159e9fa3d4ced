package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
	"github.com/transferpy/transferpy/sdk/plugin/launch"
)

// prefix begins the name of every plugin's file.
const prefix = "transferpy-"

// bundledPath is what Found.Path says of a bundled plugin.
const bundledPath = "bundled"

// Found is a plugin that can be found, and what it says of itself or why it
// was refused.
type Found struct {
	Kind        sdk.Kind
	Name        string
	Path        string // of its file, or "bundled"
	Description sdk.Description
	Err         error
}

// List gives every plugin that can be found, bundled ones first, each started
// for a moment to describe itself. Those that are refused, that are shadowed
// by another or do not work are there with their error.
func (h *Host) List(ctx context.Context) ([]Found, error) {
	var all []Found
	for _, name := range h.opt.BundledNames {
		kind, name, _ := strings.Cut(name, "/")
		all = append(all, Found{Kind: sdk.Kind(kind), Name: name, Path: bundledPath})
	}
	site, err := h.siteFiles()
	if err != nil {
		return nil, err
	}
	all = append(all, site...)

	// A few at once: each costs some 25 ms, most of them waiting.
	slots := make(chan struct{}, 4)
	var asking sync.WaitGroup
	for i := range all {
		asking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			h.ask(ctx, &all[i])
		})
	}
	asking.Wait()
	return all, nil
}

// Describe gives the plugin that Executor, Mode or Firewall would start, with
// its description; it needs no configuration.
func (h *Host) Describe(ctx context.Context, kind sdk.Kind, name string) (Found, error) {
	f := Found{Kind: kind, Name: name, Path: bundledPath}
	if path, bundled, err := h.choose(kind, name); err != nil {
		return f, err
	} else if !bundled {
		f.Path = path
	}
	h.ask(ctx, &f)
	return f, f.Err
}

// ask fills in what the plugin says of itself, or why it is refused.
func (h *Host) ask(ctx context.Context, f *Found) {
	path, bundled, err := h.choose(f.Kind, f.Name)
	switch {
	case err != nil:
		f.Err = err
		return
	case bundled && f.Path != bundledPath:
		f.Err = &sdk.Error{Kind: sdk.KindConfig, Message: f.Path + " is not used: a bundled plugin has its name",
			Hint: "give it another name, or allow it in the configuration to take the bundled one's place"}
		return
	case !bundled && f.Path == bundledPath:
		f.Err = &sdk.Error{Kind: sdk.KindConfig, Message: "the bundled plugin is not used: " + path + " takes its place"}
		return
	case !bundled && f.Path != path:
		f.Err = &sdk.Error{Kind: sdk.KindConfig, Message: f.Path + " is not used: " + path + " comes first"}
		return
	}
	p, err := h.start(ctx, f.Kind, f.Name)
	if err != nil {
		f.Err = err
		return
	}
	f.Description = p.Describe()
	p.Stop()
}

// choose says which plugin serves a name: the file of a site, or the bundled
// one.
func (h *Host) choose(kind sdk.Kind, name string) (path string, bundled bool, err error) {
	if !fields.ValidName(name) || !slices.Contains(kinds, kind) {
		return "", false, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%q is no name of a plugin of kind %q", name, kind),
			Hint: "names are lower-case letters, digits and -, at most 32"}
	}
	bundled = h.opt.Bundled != nil && h.opt.Bundled(kind, name) != nil
	if bundled && !h.opt.Shadow {
		return "", true, nil
	}
	for _, dir := range h.opt.Dirs {
		path := filepath.Join(dir, prefix+string(kind)+"-"+name)
		if _, err := os.Lstat(path); err == nil {
			return path, false, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", false, &sdk.Error{Kind: sdk.KindPermission, Message: "plugin " + key(kind, name) + ": " + err.Error()}
		}
	}
	if bundled {
		return "", true, nil
	}
	return "", false, h.missing(kind, name)
}

var kinds = []sdk.Kind{sdk.KindExecutor, sdk.KindMode, sdk.KindFirewall}

// missing says that nobody has a plugin, and what was perhaps meant.
func (h *Host) missing(kind sdk.Kind, name string) error {
	var names []string
	for _, b := range h.opt.BundledNames {
		if n, ok := strings.CutPrefix(b, string(kind)+"/"); ok {
			names = append(names, n)
		}
	}
	if site, err := h.siteFiles(); err == nil {
		for _, f := range site {
			if f.Kind == kind {
				names = append(names, f.Name)
			}
		}
	}
	hint := "there is none of this kind"
	if near := fields.Nearest(name, names); near != "" {
		hint = "did you mean " + near + "?"
	} else if len(names) > 0 {
		slices.Sort(names)
		hint = "there are " + strings.Join(slices.Compact(names), ", ")
	}
	where := "is not bundled"
	if len(h.opt.Dirs) > 0 {
		where += ", and " + prefix + string(kind) + "-" + name + " is not in " + strings.Join(h.opt.Dirs, ", ")
	}
	return &sdk.Error{Kind: sdk.KindNotFound, Message: fmt.Sprintf("%s %q %s", kind, name, where), Hint: hint}
}

// maxListed bounds the files that List looks at in one directory.
const maxListed = 10_000

// siteFiles gives the files in Dirs that are named like plugins.
func (h *Host) siteFiles() ([]Found, error) {
	var all []Found
	for _, dir := range h.opt.Dirs {
		d, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, &sdk.Error{Kind: sdk.KindPermission, Message: "plugin directory: " + err.Error()}
		}
		names, err := d.Readdirnames(maxListed)
		d.Close()
		if err != nil && len(names) == 0 {
			continue // empty
		}
		slices.Sort(names)
		for _, file := range names {
			rest, ok := strings.CutPrefix(file, prefix)
			kind, name, cut := strings.Cut(rest, "-")
			if ok && cut && slices.Contains(kinds, sdk.Kind(kind)) && fields.ValidName(name) {
				all = append(all, Found{Kind: sdk.Kind(kind), Name: name, Path: filepath.Join(dir, file)})
			}
		}
	}
	return all, nil
}

// program gives what is to be started, verified and open. The caller closes
// its File.
func (h *Host) program(kind sdk.Kind, name string) (launch.Program, error) {
	path, bundled, err := h.choose(kind, name)
	if err != nil {
		return launch.Program{}, err
	}
	if bundled {
		return launch.Program{Title: key(kind, name), Path: "transferpy", Exec: h.opt.Program, Args: h.opt.Bundled(kind, name)}, nil
	}
	file, err := openVerified(path, h.opt.Pins[key(kind, name)])
	if err != nil {
		e := *sdk.AsError(err)
		e.Message = "plugin " + key(kind, name) + " is refused: " + e.Message
		return launch.Program{}, &e
	}
	return launch.Program{Title: key(kind, name), Path: path, File: file}, nil
}

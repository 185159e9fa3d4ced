package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/transferpy/transferpy"

// goPackage is what we ask `go list` for.
type goPackage struct {
	ImportPath string
	Dir        string
	Standard   bool
	Imports    []string
	Deps       []string // all, not only direct
}

// list asks `go list` in dir for packages.
func list(t *testing.T, dir string, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Standard,Imports,Deps"}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %q: %v\n%s", args, err, stderr.String())
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// root is the module's directory.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// std reports whether an import path is the standard library's, where the
// first element has no dot.
func std(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// below reports whether an import path is one of ours at or below dir.
func below(path, dir string) bool {
	return path == module+"/"+dir || strings.HasPrefix(path, module+"/"+dir+"/")
}

// rule says what packages may import.
type rule struct {
	name string
	why  string
	// of selects the packages that the rule is for.
	of func(path string) bool
	// bad reports an import that such a package may not have.
	bad func(imported string) bool
	// all looks at all dependencies and not only at direct imports.
	all bool
}

// in selects packages at or below dirs.
func in(dirs ...string) func(string) bool {
	return func(path string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return below(path, dir) })
	}
}

// exactly selects single packages.
func exactly(packages ...string) func(string) bool {
	return func(path string) bool { return slices.Contains(packages, strings.TrimPrefix(path, module+"/")) }
}

// third reports an import that is neither the standard library's nor at or
// below one of our dirs.
func third(dirs ...string) func(string) bool {
	return func(path string) bool { return !std(path) && !in(dirs...)(path) }
}

var rules = []rule{
	{
		name: "sdk is the standard library alone",
		why:  "it is the vocabulary that every plugin links: what it imports, each author carries and has to update",
		of:   exactly("sdk"), bad: third(),
	},
	{
		name: "sdk/shell is the standard library and sdk",
		why:  "executors of other sites use the wrapper without any of our transport",
		of:   in("sdk/shell"), bad: third("sdk"),
	},
	{
		name: "sdk knows neither core nor the bundled plugins",
		why:  "an SDK that drags the core along cannot be versioned apart from it (nomad issue 5444)",
		of:   in("sdk"), bad: in("core", "plugins", "cmd", "test"), all: true,
	},
	{
		name: "plugins know the sdk and never the core",
		why:  "a bundled plugin that could reach into the core could do what no site's plugin can",
		of:   in("plugins"), bad: in("core", "cmd"), all: true,
	},
	{
		name: "only the operator's command links the bundled plugins",
		why:  "the core meets them over the wire as it meets a site's",
		of:   in("core"), bad: in("plugins", "cmd"), all: true,
	},
	{
		name: "what is copied to hosts has neither the plugins' transport nor a command-line library",
		why:  "it is placed on every host of a transfer: each megabyte is sent that often, and each library there is exposed as root",
		of:   in("cmd/transferpy-agent", "core/agent"),
		bad: func(path string) bool {
			for _, heavy := range []string{"google.golang.org/grpc", "google.golang.org/protobuf", "github.com/hashicorp/", "github.com/spf13/"} {
				if strings.HasPrefix(path, heavy) {
					return true
				}
			}
			return in("core/transfer", "core/remote", "core/journal", "core/pluginhost", "core/config", "core/agentbin", "plugins", "sdk/plugin", "sdk/proto")(path)
		},
		all: true,
	},
	{
		name: "control messages and frames are the standard library and sdk",
		why:  "they are formats between versions: nothing that changes with a library's release may decide a byte of them",
		of:   in("core/agent/control", "core/agent/frame"), bad: third("sdk"),
	},
	{
		name: "core knows nothing of command lines",
		why:  "another program can call transfer.Run",
		of:   in("core"), all: true,
		bad: func(path string) bool { return strings.HasPrefix(path, "github.com/spf13/") },
	},
	{
		name: "core/transfer reaches plugins through the sdk's interfaces",
		why:  "the engine declares what it consumes; who starts the plugins is its caller's business",
		of:   in("core/transfer", "core/remote", "core/journal"),
		bad: func(path string) bool {
			return strings.HasPrefix(path, "github.com/hashicorp/") || in("core/pluginhost", "core/config", "sdk/plugin")(path)
		},
		all: true,
	},
	{
		name: "tests' machinery stays out of what is installed",
		why:  "the lab makes namespaces and starts daemons as root",
		of:   in("cmd", "core", "plugins", "sdk"), bad: in("test"), all: true,
	},
}

func TestImports(t *testing.T) {
	packages := list(t, root(t), "./...")
	for _, r := range rules {
		seen := false
		for _, p := range packages {
			if !r.of(p.ImportPath) {
				continue
			}
			seen = true
			imports := p.Imports
			if r.all {
				imports = p.Deps
			}
			for _, imported := range imports {
				if r.bad(imported) {
					t.Errorf("%s imports %s, but %s: %s", p.ImportPath, imported, r.name, r.why)
				}
			}
		}
		if !seen {
			t.Errorf("%q is for no package: the rule is out of date", r.name)
		}
	}
}

// TestExamples holds that the examples are what a site could write: modules
// of their own that use nothing of ours but the sdk.
func TestExamples(t *testing.T) {
	mods, err := filepath.Glob(filepath.Join(root(t), "examples", "*", "go.mod"))
	if err != nil || len(mods) == 0 {
		t.Fatalf("no examples with a go.mod of their own (%v)", err)
	}
	for _, mod := range mods {
		for _, p := range list(t, filepath.Dir(mod), "./...") {
			for _, imported := range p.Imports {
				if below(imported, "sdk") || below(imported, "examples") || !strings.HasPrefix(imported, module) {
					continue
				}
				t.Errorf("%s imports %s, but an example is to be written with the sdk alone, as a site would", p.ImportPath, imported)
			}
		}
	}
}

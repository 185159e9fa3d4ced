package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines is where a file gets too long to be read in one go.
const maxLines = 450

// shapeless names say that a package has no responsibility of its own, so
// that everything ends up there.
var shapeless = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared"}

// goFile is a source file of the module.
type goFile struct {
	path      string // below the module's directory
	lines     int
	generated bool
	tree      *ast.File
}

// files parses every Go file of the module and of the examples.
func files(t *testing.T) []goFile {
	t.Helper()
	var all []goFile
	fset := token.NewFileSet()
	dir := root(t)
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && name != dir) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		all = append(all, goFile{rel, strings.Count(string(text), "\n"), ast.IsGenerated(tree), tree})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSources(t *testing.T) {
	documented := map[string]int{} // package comments by directory
	for _, f := range files(t) {
		if f.generated {
			continue
		}
		name, dir := f.tree.Name.Name, path.Dir(filepath.ToSlash(f.path))
		if f.lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: divide it by what its parts are responsible for", f.path, f.lines, maxLines)
		}
		if slices.Contains(shapeless, strings.TrimSuffix(name, "_test")) {
			t.Errorf("%s: package %s says nothing of its responsibility", f.path, name)
		}
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init: what a program does begins in its main, and a registry is a list somebody can read", f.path)
			}
		}
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		documented[dir] += 0
		if f.tree.Doc != nil {
			documented[dir]++
			begins := "Package " + name
			if name == "main" {
				begins = "Command "
			}
			if !strings.HasPrefix(f.tree.Doc.Text(), begins) {
				t.Errorf("%s: the package comment does not begin with %q", f.path, begins)
			}
		}
	}
	for dir, n := range documented {
		if n != 1 {
			t.Errorf("%s has %d package comments; exactly one file says what the package is responsible for", dir, n)
		}
	}
}

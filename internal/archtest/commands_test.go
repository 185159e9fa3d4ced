package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestCommandsAreListed holds that docs/security.md names every program that
// the code starts by name, on hosts or here: an operator who has to write down
// what may run as root reads that list, and docs/firewalls.md for the firewalls'. What
// stands within scripts, and what is put together from parts, this cannot see.
func TestCommandsAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, quoted := range regexp.MustCompile("`[^`]+`").FindAllString(string(text), -1) {
		for _, word := range strings.FieldsFunc(quoted, func(r rune) bool { return strings.ContainsRune("`| ,()", r) }) {
			named[word] = true
		}
	}
	seen := started(t)
	for _, path := range notPrograms {
		if seen[path] == nil {
			t.Errorf("%s is named nowhere any more: take it off the exceptions", path)
		}
		delete(seen, path)
	}
	if len(seen) < 6 {
		t.Errorf("only %d programs were found in the code: the search is out of date", len(seen))
	}
	for program, places := range seen {
		if !named[program] {
			t.Errorf("%s is started by %s and not in docs/security.md", program, strings.Join(places, ", "))
		}
	}
}

// notPrograms are lists of sdk.Raw that begin with something else.
var notPrograms = []string{"xtrabackup_info"}

// programName is a word that can be looked up in PATH.
var programName = regexp.MustCompile(`^[a-z][a-z0-9_.-]*$`)

// started finds the programs that are started by a name in the source: the
// first word of a list of sdk.Raw, and what is given to os/exec.
func started(t *testing.T) map[string][]string {
	t.Helper()
	seen := map[string][]string{}
	for _, dir := range []string{"cmd", "core", "plugins", "sdk"} {
		err := filepath.WalkDir(filepath.Join(root(t), dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && (d.Name() == "testdata" || d.Name() == "plugintest" || d.Name() == "treetest" || strings.HasPrefix(d.Name(), "fake")) {
				if err == nil {
					err = fs.SkipDir
				}
				return err
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if word := firstWord(n); programName.MatchString(word) {
					place := filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
					if !slices.Contains(seen[word], place) {
						seen[word] = append(seen[word], place)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return seen
}

// firstWord is the program of a command that a node makes; empty: it makes none.
func firstWord(n ast.Node) string {
	var first ast.Expr
	switch n := n.(type) {
	case *ast.CompositeLit:
		list, ok := n.Type.(*ast.ArrayType)
		if !ok || len(n.Elts) == 0 {
			return ""
		}
		of, ok := list.Elt.(*ast.SelectorExpr)
		if !ok || of.Sel.Name != "Raw" {
			return ""
		}
		first = n.Elts[0]
	case *ast.CallExpr:
		called, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			return ""
		}
		of, _ := called.X.(*ast.Ident)
		switch {
		case of == nil || of.Name != "exec" || len(n.Args) == 0:
			return ""
		case called.Sel.Name == "Command" || called.Sel.Name == "LookPath":
			first = n.Args[0]
		case called.Sel.Name == "CommandContext" && len(n.Args) > 1:
			first = n.Args[1]
		default:
			return ""
		}
	default:
		return ""
	}
	literal, ok := first.(*ast.BasicLit)
	if !ok {
		return ""
	}
	word, err := strconv.Unquote(literal.Value)
	if err != nil {
		return ""
	}
	return word
}

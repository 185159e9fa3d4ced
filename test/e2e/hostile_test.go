package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/test/lab"
)

// hostile are names that have broken programs like ours: each is used as a
// file's name, as the source's and as the target directory's.
var hostile = []struct{ what, name string }{
	{"blanks", " two  blanks "},
	{"newline", "new\nline\n"},
	{"carriage return and tab", "a\r\tb"},
	{"single quote", "it's"},
	{"double quote", `say "hi"`},
	{"backslashes", `back\slash\n\`},
	{"dollar and backquote", "$HOME`id`$(id)"},
	{"operators", "a;b&c|d>e<f"},
	{"globs", "*?[a]{b,c}~"},
	{"leading dash", "-rf"},
	{"two dashes", "--"},
	{"leading dot", ".hidden"},
	{"three dots", "..."},
	{"percent", "%s%n%00"},
	{"braces of ours", "{staging}"},
	{"colon and slash's neighbour", "db3:x"},
	{"hash and bang", "#!x"},
	{"invalid UTF-8", "\xff\xfe\x80bytes\xc3"},
	{"terminal's escape", "\x1b[31mred\x07"},
	{"not ASCII", "größe-数据"},
	{"255 bytes", long},
	{"255 bytes that are no text", string(repeat('\xfe', 255))},
}

func repeat(b byte, n int) []byte {
	all := make([]byte, n)
	for i := range all {
		all[i] = b
	}
	return all
}

// TestHostileFileNames copies a tree that holds all of them, as files, as
// directories and as targets of links.
func TestHostileFileNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Hosts: 2})
	tree := []entry{{kind: 'd', mode: 0o755}}
	for i, h := range hostile {
		tree = append(tree,
			entry{path: h.name, kind: 'd', mode: 0o755},
			entry{path: h.name + "/" + h.name, kind: 'f', size: 100 + i, mode: 0o644},
			entry{path: fmt.Sprintf("link-%d", i), kind: 'l', link: h.name + "/" + h.name})
	}
	r.makeTree("db1", "/srv/tree", tree)
	r.sh("db2", "mkdir /srv/in")
	r.transferpy(0, "db1:/srv/tree", "db2:/srv/in")
	r.same("db1", "/srv/tree", "db2", "/srv/in/tree")
	r.clean()
}

// TestReservedName: what is named like a staging directory cannot be published,
// so it is refused before anything is done; inside a tree, and as a directory
// to copy into, it is a name as any other.
func TestReservedName(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Hosts: 2})
	const name = "/srv/.transferpy-x"
	tree := []entry{{kind: 'd', mode: 0o755}, {path: "f", kind: 'f', size: 10, mode: 0o600}}
	r.makeTree("db1", name, tree)
	r.makeTree("db1", "/srv/tree"+strings.TrimPrefix(name, "/srv"), tree)
	r.sh("db2", "mkdir /srv/in "+name)
	r.transferpy(0, "db1:/srv/tree", "db2:"+name)
	r.same("db1", "/srv/tree", "db2", name+"/tree")
	r.clean()
	res := r.transferpy(255, "db1:"+name, "db2:/srv/in")
	if !strings.Contains(res.said(), ".transferpy-x") {
		t.Errorf("what it says does not give the name:\n%s", res.said())
	}
	r.empty("db2")
	r.clean()
}

// TestHostilePaths uses each name as the source's base name and as the target
// directory: a file into a directory of that name.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Hosts: 2})
	for _, h := range hostile {
		t.Run(h.what, func(t *testing.T) {
			r := &rig{Lab: r.Lab, t: t}
			r.makeTree("db1", "/srv/"+h.name, []entry{{kind: 'd', mode: 0o750}, {path: "f", kind: 'f', size: 10, mode: 0o600}})
			if err := os.Mkdir(r.path("db2", "/srv/"+h.name), 0o755); err != nil {
				t.Fatal(err)
			}
			r.transferpy(0, "db1:/srv/"+h.name, "db2:/srv/"+h.name)
			r.same("db1", "/srv/"+h.name, "db2", "/srv/"+h.name+"/"+h.name)
			// Nothing may have landed beside it, by a name cut short or expanded.
			for _, dir := range []string{"/", "/root", "/srv/" + h.name} {
				entries, err := os.ReadDir(r.path("db2", dir))
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if !expected[filepath.Join(dir, e.Name())] && (dir != "/srv/"+h.name || e.Name() != h.name) {
						t.Errorf("there is %q in %s of db2", e.Name(), dir)
					}
				}
			}
		})
	}
	r.clean()
}

// expected is what / and /root hold on a lab host.
var expected = map[string]bool{
	"/bin": true, "/dev": true, "/etc": true, "/home": true, "/lib": true, "/lib32": true, "/lib64": true,
	"/libx32": true, "/mnt": true, "/opt": true, "/proc": true, "/root": true, "/run": true, "/sbin": true,
	"/srv": true, "/sys": true, "/tmp": true, "/usr": true, "/var": true,
	"/root/.ssh": true, "/root/.cache": true,
}

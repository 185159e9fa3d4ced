package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/test/lab"
)

// always is more often than any transfer writes a block.
const always = 1 << 20

// fromMemory is said where no file system can be asked past its cache.
const fromMemory = "read-back came from memory"

// marked are files of db1:/srv/data with a block that begins with a mark: one
// that shares its frame with others and is read back when all has come, and
// one of many pieces, which are read back while more comes.
var marked = []struct {
	path string
	size int
	at   int64
}{{"sub/few", 40_000, 4096}, {"sub/many", 9<<20 + 77, 5<<20 + 8192}}

// forging is a lab whose db2 has a bad disk at /srv/disk.
type forging struct {
	*rig
	disk *badDisk
}

// TestForgingDisk: what the target's disk holds is not what was written to it,
// beneath the page cache, which still has the right bytes. Only a read-back
// that asks the disk finds it, and it names the file.
func TestForgingDisk(t *testing.T) {
	t.Parallel()
	f := forging{newRig(t, lab.Options{Hosts: 3}), newBadDisk(t, 128<<20)}
	f.sh("db2", "mkdir /srv/disk && mount -t ext4 "+f.disk.device+" /srv/disk && mkdir /srv/disk/in")
	defer f.sh("db2", "umount /srv/disk") // before the disk ends
	f.sh("db3", "mkdir /srv/in")
	f.makeMarked()
	run := func(name string, test func(forging)) {
		t.Run(name, func(t *testing.T) {
			defer f.sh("db2", "rm -rf /srv/disk/in/data")
			defer f.sh("db3", "rm -rf /srv/in/data")
			test(forging{&rig{Lab: f.Lab, t: t}, f.disk})
		})
	}
	run("sound", forging.sound)
	for _, m := range marked {
		run("once in "+m.path, func(f forging) { f.once(m.path) })
		run("always in "+m.path, func(f forging) { f.always(m.path) })
	}
	f.disk.forged()
	f.clean()
}

// mark is the mark of a file.
func mark(path string) []byte { return content("mark of "+path, 64) }

// makeMarked makes the tree.
func (f forging) makeMarked() {
	tree := []entry{{kind: 'd', mode: 0o755}, {path: "other", kind: 'f', size: 3 << 20, mode: 0o644}}
	for _, m := range marked {
		tree = append(tree, entry{path: m.path, kind: 'f', size: m.size, mode: 0o644})
	}
	f.makeTree("db1", "/srv/data", tree)
	for _, m := range marked {
		file, err := os.OpenFile(f.path("db1", "/srv/data/"+m.path), os.O_WRONLY, 0)
		if err != nil {
			f.t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteAt(mark(m.path), m.at); err != nil {
			f.t.Fatal(err)
		}
	}
}

// sound holds that the disk is one: nobody says that it is memory.
func (f forging) sound() {
	res := f.transferpy(0, "db1:/srv/data", "db2:/srv/disk/in")
	f.same("db1", "/srv/data", "db2", "/srv/disk/in/data")
	if strings.Contains(res.said(), fromMemory) {
		f.t.Errorf("a disk is said to be memory:\n%s", res.said())
	}
}

// once: what was forged once is found, sent again, and told.
func (f forging) once(path string) {
	f.disk.forge(mark(path), 1)
	j := f.start(nil, "db1:/srv/data", "db2:/srv/disk/in")
	res := j.wants(0)
	if n := f.disk.forged(); n != 1 {
		f.t.Fatalf("the disk has forged %d bytes\n%s", n, j.transcript())
	}
	f.same("db1", "/srv/data", "db2", "/srv/disk/in/data")
	if !regexp.MustCompile(`warning: .*read back.*` + regexp.QuoteMeta(path)).MatchString(res.said()) {
		f.t.Errorf("no warning names %s\n%s", path, j.transcript())
	}
}

// always: exit code 3 and the name. The target behind gets a good copy all the
// same; its file system lives in memory, and that is said.
func (f forging) always(path string) {
	f.disk.forge(mark(path), always)
	j := f.start(nil, "--output", "json", "db1:/srv/data", "db2:/srv/disk/in", "db3:/srv/in")
	res := j.wants(3)
	if f.disk.forged() == 0 {
		f.t.Fatalf("the disk has forged nothing\n%s", j.transcript())
	}
	list, err := events(res.stdout)
	if err != nil || len(list) == 0 || len(list[len(list)-1].Targets) != 2 {
		f.t.Fatalf("%v\n%s", err, j.transcript())
	}
	targets := list[len(list)-1].Targets
	if bad := targets[0]; bad.ExitCode != 3 || bad.Error == nil || bad.Error.Kind != "integrity" || !strings.Contains(bad.Error.Message, path) {
		f.t.Errorf("db2 ends with %+v, want 3 and the name of %s", bad, path)
	}
	f.nothing()
	if sound := targets[1]; sound.ExitCode != 0 {
		f.t.Errorf("db3 ends with %+v, want 0", sound)
	}
	f.same("db1", "/srv/data", "db3", "/srv/in/data")
	if !strings.Contains(res.said(), fromMemory) {
		f.t.Errorf("db3's /srv is in memory, and nobody says that the read-back was:\n%s", res.said())
	}
}

// nothing holds that nothing is published on the bad disk.
func (f forging) nothing() {
	f.t.Helper()
	if got := f.sh("db2", "ls -A /srv/disk/in"); got != "" {
		f.t.Errorf("db2:/srv/disk/in holds %q", got)
	}
}

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/test/lab"
)

// always is more often than any transfer writes a block.
const always = 1 << 20

// fromMemory is said where no file system can be asked past its cache.
const fromMemory = "read-back came from memory"

// TestForgingDisk: what the target's disk holds is not what was written to it,
// beneath the page cache, which still has the right bytes. Only a read-back
// that asks the disk finds it, and it names the file.
func TestForgingDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Hosts: 3})
	disk := newBadDisk(t, 128<<20)
	r.sh("db2", "mkdir /srv/disk && mount -t ext4 "+disk.device+" /srv/disk && mkdir /srv/disk/in")
	defer r.sh("db2", "umount /srv/disk") // before the disk ends
	r.sh("db3", "mkdir /srv/in")

	// Blocks that begin with a mark: in a file that shares its frame with
	// others, and in the middle of one of many pieces.
	few, many := content("few", 64), content("many", 64)
	r.makeTree("db1", "/srv/data", []entry{{kind: 'd', mode: 0o755}, {path: "sub/few", kind: 'f', size: 40_000, mode: 0o644},
		{path: "sub/many", kind: 'f', size: 9<<20 + 77, mode: 0o644}, {path: "other", kind: 'f', size: 3 << 20, mode: 0o644}})
	for _, m := range []struct {
		path string
		mark []byte
		at   int64
	}{{"sub/few", few, 4096}, {"sub/many", many, 5<<20 + 8192}} {
		f, err := os.OpenFile(r.path("db1", "/srv/data/"+m.path), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(m.mark, m.at); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	again := func() { r.sh("db2", "rm -rf /srv/disk/in/data"); r.sh("db3", "rm -rf /srv/in/data") }

	t.Run("sound", func(t *testing.T) {
		r := &rig{Lab: r.Lab, t: t}
		res := r.transferpy(0, "db1:/srv/data", "db2:/srv/disk/in")
		r.same("db1", "/srv/data", "db2", "/srv/disk/in/data")
		if strings.Contains(res.said(), fromMemory) {
			t.Errorf("a disk is said to be memory:\n%s", res.said())
		}
		again()
	})
	for path, mark := range map[string][]byte{"sub/few": few, "sub/many": many} {
		t.Run("once in "+path, func(t *testing.T) {
			r := &rig{Lab: r.Lab, t: t}
			disk.forge(mark, 1)
			j := r.start(nil, "db1:/srv/data", "db2:/srv/disk/in")
			res := j.wait()
			if disk.forged() != 1 {
				t.Fatalf("the disk has forged nothing\n%s", j.transcript())
			}
			if !strings.Contains(res.said(), path) {
				t.Errorf("%s is not named\n%s", path, j.transcript())
			}
			switch res.code {
			case 0:
				r.same("db1", "/srv/data", "db2", "/srv/disk/in/data")
			default:
				t.Errorf("exit code %d, want 0: it can be read again\n%s", res.code, j.transcript())
			case 3:
			}
			again()
		})
		t.Run("always in "+path, func(t *testing.T) {
			r := &rig{Lab: r.Lab, t: t}
			disk.forge(mark, always)
			j := r.start(nil, "--output", "json", "db1:/srv/data", "db2:/srv/disk/in", "db3:/srv/in")
			res := j.wants(3)
			if disk.forged() == 0 {
				t.Fatalf("the disk has forged nothing\n%s", j.transcript())
			}
			list, err := events(res.stdout)
			if err != nil || len(list) == 0 {
				t.Fatalf("no events: %v", err)
			}
			for _, target := range list[len(list)-1].Targets {
				bad := target.Host == "db2"
				if want := map[bool]int{true: 3}[bad]; target.ExitCode != want {
					t.Errorf("%s ends with %d, want %d", target.Host, target.ExitCode, want)
				}
				if bad && (target.Error == nil || target.Error.Kind != "integrity" || !strings.Contains(target.Error.Message, path)) {
					t.Errorf("%s says %+v, want %s to be named", target.Host, target.Error, path)
				}
			}
			if got := r.sh("db2", "ls -A /srv/disk/in"); got != "" {
				t.Errorf("db2:/srv/disk/in holds %q", got)
			}
			r.same("db1", "/srv/data", "db3", "/srv/in/data")
			if !strings.Contains(res.said(), fromMemory) {
				t.Errorf("db3's /srv is a tmpfs, and nobody says that it was read from memory:\n%s", res.said())
			}
			again()
		})
	}
	disk.forged()
	r.clean()
}

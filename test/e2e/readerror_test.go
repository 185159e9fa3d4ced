package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/test/lab"
)

// TestSourceReadError: a block of the source's disk cannot be read any more, in
// the middle of a large file in the middle of the tree. The transfer fails with
// the host, the path and the disk's own error; nothing is published, nothing is
// left, and the source is as it was.
func TestSourceReadError(t *testing.T) {
	t.Parallel()
	r, disk := newRig(t, lab.Options{Hosts: 2}), newBadDisk(t, 96<<20)
	r.sh("db1", "mkdir /srv/disk && mount -t ext4 "+disk.device+" /srv/disk")
	defer r.sh("db1", "umount /srv/disk") // before the disk ends
	r.sh("db2", "mkdir /srv/in")
	r.makeTree("db1", "/srv/disk/data", append(bulk(20), entry{path: "file-010-large", kind: 'f', size: 9 << 20, mode: 0o644}))
	file, err := os.OpenFile(r.path("db1", "/srv/disk/data/file-010-large"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(mark("read error"), 4<<20+4096); err != nil {
		t.Fatal(err)
	}
	file.Close()
	before := r.fingerprint("db1", "/srv/disk/data")
	r.sh("db1", "umount /srv/disk && mount -t ext4 "+disk.device+" /srv/disk") // nothing of it is cached
	disk.fail(mark("read error"))
	j := r.start(nil, "--limit-rate", "10M", "db1:/srv/disk/data", "db2:/srv/in")
	j.moving("db2", "/srv/in")
	res := j.wants(1)
	if n := disk.forged(); n == 0 {
		t.Error("the bad block was never asked for")
	}
	for _, want := range []string{"db1", "file-010-large", "input/output error"} {
		if !strings.Contains(res.said(), want) {
			t.Errorf("it does not say %q:\n%s", want, res.said())
		}
	}
	r.empty("db2")
	r.clean()
	if after := r.fingerprint("db1", "/srv/disk/data"); after != before {
		t.Errorf("the source has changed:\n%s\nbefore:\n%s", after, before)
	}
	r.transferpy(0, "db1:/srv/disk/data", "db2:/srv/in")
	r.same("db1", "/srv/disk/data", "db2", "/srv/in/data")
	r.clean()
}

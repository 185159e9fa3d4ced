package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// TestRelayWithBadMemory: bytes that change in the memory of a target, between
// their coming and their being passed on, are found by the next one, which names
// the file, with encryption and without, and whether its disk is read back or not.
func TestRelayWithBadMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t, lab.Options{Hosts: 3})
	r.makeTree("db1", "/srv/data", []entry{{kind: 'd', mode: 0o755}, {path: "large", kind: 'f', size: 48 << 20, mode: 0o644}})
	mark := content("mark of large", 64)
	f, err := os.OpenFile(r.path("db1", "/srv/data/large"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < 48<<20; at += 256 << 10 {
		if _, err := f.WriteAt(mark, at); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	r.sh("db2", "mkdir /srv/in")
	r.sh("db3", "mkdir /srv/in")
	if err := r.Cap("db3", "16mbit"); err != nil { // so that frames wait in db2's memory
		t.Fatal(err)
	}
	for _, options := range [][]string{{"--encrypt", "--checksum"}, {"--no-encrypt", "--no-checksum"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			r := &rig{Lab: r.Lab, t: t}
			args := append([]string{"--no-compress", "--limit-rate", "8M", "--slow-target", "wait", "--output", "json"}, options...)
			j := r.start(nil, append(args, "db1:/srv/data", "db2:/srv/in", "db3:/srv/in")...)
			j.moving("db2", "/srv/in")
			altered := 0
			for deadline := time.Now().Add(patience); !j.ended() && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) { // more and more wait to be sent
				for _, p := range r.agents("db2") {
					altered += alterMemory(p.PID, mark)
				}
			}
			if altered == 0 {
				t.Fatalf("there is nothing to alter in db2's memory\n%s", j.transcript())
			}
			t.Logf("%d marks were altered", altered)
			res := j.wants(3)
			list, err := events(res.stdout)
			if err != nil || len(list) == 0 || len(list[len(list)-1].Targets) != 2 {
				t.Fatalf("%v\n%s", err, j.transcript())
			}
			if bad := list[len(list)-1].Targets[1]; bad.ExitCode != 3 || bad.Error == nil || bad.Error.Kind != "integrity" || !strings.Contains(bad.Error.Message, "data/large") {
				t.Errorf("db3 ends with %+v %+v, want 3 and the name of the file", bad, bad.Error)
			}
			r.empty("db3")
			if list[len(list)-1].Targets[0].ExitCode == 0 {
				r.same("db1", "/srv/data", "db2", "/srv/in/data")
			}
			r.sh("db2", "rm -rf /srv/in/data")
			r.clean()
		})
	}
}

// alterMemory alters one byte at every place of a process's memory where mark
// stands, and returns how many there were.
func alterMemory(pid int, mark []byte) int {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0 // it has ended
	}
	defer maps.Close()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer mem.Close()
	altered := 0
	buf := make([]byte, 4<<20)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n < 3 || !strings.HasPrefix(mode, "rw-p") {
			continue
		}
		for ; from < to; from += int64(len(buf) - len(mark)) {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
			for at := 0; at < n; at += len(mark) {
				i := bytes.Index(buf[at:n], mark)
				if i < 0 {
					break
				}
				at += i
				if _, err := mem.WriteAt([]byte{mark[40] ^ 4}, from+int64(at)+40); err == nil {
					altered++
				}
			}
		}
	}
	return altered
}

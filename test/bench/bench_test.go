package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

func TestTicksOfAProcessWithABadName(t *testing.T) {
	line := "42 (a) b (c) S 1 42 42 0 -1 4194560 100 200 0 0 7 11 13 17 20 0 1 0 1000 0 0"
	if got, err := statTicks([]byte(line)); err != nil || got != 7+11+13+17 {
		t.Errorf("statTicks = %d, %v", got, err)
	}
	for _, bad := range []string{"", "42 (x) S 1", strings.Replace(line, " 7 ", " x ", 1)} {
		if _, err := statTicks([]byte(bad)); err == nil {
			t.Errorf("statTicks(%q) found something", bad)
		}
	}
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statTicks(own); err != nil {
		t.Error(err)
	}
}

func TestCountersOfTheKernel(t *testing.T) {
	dev := "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n" +
		"    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36\n"
	if got, err := interfaceSent(dev, "eth0"); err != nil || got != 29 {
		t.Errorf("interfaceSent = %d, %v", got, err)
	}
	if _, err := interfaceSent(dev, "eth1"); err == nil {
		t.Error("found an interface that is not there")
	}
	tc := "qdisc tbf 8001: root refcnt 2 rate 200Mbit burst 64Kb lat 50ms\n Sent 4711 bytes 12 pkt (dropped 0, overlimits 0 requeues 0)\n"
	if got, err := qdiscSent(tc); err != nil || got != 4711 {
		t.Errorf("qdiscSent = %d, %v", got, err)
	}
	if _, err := qdiscSent("qdisc noqueue"); err == nil {
		t.Error("found a count that is not there")
	}
}

// runsOf makes runs that took so many seconds.
func runsOf(seconds ...float64) []run {
	var runs []run
	for _, s := range seconds {
		runs = append(runs, run{wall: time.Duration(s * float64(time.Second)), wire: int64(s * 1e8), source: time.Duration(s * float64(time.Second))})
	}
	return runs
}

// measured is a result in which contenders took so many seconds.
func measured(c testCase, fixed float64, took map[string][]float64) *result {
	r := &result{testCase: c, size: size{1, 1e9}, fixed: entry{runs: runsOf(fixed)}}
	for _, p := range c.contenders {
		r.entries = append(r.entries, entry{contender: p, runs: runsOf(took[p.name]...)})
	}
	return r
}

func TestMarks(t *testing.T) {
	byName := map[string]testCase{}
	for _, c := range cases() {
		byName[c.name] = c
	}
	results := []*result{
		measured(byName["innodb-tmpfs"], 0.5, map[string][]float64{oursPlain: {9, 2.5, 1.5}, oursDefault: {3}, peerNC: {4, 4, 5}}),
		measured(byName["innodb-200mbit"], 0.5, map[string][]float64{oursDefault: {21}, peerZstd: {20}}),
		measured(byName["fan-200mbit"], 0.5, map[string][]float64{oursDefault: {40}, oursChain: {41}, oursEight: {50}}),
		measured(byName["fan-tmpfs"], 0.5, map[string][]float64{oursDefault: {2}, oursFour: {5}}),
	}
	want := map[string]string{
		"InnoDB directory, `--no-compress`":             "| 0.45 | 0.50 | 0.50 | **not reached** |",
		"InnoDB directory, default codec":               "| 0.60 | 0.62 | 0.62 | **not reached** |",
		"InnoDB directory, defaults":                    "| 0.35 | - | - | not measured |", // rsync has no run
		"4 GB incompressible file, defaults":            "| 0.50 | - | - | not measured |",
		"200 Mbit/s: bytes":                             "| 1.03 | 1.05 | - | **not reached** |",
		"200 Mbit/s: time, against what the bytes need": "| 1.06 | 0.25 | - | reached |",
		"two targets at 200 Mbit/s":                     "| 1.05 | 1.02 | - | reached |",
		"four targets at 200 Mbit/s":                    "| 1.10 | - | - | not measured |",
		"eight targets at 200 Mbit/s":                   "| 1.20 | 1.25 | - | **not reached** |",
		// Three seconds more for three more, where receiving takes none and
		// passing on may take 0.12 for the 0.2 GB.
		"CPU of each further target of four": "| 1.00 | 8.33 | - | **not reached** |",
	}
	for _, m := range marks() {
		c, known := byName[m.testCase]
		if !known {
			t.Fatalf("the mark %q is about case %q, which does not exist", m.what, m.testCase)
		}
		names := ""
		for _, p := range c.contenders {
			names += p.name + "\n"
		}
		for _, name := range []string{m.ours, m.peer} {
			if name != "" && !strings.Contains(names, name+"\n") {
				t.Errorf("the mark %q needs %q, which does not run in %s", m.what, name, m.testCase)
			}
		}
		if line := m.verdict(results); want[m.what] != "" && !strings.HasSuffix(line, want[m.what]) {
			t.Errorf("%s: %s, want %s", m.what, line, want[m.what])
		}
	}
}

func TestLargestAgent(t *testing.T) {
	r := &result{entries: []entry{{runs: []run{{sourcePeak: 10 << 20, targetPeak: 64 << 20}, {sourcePeak: 32 << 20}}}, {runs: []run{{relayPeak: 128 << 20}}}}}
	if got := largestAgent(r, nil, nil); got != 0.5 {
		t.Errorf("the largest agent takes %.2f of what it may, want 0.50", got)
	}
	var one run
	one.peaks(targetHosts(2), map[string]int64{sourceHost: 1, "db2": 2, "db3": 3})
	if one.sourcePeak != 1 || one.relayPeak != 2 || one.targetPeak != 3 {
		t.Errorf("peaks of a chain: %+v", one)
	}
	one.peaks([]string{targetHost}, map[string]int64{sourceHost: 4, targetHost: 5})
	if one.sourcePeak != 4 || one.targetPeak != 5 {
		t.Errorf("peaks without a relay: %+v", one)
	}
}

func TestSharesOfAProfile(t *testing.T) {
	got := shares(`File: transferpy-agent
Type: cpu
Duration: 859.45ms, Total samples = 660ms (76.79%)
-----------+-------------------------------------------------------
     170ms   internal/runtime/syscall/linux.Syscall6
             syscall.RawSyscall6
             syscall.Pwrite (inline)
             os.(*File).WriteAt
             github.com/transferpy/transferpy/core/agent.(*incoming).put
-----------+-------------------------------------------------------
      10ms   internal/runtime/syscall/linux.Syscall6
             internal/poll.(*FD).Write
             net.(*conn).Write
             crypto/tls.(*Conn).Write
             sync.(*WaitGroup).Go.func1
-----------+-------------------------------------------------------
     1.20s   lukechampine.com/blake3/guts.compressChunksAVX512
             github.com/transferpy/transferpy/core/agent/digest.fullSubtree
-----------+-------------------------------------------------------
      20ms   runtime.memmove
             crypto/tls.(*Conn).Read
-----------+-------------------------------------------------------
      30ms   crypto/internal/fips140/aes/gcm.gcmAesEnc
             crypto/tls.(*Conn).Write
-----------+-------------------------------------------------------
      10ms   runtime.futex
             runtime.notewakeup
-----------+-------------------------------------------------------
      40ms   github.com/transferpy/transferpy/core/agent.claimOf (inline)
-----------+-------------------------------------------------------
`)
	want := map[string]time.Duration{"write files": 170 * time.Millisecond, "send": 10 * time.Millisecond, "hash": 1200 * time.Millisecond,
		"copy in memory": 20 * time.Millisecond, "cipher": 30 * time.Millisecond, "scheduler": 10 * time.Millisecond, rest: 40 * time.Millisecond}
	if !maps.Equal(got, want) {
		t.Errorf("shares %v, want %v", got, want)
	}
	var table strings.Builder
	if err := writeShares(&table, []string{"db1", "db2"}, []map[string]time.Duration{got, {"hash": time.Second}}); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(table.String(), "\n"); len(lines) != 2+len(want)+1 || !strings.Contains(lines[1], "hash  1.20  81 %  1.00  100 %") {
		t.Errorf("the table is\n%s", table.String())
	}
}

func TestChooseByName(t *testing.T) {
	got, err := choose(cases(), "sparse-disk,small-tmpfs")
	if err != nil || len(got) != 2 || got[0].name != "sparse-disk" {
		t.Errorf("choose = %v, %v", got, err)
	}
	if _, err := choose(cases(), "small"); err == nil {
		t.Error("a case was found by half its name")
	}
}

func TestThePageKeepsTheNotes(t *testing.T) {
	o := &options{rounds: 3, scale: 1, out: filepath.Join(t.TempDir(), "page.md")}
	if err := os.WriteFile(o.out, []byte("# Old\n"+notes+"\nBy hand.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := measured(cases()[0], 0.5, map[string][]float64{oursDefault: {1, 2, 3}, peerNC: {4}})
	r.entries[1].failed = errors.New("broke later")
	for range 2 {
		var shown strings.Builder
		if err := o.publish(t.Context(), []*result{r}, &shown); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(o.out)
		if err != nil {
			t.Fatal(err)
		}
		page := string(text)
		if strings.Contains(page, "# Old") || !strings.HasSuffix(page, notes+"\nBy hand.\n") || strings.Count(page, notes) != 1 {
			t.Errorf("the page is not the new one with the old notes:\n%s", page)
		}
		for _, part := range []string{"| `transferpy` | 2.00 (1.00-3.00) |", "| `tar \\| nc \\| tar` | 4.00 |", "| 0.38 (0.38) |", shown.String()} {
			if !strings.Contains(page, part) {
				t.Errorf("the page lacks %q:\n%s", part, page)
			}
		}
	}
}

func TestData(t *testing.T) {
	for _, c := range []struct {
		data dataset
		want size
	}{
		{dataset{small, 1500}, size{files: 1500}},
		{dataset{large, 3<<20 + 5}, size{1, 3<<20 + 5}},
		{dataset{sparse, 1 << 30}, size{1, 1 << 30}},
	} {
		var held []size
		for range 2 {
			dir := filepath.Join(t.TempDir(), "data")
			if err := c.data.make(t.Context(), dir, ""); err != nil {
				t.Fatal(err)
			}
			got, err := measure(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := evict(dir); err != nil {
				t.Error(err)
			}
			held = append(held, got)
		}
		if held[0] != held[1] {
			t.Errorf("%s: %v the first time, then %v", c.data.kind, held[0], held[1])
		}
		if held[0].files != c.want.files || c.want.bytes > 0 && held[0].bytes != c.want.bytes {
			t.Errorf("%s: %v, want %v", c.data.kind, held[0], c.want)
		}
	}
}

func TestRowsAreTheSameEachTime(t *testing.T) {
	var texts []string
	for _, table := range []int{1, 1, 2} {
		path := filepath.Join(t.TempDir(), "rows")
		if err := writeRows(path, table, 50); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	if texts[0] != texts[1] || texts[0] == texts[2] || strings.Count(texts[0], "\n") != 50 || strings.Count(texts[0], "\t") != 250 {
		t.Errorf("rows are not rows, or not the same:\n%s", texts[0])
	}
}

// A peer over the lab's real sshd: the figures must be of the right size.
func TestAPeerIsMeasured(t *testing.T) {
	if err := lab.Available(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := newStage(ctx, "", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.lab.Close()
	data := dataset{large, 64 << 20}
	if err := data.make(ctx, s.path(sourceHost, sourceData), ""); err != nil {
		t.Fatal(err)
	}
	held := size{1, 64 << 20}
	one, err := s.measure(ctx, contenders[peerSSH], held, testCase{})
	if err != nil {
		t.Fatal(err)
	}
	if one.wall <= 0 || one.source <= 0 || one.target <= 0 || one.wire < 64<<20 || one.wire > 80<<20 {
		t.Errorf("64 MiB by ssh: %+v", one)
	}
	if _, err := s.measure(ctx, contenders[peerSSH], size{1, 1}, testCase{}); err == nil {
		t.Error("another size than what arrived was taken for right")
	}
	if _, err := os.Stat(s.path(targetHost, targetDir)); !os.IsNotExist(err) {
		t.Errorf("the copy is left: %v", err)
	}
}

package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// flip alters one byte of a file that a target has staged.
func flip(t *testing.T, s sink, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.(*treeSink).staging.Path(), name), os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Error(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Error(err)
	}
}

// number finds an entry by its path.
func number(t *testing.T, s sink, path string) (uint64, manifest.Entry) {
	t.Helper()
	ts := s.(*treeSink)
	for n := range ts.spool.Len() {
		if e, err := ts.spool.Entry(n); err == nil && string(e.Path) == path {
			return n, e
		}
	}
	t.Errorf("no entry %s", path)
	return 0, manifest.Entry{}
}

// lose makes pieces of a file missing that a target has.
func lose(t *testing.T, s sink, path string, pieces ...uint64) {
	t.Helper()
	n, e := number(t, s, path)
	if err := s.(*treeSink).files.reopen(n, e, pieces...); err != nil {
		t.Error(err)
	}
}

// late has a target read everything back when all has come, and not on the way:
// so that a test can spoil it in between.
func late(s sink) { s.(*treeSink).files.proof = proveNever }

// disturb has fn called when a target reaches a point, with how often it has
// by then.
func (r *rig) disturb(target int, at point, fn func(s sink, times int)) {
	times := 0
	r.jobs[target].at = func(p point, s sink) {
		if p == pointOpened && at == pointSynced {
			late(s)
		}
		if p == at {
			times++
			fn(s, times)
		}
	}
}

// well checks that all went well and publishes.
func (r *rig) well(src string) map[string]control.MemberStatus {
	r.t.Helper()
	all := r.settled()
	for name, m := range all {
		if m.Error != nil || m.Root == "" || m.Root != all["source"].Root {
			r.t.Fatalf("%s: %+v", name, m)
		}
	}
	r.commit()
	for _, dir := range r.dirs {
		same(r.t, src, filepath.Join(dir, filepath.Base(src)))
	}
	return all
}

func TestReadBackIsRepaired(t *testing.T) {
	src := content(t)
	cases := map[string]struct {
		change func(*control.Start)
		spoil  func(t *testing.T, s sink)
	}{
		"a small file":              {nil, func(t *testing.T, s sink) { flip(t, s, "tree/small", 2) }},
		"one piece of a large file": {nil, func(t *testing.T, s sink) { flip(t, s, "tree/a/large", 3<<20+77) }},
		"the last piece":            {nil, func(t *testing.T, s sink) { flip(t, s, "tree/a/large", 5<<20+12344) }},
		"a hole":                    {nil, func(t *testing.T, s sink) { flip(t, s, "tree/sparse", 6<<20) }},
		"beside a hole":             {nil, func(t *testing.T, s sink) { flip(t, s, "tree/sparse", 3<<20) }},
		"many at once": {nil, func(t *testing.T, s sink) {
			for i := 1; i < 300; i += 3 {
				flip(t, s, fmt.Sprintf("tree/a/b/f%d", i), int64(i))
			}
			for i := range int64(5) {
				flip(t, s, "tree/a/large", i<<20+i)
			}
			flip(t, s, "tree/nothing", 1)
			flip(t, s, "tree/a/b/text", 1<<20)
			flip(t, s, "tree/a/b/half", 1)
		}},
		"plain, compressed": {func(p *control.Start) { p.Settings.Encrypt, p.Settings.Codec = false, "zstd" },
			func(t *testing.T, s sink) { flip(t, s, "tree/a/large", 9); flip(t, s, "tree/a/b/text", 9) }},
		"a file cut short": {nil, func(t *testing.T, s sink) {
			if err := os.Truncate(filepath.Join(s.(*treeSink).staging.Path(), "tree/a/piece"), 7); err != nil {
				t.Error(err)
			}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, src, 2, c.change)
			r.disturb(1, pointSynced, func(s sink, times int) {
				if times == 1 {
					c.spoil(t, s)
				}
			})
			r.start()
			all := r.well(src)
			if w := all["target-1"].Warnings; len(w) == 0 || !strings.Contains(w[len(w)-1].What, "were sent again") {
				t.Errorf("nobody was told: %+v", w)
			}
			if n := all["target-1"].Files; n != all["target-2"].Files {
				t.Errorf("%d files are counted, want %d", n, all["target-2"].Files)
			}
		})
	}
}

func TestBadDiskIsNotRepairedForEver(t *testing.T) {
	src := content(t)
	for _, path := range []string{"tree/small", "tree/a/large"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			r := newRig(t, src, 1, nil)
			r.disturb(1, pointSynced, func(s sink, times int) {
				if times > 2 {
					t.Errorf("read back %d times", times)
				}
				flip(t, s, path, 3)
			})
			r.start()
			e := r.settled()["target-1"].Error
			if e == nil || e.Kind != sdk.KindIntegrity || !strings.Contains(e.Message, path) {
				t.Errorf("it says %+v", e)
			}
		})
	}
}

// TestReleasedSourceRepairsNothing: an undo that waits for the source's
// release is run before the targets have verified, and from then on a bad
// piece fails its target.
func TestReleasedSourceRepairsNothing(t *testing.T) {
	src := content(t)
	r := newRig(t, src, 2, nil)
	if err := r.undo[0].Defer(undo.Record{Undo: sdk.Undo{ID: "u", What: "start the replica", When: sdk.WhenSourceDone}}); err != nil {
		t.Fatal(err)
	}
	r.disturb(1, pointSynced, func(s sink, _ int) {
		for deadline := time.Now().Add(10 * time.Second); !r.jobs[1].SourceDone() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		flip(t, s, "tree/a/large", 3)
	})
	r.start()
	all := r.settled()
	if e := all["target-1"].Error; e == nil || e.Kind != sdk.KindIntegrity || !strings.Contains(e.Message, "tree/a/large") {
		t.Errorf("target-1 says %+v", e)
	}
	if e := all["target-2"].Error; e != nil {
		t.Errorf("target-2: %v", e)
	}
	if !r.jobs[0].SourceDone() {
		t.Error("the source was not released")
	}
}

// TestSourceIsReleasedWhenAllHaveVerified: where nothing waits for it.
func TestSourceIsReleasedWhenAllHaveVerified(t *testing.T) {
	src := content(t)
	r := newRig(t, src, 1, nil)
	r.disturb(1, pointSynced, func(sink, int) {
		time.Sleep(100 * time.Millisecond)
		if r.jobs[0].SourceDone() {
			t.Error("released before the target has verified")
		}
	})
	r.start()
	r.well(src)
	if !r.jobs[0].SourceDone() {
		t.Error("not released")
	}
}

func TestMissingPiecesAreServed(t *testing.T) {
	src := content(t)
	for _, verify := range []control.VerifyLevel{control.VerifyReadBack, control.VerifySigned} {
		for _, codec := range []string{"none", "minlz"} {
			t.Run(string(verify)+" "+codec, func(t *testing.T) {
				r := newRig(t, src, 3, func(p *control.Start) { p.Settings.Verify, p.Settings.Codec = verify, codec })
				for i := range 3 {
					r.disturb(i+1, pointPassed, func(s sink, times int) {
						if times > 1 {
							return
						}
						lose(t, s, "tree/a/large", 0, 2, 3, 5)
						lose(t, s, "tree/sparse", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
						lose(t, s, "tree/small", 0)
						for n := 1; n < 300; n++ {
							lose(t, s, fmt.Sprintf("tree/a/b/f%d", n), 0)
						}
					})
				}
				r.start()
				r.well(src)
			})
		}
	}
}

// TestLongNeedList: what does not fit one list comes with the next.
func TestLongNeedList(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const files = maxNeed + 5
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte{byte(i), byte(i >> 8)}, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, dir, 1, nil)
	lists := 0
	r.disturb(1, pointPassed, func(s sink, times int) {
		lists = times
		if times == 1 {
			ts := s.(*treeSink)
			for n := range ts.spool.Len() {
				if e, err := ts.spool.Entry(n); err != nil {
					t.Error(err)
				} else if e.Type == sdk.FileRegular {
					if err := ts.files.reopen(n, e, 0); err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
	r.start()
	r.well(dir)
	if lists != 3 {
		t.Errorf("%d passes, want 3: the first, %d files, the other 5", lists, maxNeed)
	}
}

func TestChangedFileIsNotSentAgain(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"grown":    func(dir string) error { return appendTo(filepath.Join(dir, "a/large"), "x") },
		"gone":     func(dir string) error { return os.Remove(filepath.Join(dir, "a/large")) },
		"replaced": func(dir string) error { return os.Rename(filepath.Join(dir, "a/piece"), filepath.Join(dir, "a/large")) },
		"a link": func(dir string) error {
			p := filepath.Join(dir, "a/large")
			return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p))
		},
		"altered, its times put back": func(dir string) error {
			p := filepath.Join(dir, "a/large")
			before, err := os.Stat(p)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("other"), 1<<20)
			return errors.Join(err, f.Close(), os.Chtimes(p, before.ModTime(), before.ModTime()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			src := content(t)
			r := newRig(t, src, 2, nil)
			r.disturb(1, pointPassed, func(s sink, times int) {
				if times == 1 {
					lose(t, s, "tree/a/large", 1)
					if err := change(src); err != nil {
						t.Error(err)
					}
				}
			})
			r.start()
			all := r.settled()
			if e := all["target-1"].Error; e == nil || e.Kind != sdk.KindChanged || !strings.Contains(e.Message, "a/large") {
				t.Errorf("target-1 says %+v", e)
			}
			if e := all["target-2"].Error; e != nil {
				t.Errorf("target-2 lacked nothing, and says %v", e)
			}
		})
	}
}

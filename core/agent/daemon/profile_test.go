package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
)

// TestProfiles: an agent writes profiles where somebody has made a directory
// for them that is closed to others, and nowhere else.
func TestProfiles(t *testing.T) {
	for name, c := range map[string]struct {
		mode os.FileMode
		want []string
	}{
		"nobody asked":     {0, nil},
		"open to others":   {0o755, nil},
		"closed to others": {0o700, []string{"cpu", "heap"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			dir := filepath.Join(h.state, profileDir)
			if c.mode != 0 {
				if err := os.MkdirAll(h.state, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(dir, c.mode); err != nil {
					t.Fatal(err)
				}
			}
			r := h.ask(&control.Request{Verb: control.VerbPrepare, Transfer: "t", Call: "p", Prepare: &control.Prepare{Lease: time.Minute, Hold: time.Hour}})
			if r.Error != nil || len(r.Agents) != 1 {
				t.Fatalf("%+v", r)
			}
			id := r.Agents[0].Agent
			h.stop()
			cpu := filepath.Join(dir, "t-"+id+".cpu.pprof")
			eventually(t, "the end of the agent", func() bool {
				info, err := os.Stat(cpu) // written last of all
				return len(h.pids()) == 0 && (c.want == nil || err == nil && info.Size() > 0)
			})
			var got []string
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, path := range files {
				kind, ours := strings.CutPrefix(filepath.Base(path), "t-"+id+".")
				info, err := os.Stat(path)
				if err != nil || !ours || info.Size() == 0 || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", path, info, err)
				}
				got = append(got, strings.TrimSuffix(kind, ".pprof"))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("profiles %v, want %v", got, c.want)
			}
		})
	}
}

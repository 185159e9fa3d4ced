package agent

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// fault is bad memory that alters one byte of one file: so many times, or
// always if times is negative.
type fault struct {
	t    *testing.T
	path string // of the file
	mark []byte // in the file's content, which is altered behind it

	mu      sync.Mutex
	times   int
	entry   uint64 // of the file, once its entry has passed
	known   bool
	altered int
}

// due reports whether to alter what was found, and counts.
func (f *fault) due() bool {
	if f.times == 0 {
		return false
	}
	f.times--
	f.altered++
	return true
}

// content alters content before it is compressed.
func (f *fault) content(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := bytes.Index(b, f.mark); i >= 0 && f.due() {
		b[i+len(f.mark)] ^= 4
	}
}

// place is where to alter a payload: behind the mark, or somewhere where that
// is compressed.
func (f *fault) place(payload []byte) int {
	if i := bytes.Index(payload, f.mark); i >= 0 {
		return i + len(f.mark)
	}
	return len(payload) / 2
}

// sealed alters the payload of the file's first frame, in the buffer.
func (f *fault) sealed(p relay.Packet) relay.Packet {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hits(p.Frame) && f.due() {
		p.Payload()[f.place(p.Payload())] ^= 4
	}
	return p
}

// passing alters a copy, since a relay writes what lies in the buffer too.
func (f *fault) passing(p relay.Packet) relay.Packet {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.hits(p.Frame) || !f.due() {
		return p
	}
	defer p.Release()
	wire := bytes.Clone(p.Wire())
	wire[len(p.Head())+f.place(p.Payload())] ^= 4
	bad, err := frame.Read(bytes.NewReader(wire), func(n int) []byte { return make([]byte, n) })
	if err != nil {
		f.t.Error(err)
	}
	return relay.Packet{Frame: bad}
}

// hits learns the file's number, and then knows its content.
func (f *fault) hits(fr *frame.Frame) bool {
	switch {
	case fr.Type == frame.TypeEntries && !f.known:
		records, err := codec.Decompress(codec.ID(fr.Codec), nil, fr.Payload(), fr.Decoded)
		for number := fr.Extent(0).Entry; err == nil && len(records) > 0; number++ {
			var e manifest.Entry
			if e, records, err = manifest.DecodeEntry(records); err == nil && strings.HasSuffix(string(e.Path), "/"+f.path) {
				f.entry, f.known = number, true
			}
		}
		if err != nil {
			f.t.Error(err)
		}
	case fr.Type == frame.TypeData && f.known:
		for i := range fr.Header.Extents {
			if fr.Extent(i).Entry == f.entry {
				return true
			}
		}
	}
	return false
}

// together is how the name is told of a file that shares its frame with others.
const together = "files that came with it"

// mended is the case in which the source's digest and its later reads are right,
// so that the read-back finds the one bad frame and a second one mends it.
const mended = "a small file before its frame is compressed"

// published commits one target and compares what it has published.
func (r *rig) published(target int, source string) {
	r.t.Helper()
	if err := r.jobs[target].Commit(r.t.Context(), []string{r.plan.Members[target].Name}); err != nil {
		r.t.Error(err)
		return
	}
	same(r.t, source, filepath.Join(r.dirs[target-1], filepath.Base(source)))
}

// TestBadMemory: a byte that an agent alters in its own memory, after it was
// read, is found by the next one that takes it, which names the file; by a
// digest of the content where it was altered before its frame was sealed, by
// the segment's signature afterwards.
func TestBadMemory(t *testing.T) {
	src, mark := filepath.Join(t.TempDir(), "tree"), []byte("a mark that no other file has")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 3<<20+12345)
	rand.Read(random)
	tree := map[string][]byte{"large": random, "text": bytes.Repeat([]byte("all work and no play\n"), 150_000)}
	for i := range 20 {
		tree[fmt.Sprintf("small-%02d", i)] = random[:5000+i]
	}
	for name, data := range tree {
		data = bytes.Clone(data)
		copy(data[len(data)/2:], append(mark, name...))
		if err := os.WriteFile(filepath.Join(src, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	levels := []control.VerifyLevel{control.VerifyReadBack, control.VerifyReceived, control.VerifySigned}
	for _, c := range []struct {
		name, path, codec string
		agent             int // whose memory is bad
		sealed            bool
		levels            []control.VerifyLevel // that find it
	}{
		{"a small file before its frame is stored", "small-07", codec.NameNone, 0, false, levels[:2]},
		{mended, "small-07", codec.NameZstd, 0, false, levels[:2]},
		{"a piece before it is compressed", "text", codec.NameMinLZ, 0, false, levels[:2]},
		{"a frame of small files", "small-07", codec.NameNone, 0, true, levels},
		{"a stored frame", "large", codec.NameNone, 0, true, levels},
		{"a compressed frame", "text", codec.NameZstd, 0, true, levels},
		{"a stored frame in a relay", "large", codec.NameNone, 1, true, levels},
		{"a compressed frame in a relay", "text", codec.NameMinLZ, 1, true, levels},
	} {
		for _, level := range c.levels {
			for often, times := range map[string]int{"once": 1, "always": -1} {
				if often == "once" && level != control.VerifyReadBack {
					continue // only what fails the read-back is asked for once more
				}
				t.Run(c.name+"/"+string(level)+"/"+often, func(t *testing.T) {
					t.Parallel()
					r := newRig(t, src, 2, func(p *control.Start) {
						p.Settings.Codec, p.Settings.Verify, p.Settings.RetryFor = c.codec, level, time.Minute
					})
					bad := &fault{t: t, path: c.path, mark: append(mark, c.path...), times: times}
					switch {
					case !c.sealed:
						r.jobs[c.agent].bad.content = bad.content
					case c.agent == 0:
						r.jobs[c.agent].bad.frame = bad.sealed
					default:
						r.jobs[c.agent].bad.frame = bad.passing
					}
					r.start()
					all := r.settled()
					if bad.altered == 0 {
						t.Fatal("nothing was altered")
					}
					for i, name := range []string{"target-1", "target-2"} {
						m := all[name]
						switch {
						case i < c.agent && m.Error == nil: // it had the right bytes
							r.published(i+1, src)
						case m.Error == nil && (times < 0 || c.sealed):
							t.Errorf("%s took it", name)
						case m.Error != nil && times > 0 && c.name == mended:
							t.Errorf("%s was not mended: %v", name, m.Error)
						case m.Error == nil:
							// The read-back found it, it was asked for once more, and that is told.
							r.published(i+1, src)
							if !slices.ContainsFunc(m.Warnings, func(w control.Warning) bool { return strings.Contains(w.What+w.Example.Display(), c.path) }) {
								t.Errorf("%s took it without a word: %+v", name, m)
							}
						case m.Error.Kind != sdk.KindIntegrity || !strings.Contains(m.Error.Message, c.path) && !strings.Contains(m.Error.Message, together):
							t.Errorf("%s: %v, want %s to be named", name, m.Error, c.path)
						}
					}
				})
			}
		}
	}
}

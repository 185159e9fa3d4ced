package agent

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// garbage is a frame of content that the source has not sent.
func garbage(hole bool, all ...frame.Extent) (*frame.Frame, error) {
	size := 0
	for _, x := range all {
		size += int(x.Length)
	}
	if hole {
		return frame.Build(make([]byte, frame.PayloadAt(len(all))), frame.TypeHole, 0, 1, all, 0)
	}
	buf := append(make([]byte, frame.PayloadAt(len(all))), bytes.Repeat([]byte("x"), size)...)
	return frame.Build(buf, frame.TypeData, 0, 1, all, size)
}

// TestUnsignedIsForgotten: a relay sends what the source never sent, and then
// has its next target served by the source, before any signature was due. None
// of it stays, also where no digest would tell.
func TestUnsignedIsForgotten(t *testing.T) {
	src := relayTree(t)
	type find func(path string) uint64
	whole := func(entry uint64) frame.Extent { return frame.Extent{Entry: entry, Length: 5000} }
	piece := func(entry, index uint64) frame.Extent {
		return frame.Extent{Entry: entry, Offset: index << 20, Length: 1 << 20}
	}
	for name, forge := range map[string]func(f find) (*frame.Frame, error){
		"a piece": func(f find) (*frame.Frame, error) { return garbage(false, piece(f("tree/large"), 2)) },
		"holes": func(f find) (*frame.Frame, error) {
			return garbage(true, frame.Extent{Entry: f("tree/large"), Length: 3 << 20})
		},
		"small files": func(f find) (*frame.Frame, error) {
			return garbage(false, sorted(whole(f("tree/small-03")), whole(f("tree/small-11")), whole(f("tree/small-17")))...)
		},
		"out of order": func(f find) (*frame.Frame, error) {
			return garbage(false, reversed(whole(f("tree/small-03")), whole(f("tree/small-11")), whole(f("tree/small-17")))...)
		},
		"beyond the first and the last": func(f find) (*frame.Frame, error) {
			all := sorted(whole(f("tree/small-03")), whole(f("tree/small-11")), whole(f("tree/small-17")))
			return garbage(false, all[0], all[2], all[1])
		},
		"between the same": func(f find) (*frame.Frame, error) {
			return garbage(false, piece(f("tree/large"), 0), whole(f("tree/small-11")), frame.Extent{Entry: f("tree/large"), Offset: 1 << 20})
		},
		"a large file among small": func(f find) (*frame.Frame, error) {
			return garbage(false, sorted(whole(f("tree/small-03")), piece(f("tree/large"), 0), whole(f("tree/small-17")))...)
		},
		"a large file, a first and last": func(f find) (*frame.Frame, error) {
			return garbage(false, whole(f("tree/small-03")), piece(f("tree/large"), 0), whole(f("tree/small-17")))
		},
		"holes of several files": func(f find) (*frame.Frame, error) {
			return garbage(true, whole(f("tree/small-03")), piece(f("tree/large"), 0), whole(f("tree/small-17")))
		},
		"holes out of order": func(f find) (*frame.Frame, error) {
			return garbage(true, piece(f("tree/large"), 3), piece(f("tree/large"), 0))
		},
		"holes below the first and last": func(f find) (*frame.Frame, error) {
			return garbage(true, piece(f("tree/large"), 3), piece(f("tree/large"), 0), piece(f("tree/large"), 4))
		},
	} {
		for _, level := range []control.VerifyLevel{control.VerifySigned, control.VerifyReadBack} {
			t.Run(name+"/"+string(level), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, src, 2, func(p *control.Start) { p.Settings.Verify, p.Settings.RetryFor = level, time.Minute })
				r.jobs[0].segment = segmentSize
				hostileRelay(t, r, 0, func(ctx context.Context, h *hostile) error {
					f, err := forge(h.number)
					if err != nil {
						return err
					}
					var entries []*frame.Frame
					for _, seg := range h.pass {
						entries = append(entries, wiresOf(seg, isType(frame.TypeEntries))...)
					}
					if err := h.send(wires(append(entries, f)...)...); err != nil {
						return err
					}
					if err := h.used(ctx); err != nil {
						return err
					}
					if err := h.tell(note{Type: noteLost, Lost: []string{"target-2"}}); err != nil {
						return err
					}
					return h.settle()
				})
				m := r.settled()["target-2"]
				if e := m.Error; e != nil && e.Kind == sdk.KindIntegrity {
					r.nothingPublished("tree")
					return
				}
				if m.Error != nil {
					t.Fatal(m.Error)
				}
				r.published(2, src)
			})
		}
	}
}

// sorted are extents by their entries, as they come in a frame.
func sorted(all ...frame.Extent) []frame.Extent {
	slices.SortFunc(all, func(a, b frame.Extent) int { return cmp.Compare(a.Entry, b.Entry) })
	return all
}

func reversed(all ...frame.Extent) []frame.Extent {
	slices.Reverse(sorted(all...))
	return all
}

// number finds an entry of pass 1 by its path.
func (h *hostile) number(path string) uint64 {
	for _, seg := range h.pass {
		for _, f := range wiresOf(seg, isType(frame.TypeEntries)) {
			records, err := codec.Decompress(codec.ID(f.Codec), nil, f.Payload(), f.Decoded)
			for n := f.Extent(0).Entry; err == nil && len(records) > 0; n++ {
				var e manifest.Entry
				if e, records, err = manifest.DecodeEntry(records); err == nil && string(e.Path) == path {
					return n
				}
			}
			if err != nil {
				h.t.Error(err)
			}
		}
	}
	h.t.Errorf("no entry %s", path)
	return 0
}

// used waits until target-2 has used all content that it was sent, or has
// failed of it.
func (h *hostile) used(ctx context.Context) error {
	for ctx.Err() == nil {
		m := h.rig.jobs[2].Members()[0]
		if m.Error != nil || m.Bytes > 0 {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return context.Cause(ctx)
}

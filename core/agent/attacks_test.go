package agent

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/sdk"
)

// attack is what a relay sends in place of the segment of pass 1 that it
// spoils: every byte before it is as the source sent it, and nothing comes
// after it, so that the next target has to find it in what it has by then.
type attack struct {
	name  string
	first bool // it spoils the first segment
	// spoils picks the segment, rather a later one than the first; nil: the
	// second.
	spoils func(seg []*frame.Frame) bool
	// instead returns what goes in its place; a nil ends the connection.
	instead func(h *hostile, seg []*frame.Frame) ([][]byte, error)
	path    string              // what must be named; empty: nothing can be
	cut     bool                // it is no different from a link that was lost
	tree    bool                // a stream has nothing of the kind
	level   control.VerifyLevel // the only one with which it makes sense
}

// segmentSize is how much is in a segment of these tests.
const segmentSize = 3 << 19

// has reports whether one of the frames is as wanted.
func has(ok func(*frame.Frame) bool) func([]*frame.Frame) bool {
	return func(seg []*frame.Frame) bool { return slices.ContainsFunc(seg, ok) }
}

func isType(t frame.Type) func(*frame.Frame) bool {
	return func(f *frame.Frame) bool { return f.Type == t }
}

// piece is a frame of one piece, batch one of several small files.
func isPiece(f *frame.Frame) bool {
	return f.Type == frame.TypeData && f.Header.Extents == 1 && f.Codec == uint8(codec.Stored)
}
func isBatch(f *frame.Frame) bool { return f.Type == frame.TypeData && f.Header.Extents > 1 }
func isCompressed(f *frame.Frame) bool {
	return f.Type == frame.TypeData && f.Header.Extents == 1 && f.Codec != uint8(codec.Stored)
}

// wires are frames as they go on the wire.
func wires(frames ...*frame.Frame) [][]byte {
	var all [][]byte
	for _, f := range frames {
		all = append(all, f.Wire())
	}
	return all
}

// flipped alters one bit of the first such frame; at counts from the end where
// it is negative.
func flipped(ok func(*frame.Frame) bool, at int) func(*hostile, []*frame.Frame) ([][]byte, error) {
	return func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		all := wires(seg...)
		i := slices.IndexFunc(seg, ok)
		w := bytes.Clone(all[i])
		w[(at+len(w))%len(w)] ^= 0x10
		all[i] = w
		_, err := frame.Parse(w)
		return all, err // one that is no frame is a broken link, and another test's
	}
}

// rebuilt puts another frame in the place of the first such one.
func rebuilt(ok func(*frame.Frame) bool, build func(f *frame.Frame) (*frame.Frame, error)) func(*hostile, []*frame.Frame) ([][]byte, error) {
	return func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		seg = slices.Clone(seg)
		i := slices.IndexFunc(seg, ok)
		var err error
		seg[i], err = build(seg[i])
		return wires(seg...), err
	}
}

// forged signs frames with the relay's own key, as that segment.
func forged(h *hostile, number int, frames ...*frame.Frame) (*frame.Frame, error) {
	s := frame.Sealer{Scope: frame.Scope{Transfer: h.rig.jobs[1].cfg.Transfer, Pass: 1}, Hash: frameHash, Sign: h.rig.jobs[1].cfg.Identity.Sign}
	for range number {
		if _, err := s.Seal(); err != nil {
			return nil, err
		}
	}
	for _, f := range frames {
		sum, _ := frameSum(f, h.chain.digests())
		s.Add(f, sum)
	}
	return s.Seal()
}

// plain makes a frame without extents.
func plain(t frame.Type, payload []byte) (*frame.Frame, error) {
	return frame.Build(append(make([]byte, frame.HeaderLen), payload...), t, 0, 1, nil, len(payload))
}

// extents are those of a frame.
func extents(f *frame.Frame) []frame.Extent {
	var all []frame.Extent
	for i := range f.Header.Extents {
		all = append(all, f.Extent(i))
	}
	return all
}

// with makes a frame of the same payload with other extents.
func with(f *frame.Frame, all ...frame.Extent) (*frame.Frame, error) {
	buf := append(make([]byte, frame.PayloadAt(len(all))), f.Payload()...)
	return frame.Build(buf, f.Type, f.Codec, f.Pass, all, f.Decoded)
}

var end = isType(frame.TypeSegmentEnd)

// attacks are what a relay may do to a tree that it passes on.
var attacks = []attack{
	{name: "a byte of a piece", spoils: has(isPiece), instead: flipped(isPiece, -100), path: "tree/large"},
	{name: "a byte of small files", tree: true, spoils: has(isBatch), instead: flipped(isBatch, -1), path: together},
	{name: "a byte of what is compressed", tree: true, spoils: has(isCompressed), instead: flipped(isCompressed, -20), path: "tree/text"},
	{name: "the offset of a piece", spoils: has(isPiece), instead: rebuilt(isPiece, func(f *frame.Frame) (*frame.Frame, error) {
		x := f.Extent(0)
		x.Offset ^= 1 << 20
		return with(f, x)
	}), path: "tree/large"},
	{name: "a piece of another file", spoils: has(isPiece), instead: rebuilt(isPiece, func(f *frame.Frame) (*frame.Frame, error) {
		x := f.Extent(0)
		x.Entry++
		return with(f, x)
	})},
	{name: "a piece of no file", spoils: has(isPiece), instead: rebuilt(isPiece, func(f *frame.Frame) (*frame.Frame, error) {
		x := f.Extent(0)
		x.Entry = 1 << 40
		return with(f, x)
	})},
	{name: "a piece with a hole in it", spoils: has(isPiece), instead: rebuilt(isPiece, func(f *frame.Frame) (*frame.Frame, error) {
		x := f.Extent(0)
		return with(f, frame.Extent{Entry: x.Entry, Offset: x.Offset, Length: 1000}, frame.Extent{Entry: x.Entry, Offset: x.Offset + 2000, Length: x.Length - 2000}, frame.Extent{Entry: x.Entry + 1, Length: 1000})
	})},
	{name: "a hole in place of a piece", spoils: has(isPiece), instead: rebuilt(isPiece, func(f *frame.Frame) (*frame.Frame, error) {
		return frame.Build(make([]byte, frame.PayloadAt(1)), frame.TypeHole, 0, 1, extents(f), 0)
	}), path: "tree/large"},
	{name: "a hole elsewhere", tree: true, spoils: has(isType(frame.TypeHole)), instead: rebuilt(isType(frame.TypeHole), func(f *frame.Frame) (*frame.Frame, error) {
		x := f.Extent(0)
		x.Offset += 1 << 20
		x.Length -= 1 << 20
		return frame.Build(make([]byte, frame.PayloadAt(1)), frame.TypeHole, 0, 1, []frame.Extent{x}, 0)
	}), path: "tree/sparse"},
	{name: "small files in another order", tree: true, spoils: has(isBatch), instead: rebuilt(isBatch, func(f *frame.Frame) (*frame.Frame, error) {
		all := extents(f)
		slices.Reverse(all)
		return with(f, all...)
	})},
	{name: "another pass", spoils: has(isPiece), instead: rebuilt(isPiece, func(f *frame.Frame) (*frame.Frame, error) {
		return frame.Build(bytes.Clone(f.Wire()), f.Type, f.Codec, 2, extents(f), f.Decoded)
	}), path: "tree/large"},
	{name: "a byte of an entry", spoils: has(isType(frame.TypeEntries)), instead: flipped(isType(frame.TypeEntries), -3)},
	{name: "a byte of a digest", spoils: has(isType(frame.TypeDigests)), instead: flipped(isType(frame.TypeDigests), -1), level: control.VerifyReadBack},
	{name: "a byte of the end", spoils: has(isType(frame.TypePassEnd)), instead: flipped(isType(frame.TypePassEnd), -1)},
	{name: "a frame dropped", instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(slices.Delete(slices.Clone(seg), 0, 1)...), nil
	}},
	{name: "the last frame dropped", instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(slices.Delete(slices.Clone(seg), len(seg)-2, len(seg)-1)...), nil
	}},
	{name: "all frames dropped", instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(seg[len(seg)-1]), nil
	}},
	{name: "a frame repeated", instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(slices.Insert(slices.Clone(seg), 0, seg[0])...), nil
	}},
	{name: "an old frame repeated", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(slices.Insert(slices.Clone(seg), len(seg)-1, h.pass[0][1])...), nil
	}},
	{name: "an old frame in place of one", spoils: has(isPiece), instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(append([]*frame.Frame{h.pass[0][1]}, seg[1:]...)...), nil
	}},
	{name: "two frames swapped", spoils: func(seg []*frame.Frame) bool { return len(seg) > 2 }, instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		seg = slices.Clone(seg)
		seg[0], seg[1] = seg[1], seg[0]
		return wires(seg...), nil
	}},
	{name: "a segment dropped", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) { return wires(h.pass[2]...), nil }},
	{name: "a segment repeated", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) { return wires(h.pass[0]...), nil }},
	{name: "two segments swapped", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return append(wires(h.pass[2]...), wires(seg...)...), nil
	}},
	{name: "two segments made one", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return append(wires(seg[:len(seg)-1]...), wires(h.pass[2]...)...), nil
	}},
	{name: "a segment cut in two", spoils: func(seg []*frame.Frame) bool { return len(seg) > 2 }, instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(slices.Insert(slices.Clone(seg), 1, seg[len(seg)-1])...), nil
	}},
	{name: "the last segment at once", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(h.pass[len(h.pass)-1]...), nil
	}},
	{name: "a byte of the signature", instead: flipped(end, -10)},
	{name: "a byte of a signed digest", instead: flipped(end, frame.HeaderLen+8+3)},
	{name: "the number of a segment", instead: flipped(end, frame.HeaderLen+3)},
	{name: "the signature of another segment", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(append(slices.Clone(seg[:len(seg)-1]), h.pass[2][len(h.pass[2])-1])...), nil
	}},
	{name: "the digests of one segment and the signature of another", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		all := wires(seg...)
		own, other := bytes.Clone(all[len(all)-1]), h.pass[2][len(h.pass[2])-1].Wire()
		copy(own[len(own)-64:], other[len(other)-64:])
		all[len(all)-1] = own
		return all, nil
	}},
	{name: "altered and signed by the relay", spoils: has(isPiece), instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		seg = slices.Clone(seg[:len(seg)-1])
		i := slices.IndexFunc(seg, isPiece)
		w := bytes.Clone(seg[i].Wire())
		w[len(w)-1] ^= 1
		bad, err := frame.Parse(w)
		if err != nil {
			return nil, err
		}
		seg[i] = bad
		sig, err := forged(h, slices.IndexFunc(h.pass[1:], has(isPiece))+1, seg...)
		return wires(append(seg, sig)...), err
	}},
	{name: "an end that the relay made", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		f, err := plain(frame.TypePassEnd, frame.PassEnd{}.Append(nil))
		if err != nil {
			return nil, err
		}
		sig, err := forged(h, 1, f)
		return wires(f, sig), err
	}},
	{name: "an end without a signature of its own", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		f, err := plain(frame.TypePassEnd, frame.PassEnd{}.Append(nil))
		return append(wires(f), wires(seg...)...), err
	}},
	{name: "a failure that the relay made", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		f, err := plain(frame.TypeFailure, failure("nothing to see here"))
		if err != nil {
			return nil, err
		}
		sig, err := forged(h, 1, f)
		return wires(f, sig), err
	}},
	{name: "a frame of a repair pass", tree: true, instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return wires(append(wiresOf(h.repair, isPiece)[:1:1], seg...)...), nil
	}},
	{name: "a repair pass in its place", tree: true, instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) { return wires(h.repair...), nil }},
	{name: "a repair pass as the first segment", tree: true, first: true, instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		all := wires(h.repair...)
		as := bytes.Clone(all[len(all)-1])
		as[7] = 1 // the pass
		all[len(all)-1] = as
		return all, nil
	}},
	{name: "an acknowledgement among frames", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		return append(wires(frame.Ack(1, 1<<40, 0)), wires(seg...)...), nil
	}},
	{name: "no signature ever", instead: func(h *hostile, seg []*frame.Frame) ([][]byte, error) {
		f, err := frame.Build(make([]byte, frame.PayloadAt(1)), frame.TypeHole, 0, 1, []frame.Extent{{Entry: 1 << 40, Length: 1 << 20}}, 0)
		return slices.Repeat(wires(f), frame.MaxSegmentFrames+1), err
	}},
	{name: "the connection ends", cut: true, instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) { return [][]byte{nil}, nil }},
	{name: "the connection ends within a frame", cut: true, instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		w := seg[0].Wire()
		return [][]byte{w[:len(w)/2], nil}, nil
	}},
	{name: "the connection ends before the last signature", cut: true, spoils: has(isType(frame.TypePassEnd)), instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		return append(wires(seg[:len(seg)-1]...), nil), nil
	}},
	{name: "what is no frame", cut: true, instead: func(_ *hostile, seg []*frame.Frame) ([][]byte, error) {
		return [][]byte{bytes.Repeat([]byte{0xff}, 1<<10)}, nil
	}},
}

// failure is a source's error as it is sent.
func failure(message string) []byte {
	b, err := json.Marshal(&sdk.Error{Kind: sdk.KindChanged, Message: message})
	if err != nil {
		panic(err) // its form is fixed
	}
	return b
}

// wiresOf picks frames.
func wiresOf(frames []*frame.Frame, ok func(*frame.Frame) bool) []*frame.Frame {
	return slices.DeleteFunc(slices.Clone(frames), func(f *frame.Frame) bool { return !ok(f) })
}

package agent

import (
	"testing"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
)

// TestFrameSum: what a source computes from the nodes that it has is what a
// target computes from the bytes that it gets; whatever is altered changes
// it; and a whole file's node is the file's.
func TestFrameSum(t *testing.T) {
	content := []byte("one file, another file, and a third with a hole")
	cuts := map[string][]frame.Extent{
		"one":         {{Entry: 4, Length: 47}},
		"a piece":     {{Entry: 4, Offset: 3 * digest.PieceSize, Length: 47}},
		"three":       {{Entry: 4, Length: 10}, {Entry: 5, Length: 20}, {Entry: 9, Length: 17}},
		"with a hole": {{Entry: 4, Length: 10}, {Entry: 5, Length: 20}, {Entry: 5, Offset: 4096, Length: 17}},
		"only a hole": {{Entry: 5, Length: 30}, {Entry: 5, Offset: 4096, Length: 17}},
	}
	for name, extents := range cuts {
		for _, digests := range []bool{true, false} {
			build := func() *frame.Frame {
				f, err := frame.Build(append(make([]byte, frame.PayloadAt(len(extents))), content...), frame.TypeData, 0, 1, extents, len(content))
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			sum, nodes := frameSum(build(), digests)
			if (nodes != nil) != (digests || len(extents) == 1) {
				t.Errorf("%s: %d nodes", name, len(nodes))
			}
			if nodes != nil && nodesSum(build(), nodes) != sum {
				t.Errorf("%s: the source's digest of the frame is another", name)
			}
			if digests && name == "three" && nodes[1].Root() != digest.Of(content[10:30]) {
				t.Error("a file's node is not the file's")
			}
			for i := range build().Wire() {
				f := build()
				f.Wire()[i] ^= 1
				if other, err := frame.Parse(f.Wire()); err == nil {
					if altered, _ := frameSum(other, digests); altered == sum {
						t.Errorf("%s: byte %d can be altered", name, i)
					}
				}
			}
		}
	}
}

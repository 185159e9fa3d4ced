package agent

import (
	"bytes"
	"os"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/tree"
)

// gathered is the content of small files for one frame, without their holes.
type gathered struct {
	content []byte
	extents []frame.Extent
	nodes   []digest.Node  // of each file's content, where digests are wanted
	holes   []frame.Extent // files that are nothing but a hole
}

// room is where the next file's bytes are read to.
func (g *gathered) room(size int) []byte { return g.content[len(g.content) : len(g.content)+size] }

// add adds the file that was read into room. Only what is data of it is kept,
// as long as the frame has extents for that and for the files to come. node is
// b's, if digests are wanted.
func (g *gathered) add(number uint64, b []byte, data []extent, node *digest.Node) {
	if len(b) == 0 {
		return
	}
	if data == nil || len(g.extents)+len(data)+maxBatch > frame.MaxExtents {
		g.content = g.content[:len(g.content)+len(b)]
		g.extents = append(g.extents, frame.Extent{Entry: number, Length: uint64(len(b))})
		if node != nil {
			g.nodes = append(g.nodes, *node)
		}
		return
	}
	if len(data) == 0 {
		g.holes = append(g.holes, frame.Extent{Entry: number, Length: uint64(len(b))})
		return
	}
	from := len(g.content)
	for _, x := range data {
		g.content = append(g.content, b[x.off:x.off+x.length]...) // moves it to the left
		g.extents = append(g.extents, frame.Extent{Entry: number, Offset: uint64(x.off), Length: uint64(x.length)})
	}
	if node != nil { // of what is sent, which is not the file
		g.nodes = append(g.nodes, digest.Piece(0, g.content[from:]))
	}
}

// dataOf returns the extents of a file of which b was read that are data; nil
// if all of it is. A hole that was punched only after b was read is none.
func dataOf(f *os.File, b []byte) ([]extent, error) {
	data, whole := []extent{}, true
	err := tree.Extents(f, int64(len(b)), func(off, length int64, hole bool) error {
		if hole && bytes.Equal(b[off:off+length], zeroes[:length]) {
			whole = false
			return nil
		}
		data = append(data, extent{off, length})
		return nil
	})
	if err != nil || whole {
		return nil, err
	}
	return data, nil
}

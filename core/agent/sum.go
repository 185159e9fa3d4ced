package agent

import (
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
)

// frameSum is a frame's digest as it goes into its segment's signature: over
// its head and the digest of its payload. Stored content is hashed as the
// subtrees that it is in its files, so that one hash serves the signature and
// the files' digests; the nodes are returned then, one for each file. Of the
// content of several files this is done only where files' digests are wanted,
// since small subtrees cost more than a large one. Which rule holds is told
// by the plan and the head, and the head is covered.
func frameSum(f *frame.Frame, digests bool) (frame.Digest, []digest.Node) {
	if f.Type != frame.TypeData || f.Codec != 0 || f.Header.Extents > 1 && !digests {
		return headed(f, digest.Of(f.Payload())), nil
	}
	nodes := make([]digest.Node, 0, f.Header.Extents)
	rest := f.Payload()
	for i := 0; i < f.Header.Extents; {
		first, size := f.Extent(i), 0
		for ; i < f.Header.Extents && f.Extent(i).Entry == first.Entry; i++ {
			size += int(f.Extent(i).Length)
		}
		nodes = append(nodes, digest.Piece(first.Offset/digest.PieceSize, rest[:size]))
		rest = rest[size:]
	}
	return nodesSum(f, nodes), nodes
}

// nodesSum is frameSum for a stored frame whose nodes are known.
func nodesSum(f *frame.Frame, nodes []digest.Node) frame.Digest {
	if len(nodes) == 1 {
		return headed(f, nodes[0].Value())
	}
	values := make([]byte, 0, 1<<10)
	for _, n := range nodes {
		v := n.Value()
		values = append(values, v[:]...)
	}
	return headed(f, digest.Of(values))
}

// headed puts a frame's head before the digest of its payload.
func headed(f *frame.Frame, payload digest.Sum) frame.Digest {
	buf := make([]byte, 0, 512)
	return frame.Digest(digest.Of(append(append(buf, f.Head()...), payload[:]...)))
}

func frameHash(b []byte) frame.Digest { return frame.Digest(digest.Of(b)) }

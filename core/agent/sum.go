package agent

import (
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
)

// frameSum is a frame's digest as it goes into its segment's signature: over
// its head and the digest of its payload. A stored piece is hashed as the
// subtree that it is in its file, so that one hash serves the signature and
// the file's digest; the node is returned then. Which rule holds is told by
// the head, and the head is covered.
func frameSum(f *frame.Frame) (frame.Digest, *digest.Node) {
	var payload digest.Sum
	var node *digest.Node
	if index, ok := storedPiece(f); ok {
		n := digest.Piece(index, f.Payload())
		node, payload = &n, n.Value()
	} else {
		payload = digest.Of(f.Payload())
	}
	head := f.Head()
	buf := make([]byte, 0, 512)
	return frame.Digest(digest.Of(append(append(buf, head...), payload[:]...))), node
}

// storedPiece returns the index of the piece that f carries as it is.
func storedPiece(f *frame.Frame) (uint64, bool) {
	if f.Type != frame.TypeData || f.Codec != 0 || f.Header.Extents != 1 {
		return 0, false
	}
	x := f.Extent(0)
	return x.Offset / digest.PieceSize, x.Offset%digest.PieceSize == 0 && x.Length <= digest.PieceSize
}

func frameHash(b []byte) frame.Digest { return frame.Digest(digest.Of(b)) }

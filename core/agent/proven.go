package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
)

// proven is what earlier attempts have read of the source. What they prove of
// files that are still what they were is not read again. For one goroutine.
type proven struct {
	attempts []*readBefore // the newest first
}

// readBefore is one of them.
type readBefore struct {
	spool  *manifest.Spool
	lookup *manifest.Lookup
	nodes  *manifest.Nodes
	// limit is how many of its entries every target knows of: what they do
	// not know of is sent by the chain, to all at once.
	limit uint64
}

// openProven opens what the state directories of earlier agents hold, as far
// as all targets can use it. What cannot be read is of no use, and no error.
func openProven(dirs []string, peers []*peer, log *slog.Logger) *proven {
	v := &proven{}
	for _, dir := range dirs {
		spool, err := manifest.OpenPart(dir, 1<<62)
		if err != nil {
			log.Info("no manifest of an earlier attempt", "error", err)
			continue
		}
		limit := known(spool.Header().Attempt, peers)
		nodes, err := manifest.OpenNodes(dir)
		if err != nil || limit == 0 || spool.Header().DigestRule != manifest.RuleBLAKE3 {
			_ = spool.Close() // it was only read
			continue
		}
		v.attempts = append(v.attempts, &readBefore{spool, manifest.NewLookup(spool, dir), nodes, limit})
		log.Info("a manifest of an earlier attempt", "entries", spool.Len(), "known to all targets", limit)
	}
	return v
}

// known is how many entries of an attempt all targets know of.
func known(attempt string, peers []*peer) uint64 {
	least := uint64(1 << 62)
	for _, p := range peers {
		its := uint64(0)
		for _, k := range p.kept {
			if k.Attempt == attempt {
				its = k.Entries
			}
		}
		least = min(least, its)
	}
	return least
}

// before is what an earlier attempt knows of a file.
type before struct {
	digest manifest.Digest // in DigestOK, if it was read whole
	nodes  *manifest.Nodes
	number uint64 // its entry there
}

// find looks a file up that is still what it was; nil if nothing is known of
// it.
func (v *proven) find(e *manifest.Entry, id manifest.Ident) *before {
	if v == nil || e.Size == 0 {
		return nil
	}
	for _, a := range v.attempts {
		n, old, found, err := a.lookup.Find(e.Path)
		if err != nil || !found || n >= a.limit || !manifest.HasContent(&old) {
			continue // a damaged spool proves nothing
		}
		was, err := a.spool.Ident(n)
		if err != nil || !was.Same(id) || old.Size != e.Size {
			continue
		}
		d, err := a.spool.Digest(n)
		if err != nil {
			continue
		}
		b := &before{digest: d, nodes: a.nodes, number: n}
		if d.State != manifest.DigestOK || d.Size != e.Size {
			b.digest = manifest.Digest{}
		}
		return b
	}
	return nil
}

// whole reports whether the file was read whole, with the nodes of all its
// pieces where it has several.
func (b *before) whole(size int64) bool {
	if b == nil || b.digest.State != manifest.DigestOK {
		return false
	}
	pieces := digest.Pieces(size)
	for p := uint64(0); pieces > 1 && p < pieces; p++ {
		if _, ok := b.node(p); !ok {
			return false
		}
	}
	return true
}

// node is a piece's, if it is known.
func (b *before) node(piece uint64) (digest.Sum, bool) {
	node, ok, err := b.nodes.Get(b.number, piece)
	return digest.Sum(node), ok && err == nil
}

// run returns where the run of pieces ends that begins at one and of which all
// are known, or none.
func (b *before) run(at, end uint64) (stop uint64, known bool) {
	if b == nil {
		return end, false
	}
	_, known = b.node(at)
	for stop = at + 1; stop < min(end, at+maxKnown); stop++ {
		if _, is := b.node(stop); is != known {
			break
		}
	}
	return stop, known
}

// maxKnown bounds the pieces of one parcel that brings no content.
const maxKnown = 4096

// knownFile is a file that need not be read.
type knownFile struct {
	file
	before *before
}

// flushKnown emits the digests of the files that need not be read.
func (w *walker) flushKnown(ctx context.Context) error {
	if len(w.known) == 0 {
		return nil
	}
	p := newParcel(func(context.Context, *packer, *parcel) error { return nil })
	for _, f := range w.known { // here, since what is known is for one goroutine
		p.sums = append(p.sums, frame.FileDigest{Entry: f.number, Size: uint64(f.entry.Size), Sum: f.before.digest.Sum})
		p.files++
		p.bytes += f.entry.Size
		if err := f.before.copyNodes(w.nodes, f.number, f.entry.Size); err != nil {
			return err
		}
	}
	w.known = nil
	return w.emit(ctx, p)
}

// copyNodes keeps what is known of a whole file's pieces for the next attempt.
func (b *before) copyNodes(to *manifest.Nodes, number uint64, size int64) error {
	pieces := digest.Pieces(size)
	if pieces < 2 {
		return nil
	}
	if err := to.Reserve(number, pieces); err != nil {
		return err
	}
	for p := range pieces {
		if node, ok := b.node(p); ok {
			if err := to.Set(number, p, node); err != nil {
				return err
			}
		}
	}
	return nil
}

// knownPieces makes the parcel of pieces that need not be read.
func knownPieces(l *largeFile, b *before, at, end uint64) *parcel {
	p := newParcel(func(context.Context, *packer, *parcel) error { return nil })
	for i := at; i < end; i++ {
		node, _ := b.node(i)
		length := pieceLength(l.entry.Size, i)
		p.nodes = append(p.nodes, placedNode{index: i, length: int(length), value: &node})
		p.bytes += length
	}
	return p
}

// beyond returns the extents that reach beyond an offset.
func beyond(list []extent, off int64) []extent {
	return slices.DeleteFunc(list, func(x extent) bool { return x.off+x.length <= off })
}

func (v *proven) close() {
	for _, a := range v.attempts {
		_ = errors.Join(a.lookup.Close(), a.nodes.Close(), a.spool.Close()) // they were only read
	}
	v.attempts = nil
}

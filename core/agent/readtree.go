package agent

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// Sizes of what is gathered before it is sent. An entry goes before its
// content, and a thousand small files cost one frame.
const (
	entriesBatch = 256 << 10
	maxBatch     = 1024                 // small files in one frame
	smallFile    = digest.PieceSize / 2 // larger ones get frames of their own
)

// walker reads a tree into parcels.
type walker struct {
	src   *tree.Source
	spool *manifest.Spool
	emit  func(context.Context, *parcel) error
	meter *meter
	reads *contentReader

	next    uint64           // number of the next entry
	first   uint64           // number of the first entry in batch
	batch   []byte           // encoded entries not yet emitted
	idents  []manifest.Ident // theirs
	small   []file           // small files whose content is not yet emitted
	smallSz int

	proven *proven         // by earlier attempts
	known  []knownFile     // files that need not be read, not yet emitted
	nodes  *manifest.Nodes // where those of theirs go
}

// file is a regular file to be read, as the walk saw it.
type file struct {
	number uint64
	entry  manifest.Entry
	ident  manifest.Ident
}

// largeFile is a file of several parcels. The sender owns the tree of its
// nodes; the last parcel closes the file.
type largeFile struct {
	file
	f     *os.File
	tree  *digest.Tree
	kept  bool       // there is room for its nodes
	ahead *lookahead // nil: nobody has asked ahead
}

// walk emits all parcels of the tree.
func (w *walker) walk(ctx context.Context) error {
	if err := w.src.Walk(ctx, func(e manifest.Entry, id manifest.Ident) error { return w.visit(ctx, e, id) }); err != nil {
		return err
	}
	return w.flush(ctx)
}

func (w *walker) visit(ctx context.Context, e manifest.Entry, id manifest.Ident) error {
	var err error
	if w.batch, err = manifest.AppendEntry(w.batch, &e); err != nil {
		return err
	}
	w.idents = append(w.idents, id)
	number := w.next
	w.next++
	w.meter.entries.Add(1)
	if e.Type == sdk.FileRegular {
		w.meter.files.Add(1)
	}
	if e.Type == sdk.FileRegular && e.HardLink == 0 {
		f := file{number, e, id}
		b := w.proven.find(&e, id)
		switch {
		case b.whole(e.Size):
			w.known = append(w.known, knownFile{f, b})
		case e.Size > smallFile:
			if err := w.flush(ctx); err != nil {
				return err
			}
			return w.large(ctx, f, b)
		default:
			w.small = append(w.small, f)
			w.smallSz += int(e.Size)
		}
	}
	if len(w.known) >= maxBatch || w.smallSz > digest.PieceSize-smallFile || len(w.small) >= maxBatch || len(w.batch) >= entriesBatch {
		return w.flush(ctx)
	}
	return nil
}

// flush emits the gathered entries and then the content of the small files
// among them.
func (w *walker) flush(ctx context.Context) error {
	if len(w.batch) > 0 {
		batch := w.batch
		first, n, err := w.spool.Append(batch)
		if err != nil {
			return err
		}
		for i, id := range w.idents {
			if err := w.spool.SetIdent(first+uint64(i), id); err != nil {
				return err
			}
		}
		w.batch, w.first, w.idents = nil, w.next, w.idents[:0]
		extent := frame.Extent{Entry: first, Offset: uint64(n), Length: uint64(len(batch))}
		if err := w.emit(ctx, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
			return k.into(ctx, p, frame.TypeEntries, []frame.Extent{extent}, batch, nil)
		})); err != nil {
			return err
		}
	}
	if err := w.flushKnown(ctx); err != nil || len(w.small) == 0 {
		return err
	}
	files, src := w.small, w.src
	w.small, w.smallSz = nil, 0
	return w.emit(ctx, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
		return readSmall(ctx, k, p, src, files)
	}))
}

// readSmall reads whole files into one frame, and one more for those that are
// nothing but a hole.
func readSmall(ctx context.Context, k *packer, p *parcel, src *tree.Source, files []file) error {
	raw := k.raw()
	defer k.giveBack(raw)
	all := gathered{content: raw[:0]}
	if err := readAll(ctx, k, p, src, files, &all); err != nil {
		return err
	}
	for _, part := range []struct {
		t       frame.Type
		extents []frame.Extent
		content []byte
		nodes   []digest.Node
	}{{frame.TypeData, all.extents, all.content, all.nodes}, {frame.TypeHole, all.holes, nil, nil}} {
		if len(part.extents) == 0 {
			continue
		}
		if err := k.into(ctx, p, part.t, part.extents, part.content, part.nodes); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads the files one after the other. All of it counts as reading: a
// watch for each of them would cost more than it tells.
func readAll(ctx context.Context, k *packer, p *parcel, src *tree.Source, files []file, all *gathered) error {
	k.reading.Start()
	defer k.reading.Stop()
	for _, f := range files {
		size := int(f.entry.Size)
		b := all.room(size)
		data, err := readWhole(ctx, k, src, f, b)
		if err != nil {
			return err
		}
		var node *digest.Node
		if k.digests {
			n := digest.Piece(0, b)
			node = &n
			p.sums = append(p.sums, frame.FileDigest{Entry: f.number, Size: uint64(size), Sum: n.Root()})
		}
		all.add(f.number, b, data, node)
		p.files++
		p.bytes += int64(size)
	}
	return nil
}

// readWhole reads a small file and makes sure that it is still the one that
// the walk saw, before and after. It returns what of it is data; nil for all.
func readWhole(ctx context.Context, k *packer, src *tree.Source, f file, b []byte) ([]extent, error) {
	fd, now, err := src.Open(&f.entry)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	if !now.Same(f.ident) {
		return nil, changed(f.entry.Path, "between listing and reading")
	}
	if err := k.reads.at(ctx, fd, f.ident.Dev, f.entry.Path, b, 0); err != nil {
		return nil, err
	}
	sparse, err := still(fd, f)
	if err != nil || !sparse {
		return nil, err
	}
	return dataOf(fd, b)
}

// unchanged fails if an open file is not as the walk saw it.
func unchanged(fd *os.File, f file) error {
	_, err := still(fd, f)
	return err
}

// still is unchanged, and tells whether the file takes less room than its
// size, so that it may have holes.
func still(fd *os.File, f file) (sparse bool, err error) {
	var st unix.Stat_t
	now, err := statOf(fd, &st)
	if err != nil {
		return false, err
	}
	if !now.Same(f.ident) {
		return false, changed(f.entry.Path, "size or times differ after reading")
	}
	return st.Blocks*512 < st.Size, nil
}

func identOf(f *os.File) (manifest.Ident, error) {
	var st unix.Stat_t
	return statOf(f, &st)
}

func statOf(f *os.File, st *unix.Stat_t) (manifest.Ident, error) {
	if err := unix.Fstat(int(f.Fd()), st); err != nil {
		return manifest.Ident{}, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return manifest.Ident{Dev: uint64(st.Dev), Ino: st.Ino, Size: st.Size,
		MTimeSec: st.Mtim.Sec, MTimeNsec: uint32(st.Mtim.Nsec), CTimeSec: st.Ctim.Sec, CTimeNsec: uint32(st.Ctim.Nsec)}, nil
}

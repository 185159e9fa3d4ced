package agent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// reread reads what one need-list asks for into parcels. A file that is not
// what it was in pass 1 is never sent a second time: not by its identity, and
// not by the digests of what was read.
type reread struct {
	read    *reading
	digests bool
	need    note

	emit  func(context.Context, *parcel) error
	small []file // small files whose content is not yet emitted
	size  int
}

// run emits all of the need-list, in order: nodes, ranges, entries.
func (r *reread) run(ctx context.Context, emit func(context.Context, *parcel) error) error {
	r.emit = emit
	for _, entry := range r.need.Pieces {
		if err := r.nodes(ctx, entry); err != nil {
			return err
		}
	}
	for need := r.need.Need; len(need) > 0; {
		n := 1
		for n < len(need) && need[n].Entry == need[0].Entry {
			n++
		}
		f, err := r.file(need[0].Entry)
		if err == nil {
			err = r.again(ctx, f, need[:n])
		}
		if err != nil {
			return err
		}
		need = need[n:]
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	if r.need.EntriesFrom == nil {
		return nil
	}
	return r.entries(ctx, *r.need.EntriesFrom)
}

// file is an entry as pass 1 saw it.
func (r *reread) file(number uint64) (file, error) {
	e, err := r.read.spool.Entry(number)
	if err != nil {
		return file{}, err
	}
	id, err := r.read.spool.Ident(number)
	return file{number, e, id}, err
}

// again emits ranges of one file.
func (r *reread) again(ctx context.Context, f file, need []frame.NeedRange) error {
	wanted := uint64(0)
	for _, x := range need {
		wanted += x.Count
	}
	switch {
	case wanted == 0:
		return r.emit(ctx, newParcel(func(_ context.Context, _ *packer, p *parcel) error { return r.told(p, f.number) }))
	case f.entry.Size > smallFile:
		if err := r.flush(ctx); err != nil { // in order
			return err
		}
		return r.large(ctx, f, need)
	}
	if r.size+int(f.entry.Size) > digest.PieceSize || len(r.small) >= maxBatch {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.small = append(r.small, f)
	r.size += int(f.entry.Size)
	return nil
}

// flush emits the small files gathered.
func (r *reread) flush(ctx context.Context) error {
	if len(r.small) == 0 {
		return nil
	}
	files := r.small
	r.small, r.size = nil, 0
	return r.emit(ctx, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
		if err := readSmall(ctx, k, p, r.read.in.src, files); err != nil {
			return gone(err)
		}
		p.files, p.bytes = 0, 0 // counted in pass 1
		for i, sum := range p.sums {
			d, err := r.read.spool.Digest(sum.Entry)
			if err != nil {
				return err
			}
			if d.State != manifest.DigestOK || d.Sum != sum.Sum {
				return misread(files[i].entry.Path)
			}
		}
		return nil
	}))
}

// gone calls a file that is no more a changed one.
func gone(err error) error {
	if !errors.Is(err, sdk.ErrNotFound) {
		return err
	}
	e := *sdk.AsError(err)
	e.Kind, e.Message = sdk.KindChanged, "a source file has gone since it was read first: "+e.Message
	return &e
}

// misread says that a file which nobody has changed, as far as its times tell,
// gave other bytes than before.
func misread(path sdk.Raw) error {
	return &sdk.Error{Kind: sdk.KindIntegrity, Message: "source file " + path.Display() + " was read twice, and gave other bytes the second time, though it was not changed",
		Hint: "check the memory and the disk of the source host"}
}

// told adds an entry's digest, as pass 1 found it, to a parcel.
func (r *reread) told(p *parcel, number uint64) error {
	if !r.digests {
		return nil
	}
	d, err := r.read.spool.Digest(number)
	if err == nil && d.State == manifest.DigestOK {
		p.sums = append(p.sums, frame.FileDigest{Entry: number, Size: uint64(d.Size), Sum: d.Sum})
	}
	return err
}

// large emits ranges of a larger file, and waits until they are read.
func (r *reread) large(ctx context.Context, f file, need []frame.NeedRange) (err error) {
	fd, now, err := r.read.in.src.Open(&f.entry)
	if err != nil {
		return gone(err)
	}
	defer fd.Close()
	if !now.Same(f.ident) {
		return changed(f.entry.Path, "since it was read first")
	}
	l := &largeFile{file: f, f: fd}
	var parcels []*parcel
	// Whoever fills them may still read: the file stays open until they have.
	defer func() {
		for _, p := range parcels {
			<-p.done
		}
	}()
	emit := func(fill func(context.Context, *packer, *parcel) error) error {
		p := newParcel(fill)
		if err := r.emit(ctx, p); err != nil {
			return err
		}
		parcels = append(parcels, p)
		if len(parcels) > 2*repairParcels { // the oldest were sent long ago
			<-parcels[0].done
			parcels = parcels[1:]
		}
		return nil
	}
	for _, x := range need {
		for next := x.Piece; next < x.Piece+x.Count; {
			at := next
			n, err := r.holes(l, at, x.Piece+x.Count)
			if err != nil {
				return err
			}
			if err := emit(func(ctx context.Context, k *packer, p *parcel) error { return r.fill(ctx, k, p, l, at, n) }); err != nil {
				return err
			}
			next += max(n, 1)
		}
	}
	for _, p := range parcels {
		<-p.done
	}
	if err := unchanged(fd, f); err != nil {
		return err
	}
	return emit(func(_ context.Context, _ *packer, p *parcel) error { return r.told(p, f.number) })
}

// holes is how many pieces from at on are nothing but a hole.
func (r *reread) holes(l *largeFile, at, end uint64) (uint64, error) {
	end = min(end, at+maxHole)
	from, until := int64(at)*digest.PieceSize, min(int64(end)*digest.PieceSize, l.entry.Size)
	data, err := unix.Seek(int(l.f.Fd()), from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO) || err == nil && data >= until:
		return end - at, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP): // it knows no holes
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("find holes of %s: %w", l.entry.Path.Display(), err)
	}
	return uint64(data-from) / digest.PieceSize, nil
}

// fill reads piece at, or tells that holes pieces from it on are none, and
// makes sure that they are what they were in pass 1.
func (r *reread) fill(ctx context.Context, k *packer, p *parcel, l *largeFile, at, holes uint64) error {
	if err := r.fillPiece(ctx, k, p, l, at, holes); err != nil {
		return err
	}
	nodes := p.nodes
	p.nodes, p.bytes = nil, 0
	if !r.digests {
		return nil
	}
	for _, n := range nodes {
		same, err := r.same(l, n)
		if err != nil {
			return err
		}
		if !same {
			return misread(l.entry.Path)
		}
	}
	return nil
}

func (r *reread) fillPiece(ctx context.Context, k *packer, p *parcel, l *largeFile, at, holes uint64) error {
	if holes > 0 {
		return readHole(ctx, k, p, l, at, holes)
	}
	from := int64(at) * digest.PieceSize
	length := min(digest.PieceSize, l.entry.Size-from)
	data, err := dataIn(l.f, from, from+length)
	if err != nil {
		return err
	}
	if len(data) == 1 && data[0].length == length {
		return readPiece(ctx, k, p, l, at, int(length))
	}
	return readSparse(ctx, k, p, l, at, int(length), data)
}

// dataIn returns what of a range is data; all of it where that would be
// nothing: a hole that came since is none.
func dataIn(f *os.File, from, end int64) ([]extent, error) {
	var data []extent
	err := tree.ExtentsIn(f, from, end, func(off, length int64, hole bool) error {
		if !hole {
			data = append(data, extent{off, length})
		}
		return nil
	})
	if len(data) == 0 {
		data = []extent{{from, end - from}}
	}
	return data, err
}

// same reports whether a piece is what it was in pass 1.
func (r *reread) same(l *largeFile, n placedNode) (bool, error) {
	if digest.Pieces(l.entry.Size) == 1 {
		d, err := r.read.spool.Digest(l.number)
		return d.State == manifest.DigestOK && digest.Sum(d.Sum) == n.node.Root(), err
	}
	was, ok, err := r.read.nodes.Get(l.number, n.index)
	return ok && digest.Sum(was) == n.node.Value(), err
}

// nodes emits the nodes of a larger file's pieces.
func (r *reread) nodes(ctx context.Context, number uint64) error {
	e, err := r.read.spool.Entry(number)
	if err != nil {
		return err
	}
	pieces := digest.Pieces(e.Size)
	for at := uint64(0); at < pieces; at += frame.MaxPieces {
		n := min(pieces-at, frame.MaxPieces)
		if err := r.emit(ctx, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
			return r.nodesFrame(ctx, k, p, number, at, n)
		})); err != nil {
			return err
		}
	}
	return nil
}

func (r *reread) nodesFrame(ctx context.Context, k *packer, p *parcel, number, at, n uint64) error {
	list := frame.Pieces{Entry: number, First: at}
	for i := range n {
		node, ok, err := r.read.nodes.Get(number, at+i)
		if err == nil && !ok {
			err = fmt.Errorf("the node of piece %d of entry %d was not kept", at+i, number)
		}
		if err != nil {
			return err
		}
		list.Nodes = append(list.Nodes, node)
	}
	return k.plain(ctx, p, frame.TypePieces, list.Append(nil))
}

// entries emits all entries from one on, and what they contain.
func (r *reread) entries(ctx context.Context, from uint64) error {
	var batch []byte
	var files []file
	first := from
	flush := func() error {
		if err := r.batch(ctx, first, batch, files); err != nil {
			return err
		}
		first, batch, files = 0, nil, nil
		return nil
	}
	err := r.read.spool.Records(ctx, from, func(n uint64, record []byte) error {
		e, _, err := manifest.DecodeEntry(record)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			first = n
		}
		batch = append(batch, record...)
		if manifest.HasContent(&e) {
			f, err := r.file(n)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		if len(batch) >= entriesBatch {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// batch emits some entries and what they contain.
func (r *reread) batch(ctx context.Context, first uint64, records []byte, files []file) error {
	if len(records) == 0 {
		return nil
	}
	count := uint64(0)
	for rest := records; len(rest) > 0; count++ {
		var err error
		if _, rest, err = manifest.DecodeEntry(rest); err != nil {
			return err
		}
	}
	extent := frame.Extent{Entry: first, Offset: count, Length: uint64(len(records))}
	if err := r.emit(ctx, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
		return k.into(ctx, p, frame.TypeEntries, []frame.Extent{extent}, records, nil)
	})); err != nil {
		return err
	}
	for _, f := range files {
		// An empty file needs its digest all the same.
		all := frame.NeedRange{Entry: f.number, Count: digest.Pieces(f.entry.Size)}
		if err := r.again(ctx, f, []frame.NeedRange{all}); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

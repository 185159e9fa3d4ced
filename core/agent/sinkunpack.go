package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/core/agent/unpack"
	"github.com/transferpy/transferpy/sdk"
)

// archive is the end of a stream that is unpacked as it comes.
type archive struct {
	t    *target
	in   *queue
	u    *unpack.Unpacker
	done chan struct{} // closed when the unpacking has ended
	err  error         // why, if it failed; set before done is closed
}

// newArchive starts to unpack into the staging directory what is written to
// in. Whoever made it calls stop in the end.
func newArchive(ctx context.Context, t *target, st *staging.Staging, disk tree.SinkOptions) (*archive, error) {
	stage := t.chain.plan.Write
	o := unpack.Options{Sink: disk, Digests: t.chain.digests()}
	if how := stage.Unpack; how != nil {
		o.Strip, o.OutsideLinks = how.Strip, how.OutsideLinks
		for _, name := range how.Proof {
			o.Proof = append(o.Proof, string(name))
		}
		if how.ProofLine != "" {
			var err error
			if o.ProofLine, err = regexp.Compile(how.ProofLine); err != nil {
				return nil, &sdk.Error{Kind: sdk.KindConfig, Message: "proof_line is no regular expression: " + err.Error()}
			}
		}
	}
	u, err := unpack.New(st.Data(), st.MetaPath(), o)
	if err != nil {
		return nil, err
	}
	a := &archive{t: t, in: newQueue(ctx), u: u, done: make(chan struct{})}
	run := func() error { return u.Tar(ctx, a.in) }
	if stage.Builtin == sdk.BuiltinUnpackXbstream {
		run = func() error { return u.Xbstream(ctx, a.in) }
	}
	go func() { // stop waits for it
		defer close(a.done)
		a.err = run()
		a.in.Close()
	}()
	return a, nil
}

// wait waits until all that was written is unpacked, or nothing more is.
func (a *archive) wait() error {
	<-a.done
	a.t.meter.files.Store(a.u.Files())
	return a.err
}

// stop ends the unpacking wherever it is.
func (a *archive) stop() {
	a.in.Close()
	<-a.done
	a.u.Close()
}

// verify proves what was unpacked: to the disk, back from the disk (if asked
// for) and compared with what was written, then its attributes.
func (a *archive) verify(ctx context.Context, st *staging.Staging) error {
	if err := st.Sync(); err != nil {
		return err
	}
	if a.t.chain.plan.Settings.Verify == control.VerifyReadBack {
		if inMemory, name := cacheOnly(st.Data()); inMemory {
			a.t.meter.warn(control.Warning{What: "the read-back came from memory: " + name + " keeps its files nowhere else", Count: 1, Example: a.t.member.Destination.Dir})
		}
		if err := a.readBack(ctx); err != nil {
			return err
		}
	}
	if err := a.u.Finish(ctx); err != nil {
		return err
	}
	a.t.meter.warn(a.u.Warnings()...)
	return st.Sync()
}

// unpackedFile is one that is to be read back.
type unpackedFile struct {
	entry *manifest.Entry
	sum   digest.Sum
}

// readBack reads every file from the disk and compares it.
func (a *archive) readBack(ctx context.Context) error {
	a.t.meter.startDisk()
	defer a.t.meter.stopDisk()
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan unpackedFile, 16)
	for range workers() {
		group.Go(func() error {
			buf := alignedMemory(digest.PieceSize)
			for f := range work {
				if err := a.compare(ctx, f, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		return a.u.Each(ctx, func(e *manifest.Entry, sum [32]byte) error {
			select {
			case work <- unpackedFile{e, sum}:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	return group.Wait()
}

// compare reads one file back. What differs cannot be had again: a stream has
// gone by.
func (a *archive) compare(ctx context.Context, want unpackedFile, buf []byte) error {
	e := want.entry
	f, err := openUncached(a.u.Disk(), e)
	if err != nil {
		return err
	}
	defer f.close()
	sums := digest.NewTree()
	for p := range digest.Pieces(e.Size) {
		off := int64(p) * digest.PieceSize
		b := buf[:min(digest.PieceSize, e.Size-off)]
		if err := f.read(b, off); err == io.ErrUnexpectedEOF {
			return differs(e.Path, "")
		} else if err != nil {
			return cannotReadBack(e.Path, err)
		}
		sums.Add(p, digest.Piece(p, b), len(b))
		a.t.meter.checked.Add(int64(len(b)))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	sum, err := sums.Sum(e.Size)
	if err == nil && sum != want.sum {
		err = differs(e.Path, "")
	}
	return err
}

// Bounds of a queue: what waits to be unpacked.
const queuePieces = 8

// queue hands a stream from who takes it to who unpacks it, a few pieces ahead
// so that both work at once. One goroutine writes and ends, another reads;
// anyone closes.
type queue struct {
	ctx    context.Context
	free   chan []byte
	full   chan []byte
	closed chan struct{}
	once   sync.Once

	now  []byte // what is left of the piece that is being read
	back []byte // that piece
}

func newQueue(ctx context.Context) *queue {
	q := &queue{ctx: ctx, free: make(chan []byte, queuePieces), full: make(chan []byte, queuePieces), closed: make(chan struct{})}
	for range queuePieces {
		q.free <- nil
	}
	return q
}

// Write copies b, a piece at most, into the queue. It fails when nobody reads
// any more.
func (q *queue) Write(b []byte) (int, error) {
	if len(b) > digest.PieceSize {
		return 0, fmt.Errorf("%d bytes of a stream at once", len(b))
	}
	select {
	case piece := <-q.free:
		if piece == nil {
			piece = make([]byte, digest.PieceSize)
		}
		q.full <- piece[:copy(piece[:digest.PieceSize], b)] // there is room for all of them
		return len(b), nil
	case <-q.closed:
		return 0, os.ErrClosed
	case <-q.ctx.Done():
		return 0, context.Cause(q.ctx)
	}
}

// end says that all is written.
func (q *queue) end() { close(q.full) }

// Read reads up to the end. It fails when the queue is closed before it.
func (q *queue) Read(b []byte) (int, error) {
	if len(q.now) == 0 {
		if q.back != nil {
			q.free <- q.back
			q.back = nil
		}
		select {
		case piece, ok := <-q.full:
			if !ok {
				return 0, io.EOF
			}
			q.now, q.back = piece, piece
		case <-q.closed:
			return 0, os.ErrClosed
		case <-q.ctx.Done():
			return 0, context.Cause(q.ctx)
		}
	}
	n := copy(b, q.now)
	q.now = q.now[n:]
	return n, nil
}

// Close ends both sides at once.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// archiveInput is the writing side of an archive, as a stream's sink has it:
// closing it says that the data is complete.
type archiveInput struct {
	*queue
	once sync.Once
}

func (a *archiveInput) Close() error {
	a.once.Do(a.queue.end)
	return nil
}

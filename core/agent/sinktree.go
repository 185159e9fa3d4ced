package agent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/core/agent/tree"
)

// newSink makes the sink that the plan asks for.
func (t *target) newSink(ctx context.Context) (sink, error) {
	t.mu.Lock()
	st := t.staging
	t.mu.Unlock()
	spool, err := manifest.Create(st.MetaPath(), t.chain.header(t.job.cfg.Transfer))
	if err != nil {
		return nil, err
	}
	if t.chain.stream() {
		return newStreamSink(ctx, t, st, spool)
	}
	return newTreeSink(ctx, t, st, spool)
}

// arrival is a frame that was taken and is being worked on.
type arrival struct {
	relay.Packet
	claim claim
	sum   frame.Digest
	done  chan struct{} // closed when sum is known
}

// drop gives the frame back. What the check of its segment needs stays; the
// frame must not, since a segment of many small frames would hold the memory of
// all of them, which the budget counts as free.
func (a *arrival) drop() {
	a.Release()
	a.Packet = relay.Packet{}
}

// treeSink writes a tree. Frames may be written before their segment's
// signature is checked, since nothing of the staging directory is published
// before all of them are.
type treeSink struct {
	t       *target
	disk    *tree.Sink
	staging *staging.Staging
	spool   *manifest.Spool
	files   *files

	group    *errgroup.Group
	ctx      context.Context
	work     chan *arrival
	segments chan segment
	closing  sync.Once

	open    []*arrival // of the segment under way
	failed  error      // what it says of the source; nothing before its signature held
	end     *frame.PassEnd
	over    bool // pass 1 is
	kept    *inherited
	saver   saver
	pending atomic.Int64  // content that was taken and is not used yet
	drained chan struct{} // it has become none
	short   bool          // pass 1 was cut before its end
}

// segment is one whose end has arrived.
type segment struct {
	frames  []*arrival
	end     relay.Packet
	failed  error         // of the source, as it says; nil: it says nothing of the kind
	checked chan struct{} // closed when its signature held
}

func newTreeSink(ctx context.Context, t *target, st *staging.Staging, spool *manifest.Spool) (*treeSink, error) {
	disk, err := tree.NewSink(st.Data(), t.sinkOptions())
	if err != nil {
		spool.Close()
		return nil, err
	}
	s := &treeSink{t: t, disk: disk, staging: st, spool: spool, kept: t.kept, drained: make(chan struct{}, 1), work: make(chan *arrival, 8), segments: make(chan segment, 4)}
	inMemory, name := cacheOnly(st.Data())
	s.files = newFiles(disk, t.meter, t.chain.plan.Settings.Verify, inMemory)
	if s.files.proof == proveNow {
		t.meter.warn(control.Warning{What: "the read-back came from memory: " + name + " keeps its files nowhere else", Count: 1, Example: t.member.Destination.Dir})
	}
	s.saver = saver{every: t.job.checkpoints(), save: s.save, log: t.job.cfg.Log, last: time.Now()}
	t.job.reached(pointOpened, s)
	s.group, s.ctx = errgroup.WithContext(ctx)
	for range workers() {
		s.group.Go(s.worker)
	}
	s.group.Go(s.checker)
	return s, nil
}

func (s *treeSink) working() context.Context { return s.ctx }

func (s *treeSink) take(ctx context.Context, p relay.Packet) error {
	if s.ctx.Err() != nil {
		p.Release()
		return context.Cause(s.ctx)
	}
	if p.Type == frame.TypeGap {
		return s.gap(p)
	}
	if p.Type == frame.TypeSegmentEnd {
		seg := segment{s.open, p, s.failed, make(chan struct{})}
		s.open, s.failed = nil, nil
		select {
		case s.segments <- seg:
			return s.checkpoint(seg)
		case <-s.ctx.Done():
			p.Release()
			return context.Cause(s.ctx)
		}
	}
	a := &arrival{Packet: p, claim: claimOf(p.Frame), done: make(chan struct{})}
	s.open = append(s.open, a)
	if len(s.open) > frame.MaxSegmentFrames {
		p.Release()
		return s.t.broken("a segment without an end")
	}
	if a.claim.content {
		s.pending.Add(1)
		select {
		case s.work <- a:
			return nil
		case <-s.ctx.Done():
			s.used()
			p.Release()
			return context.Cause(s.ctx)
		}
	}
	// Entries and the like are done here, in order: content refers to them.
	defer a.drop()
	a.sum, _ = frameSum(p.Frame, false)
	close(a.done)
	switch p.Type {
	case frame.TypeEntries:
		s.t.meter.startDisk()
		defer s.t.meter.stopDisk()
		return s.entries(p.Frame)
	case frame.TypeDigests:
		return s.digests(p.Frame)
	case frame.TypePassEnd:
		end, err := frame.ParsePassEnd(p.Payload())
		s.end = &end
		return err
	case frame.TypeFailure:
		s.failed = s.t.sourceFailure(p.Frame)
		return nil
	}
	return s.t.broken(fmt.Sprintf("a frame of type %d", p.Type))
}

// worker hashes, decompresses, writes and reads back content.
func (s *treeSink) worker() error {
	var scratch []byte
	back := alignedMemory(digest.PieceSize)
	for a := range s.work {
		var err error
		if scratch, err = s.content(a, scratch, back); err != nil {
			return err
		}
		if err := s.proveAhead(windowBytes, back); err != nil {
			return err
		}
	}
	return s.proveAhead(0, back)
}

// proveAhead reads back what lies behind the window; above 0, all.
func (s *treeSink) proveAhead(above int, back []byte) error {
	if !s.files.spare {
		return nil
	}
	s.t.meter.startDisk()
	defer s.t.meter.stopDisk()
	return s.files.proveAhead(above, back)
}

// content uses one frame of content; scratch is memory for what it decodes to,
// back for what is read back.
func (s *treeSink) content(a *arrival, scratch, back []byte) ([]byte, error) {
	defer s.used()
	defer a.drop()
	s.t.meter.busy.Start()
	defer s.t.meter.busy.Stop()
	sum, nodes := frameSum(a.Frame, s.t.chain.digests())
	a.sum = sum
	close(a.done)
	content, err := codec.Decompress(codec.ID(a.Codec), scratch, a.Payload(), a.Decoded)
	if a.Codec != 0 {
		scratch = content
	}
	if err != nil {
		return scratch, s.t.undecodable(err, a.claim, s.spool)
	}
	s.t.meter.disk.Start()
	defer s.t.meter.disk.Stop()
	if a.Type == frame.TypeHole {
		return scratch, s.files.hole(a.Frame, back)
	}
	return scratch, s.files.write(a.Frame, content, nodes, back)
}

// checker checks the signature of each segment, in order.
func (s *treeSink) checker() error {
	check := s.t.newChecker()
	for seg := range s.segments {
		err := s.check(check, seg)
		seg.end.Release()
		if err == nil {
			err = seg.failed
		}
		if err != nil {
			return err
		}
		close(seg.checked)
	}
	return nil
}

func (s *treeSink) check(c *frame.Checker, seg segment) error {
	if seg.end.Type == frame.TypeGap {
		return s.checkGap(c, seg.end)
	}
	sums, claims := make([]frame.Digest, len(seg.frames)), make([]claim, len(seg.frames))
	for i, a := range seg.frames {
		select {
		case <-a.done:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		sums[i], claims[i] = a.sum, a.claim
	}
	if err := c.Check(seg.end.Frame, sums); err != nil {
		return s.t.altered(err, claims, s.spool)
	}
	return nil
}

// used books that a frame's content was used, or given up.
func (s *treeSink) used() {
	if s.pending.Add(-1) == 0 {
		select {
		case s.drained <- struct{}{}:
		default:
		}
	}
}

// checkpoint begins one, if it is due, at the end of a segment: when all that
// was taken is used, and the signature over it held.
func (s *treeSink) checkpoint(seg segment) error {
	if !s.saver.due() {
		return nil
	}
	if err := s.idle(); err != nil {
		return err
	}
	select {
	case <-seg.checked:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	s.saver.begin(s.spool.Len(), s.files.partials())
	return nil
}

// idle waits until all that was taken is used.
func (s *treeSink) idle() error {
	for s.pending.Load() > 0 {
		select {
		case <-s.drained:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	return nil
}

// save brings all that was written to the disk, and then writes a checkpoint
// of what there was before.
func (s *treeSink) save(entries uint64, files []partial) error {
	if err := s.spool.Sync(); err != nil {
		return err
	}
	if err := s.staging.Sync(); err != nil {
		return err
	}
	return saveCheckpoint(s.staging.MetaPath(), entries, files)
}

// passed is called when pass 1 is over, and again after each repair pass: all
// that is there was signed. Where pass 1 was cut it is not called before nothing
// is missing, since repair passes bring entries for which what earlier attempts
// have left is of use; after that it is of none.
func (s *treeSink) passed() error {
	if !s.over || s.saver.due() {
		s.saver.wait()
		s.saver.begin(s.spool.Len(), s.files.partials())
	}
	s.over = true
	if len(s.kept.attempts) == 0 {
		return nil
	}
	s.saver.wait()
	if s.over { // what came since was used only when its signature held
		s.saver.begin(s.spool.Len(), s.files.partials())
		s.saver.wait()
	}
	return s.staging.DropKept()
}

// finish ends the workers and the checker and returns their first error.
func (s *treeSink) finish() error {
	s.closing.Do(func() { close(s.work); close(s.segments) })
	return s.group.Wait()
}

func (s *treeSink) missing(ctx context.Context) ([]frame.NeedRange, error) {
	if err := s.finish(); err != nil {
		return nil, err
	}
	s.t.job.reached(pointPassed, s)
	if err := s.entriesEnd(); err != nil {
		return nil, err
	}
	lack := s.files.missing(maxNeed + 1)
	if !s.short || !s.t.chain.digests() {
		return lack, nil
	}
	return s.undigested(ctx, lack)
}

func (s *treeSink) close() {
	_ = s.finish()
	s.saver.wait()
	s.kept.close()
	for a := range s.work { // what no worker took
		a.Release()
	}
	for seg := range s.segments {
		seg.end.Release()
	}
	s.files.close()
	s.disk.Close()
	s.spool.Close()
}

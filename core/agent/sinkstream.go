package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/process"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/sdk"
)

// heldOfStream is what a segment of a stream may hold: what the source keeps to,
// and the frame that was one too many. It leaves room in the budget for what
// comes next, so that one without an end is noticed.
const heldOfStream = frame.OrderedSegmentBytes + 2*frame.MaxPayload

// streamSink feeds a command, or a file, in order. It gets a segment only
// after its signature held, so nothing altered ever reaches a command.
type streamSink struct {
	t       *target
	staging *staging.Staging
	spool   *manifest.Spool
	check   *frame.Checker

	ctx  context.Context
	out  io.WriteCloser
	wait func() error // whether the command did its work; after out was closed
	stop func()
	arch *archive // nil: it is not unpacked

	held []relay.Packet // the open segment
	size int            // of held
	at   int64          // position in the stream
	tree *digest.Tree   // of what was taken
	told *frame.FileDigest
	end  *frame.PassEnd
}

func newStreamSink(ctx context.Context, t *target, st *staging.Staging, spool *manifest.Spool) (*streamSink, error) {
	s := &streamSink{t: t, ctx: ctx, staging: st, spool: spool, check: t.newChecker(), tree: digest.NewTree()}
	if err := s.start(ctx); err != nil {
		spool.Close()
		return nil, err
	}
	return s, nil
}

// start starts the command, or makes the file.
func (s *streamSink) start(ctx context.Context) error {
	stage := s.t.chain.plan.Write
	if stage.Command != nil {
		p, err := process.StartSink(ctx, *stage.Command, s.staging.Path(), nil)
		if err != nil {
			return err
		}
		s.out, s.wait = p.Stdin(), p.Wait
		s.stop = func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
			defer cancel()
			p.Stop(ctx)
		}
		return nil
	}
	if stage.Builtin == sdk.BuiltinUnpackTar || stage.Builtin == sdk.BuiltinUnpackXbstream {
		return s.unpack(ctx)
	}
	if stage.Builtin != sdk.BuiltinFile {
		return &sdk.Error{Kind: sdk.KindUnsupported, Host: s.t.member.Host, Message: "this agent cannot write by " + stage.Builtin}
	}
	name := string(stage.Path)
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return &sdk.Error{Kind: sdk.KindInternal, Message: "the plan names no file to write: " + stage.Path.Display()}
	}
	root, err := os.OpenRoot(s.staging.Path())
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return cannotWrite(stage.Path, err)
	}
	s.out, s.wait, s.stop = f, func() error { return nil }, func() { f.Close() }
	return nil
}

// unpack starts to unpack what comes.
func (s *streamSink) unpack(ctx context.Context) error {
	a, err := newArchive(ctx, s.t, s.staging, s.t.sinkOptions())
	if err != nil {
		return err
	}
	s.arch, s.out, s.wait, s.stop = a, &archiveInput{queue: a.in}, a.wait, a.stop
	return nil
}

// working never ends of itself: all is done by take.
func (s *streamSink) working() context.Context { return s.ctx }

func (s *streamSink) take(ctx context.Context, p relay.Packet) error {
	if p.Type == frame.TypeGap {
		p.Release()
		return s.cut()
	}
	if p.Type != frame.TypeSegmentEnd {
		s.held, s.size = append(s.held, p), s.size+len(p.Wire())
		if len(s.held) > frame.OrderedSegmentFrames || s.size > heldOfStream {
			return s.t.broken("a segment without an end")
		}
		return nil
	}
	defer p.Release()
	defer s.release()
	s.t.meter.busy.Start()
	defer s.t.meter.busy.Stop()
	sums, claims := make([]frame.Digest, len(s.held)), make([]claim, len(s.held))
	nodes := make([][]digest.Node, len(s.held))
	for i, h := range s.held {
		sums[i], nodes[i] = frameSum(h.Frame, s.t.chain.digests())
		claims[i] = claimOf(h.Frame)
	}
	if err := s.check.Check(p.Frame, sums); err != nil {
		return s.t.altered(err, claims, s.spool)
	}
	for i, h := range s.held {
		if err := s.feed(h.Frame, nodes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *streamSink) release() {
	for _, h := range s.held {
		h.Release()
	}
	s.held, s.size = nil, 0
}

// feed uses one frame whose signature held.
func (s *streamSink) feed(f *frame.Frame, nodes []digest.Node) error {
	switch f.Type {
	case frame.TypeEntries:
		return s.entry(f)
	case frame.TypeData:
		return s.data(f, nodes)
	case frame.TypeDigests:
		list, err := frame.FileDigests(f.Payload())
		if err != nil || len(list) != 1 || list[0].Entry != 0 {
			return s.t.broken("a stream has one digest")
		}
		s.told = &list[0]
		return nil
	case frame.TypePassEnd:
		end, err := frame.ParsePassEnd(f.Payload())
		s.end = &end
		return err
	case frame.TypeFailure:
		return s.t.sourceFailure(f)
	}
	return s.t.broken(fmt.Sprintf("a frame of type %d in a stream", f.Type))
}

func (s *streamSink) entry(f *frame.Frame) error {
	records, err := codec.Decompress(codec.ID(f.Codec), nil, f.Payload(), f.Decoded)
	if err != nil {
		return s.t.broken(err.Error())
	}
	e, rest, err := manifest.DecodeEntry(records)
	if err != nil || len(rest) > 0 || !e.Stream || s.spool.Len() > 0 {
		return s.t.broken("a stream has one entry")
	}
	_, _, err = s.spool.Append(records)
	s.t.meter.entries.Add(1)
	return err
}

func (s *streamSink) data(f *frame.Frame, nodes []digest.Node) error {
	x := f.Extent(0)
	if f.Header.Extents != 1 || x.Entry != 0 || int64(x.Offset) != s.at || x.Offset%digest.PieceSize != 0 || x.Length > digest.PieceSize {
		return s.t.broken(fmt.Sprintf("offset %d of the stream came where %d was due", x.Offset, s.at))
	}
	content, err := codec.Decompress(codec.ID(f.Codec), nil, f.Payload(), f.Decoded)
	if err != nil {
		return s.t.broken(err.Error())
	}
	index := x.Offset / digest.PieceSize
	if nodes == nil && s.t.chain.digests() {
		nodes = []digest.Node{digest.Piece(index, content)}
	}
	if nodes != nil {
		s.tree.Add(index, nodes[0], len(content))
	}
	s.t.meter.disk.Start()
	_, err = io.Copy(s.out, bytes.NewReader(content))
	s.t.meter.disk.Stop()
	if err != nil {
		return s.broke(err)
	}
	s.at += int64(len(content))
	s.t.meter.bytes.Add(int64(len(content)))
	if s.arch != nil {
		s.t.meter.files.Store(s.arch.u.Files())
	}
	return nil
}

// broke prefers the command's own reason to the broken pipe that it left.
func (s *streamSink) broke(err error) error {
	if s.arch != nil {
		s.arch.in.Close()
		if werr := s.arch.wait(); werr != nil {
			return werr
		}
		return err
	}
	s.out.Close()
	if werr := s.wait(); werr != nil {
		return werr
	}
	return &sdk.Error{Kind: sdk.KindInternal, Host: s.t.member.Host,
		Message: "the command that writes stopped reading before the end of the data: " + err.Error(),
		Hint:    "it ended well by its own account; see what it makes of its input"}
}

// missing closes the stream and waits for the command: a stream that was cut
// has been refused before.
func (s *streamSink) missing(ctx context.Context) ([]frame.NeedRange, error) {
	if s.end == nil {
		return nil, s.t.broken("the stream has no end")
	}
	if s.end.Bytes != uint64(s.at) {
		return nil, s.t.broken(fmt.Sprintf("%d bytes of the stream came, the source sent %d", s.at, s.end.Bytes))
	}
	if f, ok := s.out.(*os.File); ok && s.t.chain.plan.Write.Command == nil {
		if err := f.Sync(); err != nil {
			return nil, err
		}
	}
	if err := s.out.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return nil, err
	}
	if err := s.wait(); err != nil {
		return nil, err
	}
	if s.arch == nil {
		s.t.meter.files.Add(1)
	}
	return nil, nil
}

// verify compares the digest of what was taken; a command's own doing cannot
// be read back, what was unpacked here can.
func (s *streamSink) verify(ctx context.Context) ([]suspect, error) {
	err := s.prove(ctx)
	switch {
	case err != nil:
		return nil, err
	case s.arch != nil:
		return nil, s.arch.verify(ctx, s.staging)
	}
	return nil, s.staging.Sync()
}

func (s *streamSink) prove(ctx context.Context) error {
	if s.t.chain.digests() {
		sum, err := s.tree.Sum(s.at)
		if err != nil {
			return err
		}
		if s.told == nil || s.told.Size != uint64(s.at) || s.told.Sum != sum {
			return differs("", "the stream")
		}
		if err := s.spool.SetDigest(0, manifest.Digest{Size: s.at, Sum: sum, State: manifest.DigestOK}); err != nil {
			return err
		}
	}
	if s.t.chain.plan.Settings.Verify == control.VerifyReadBack && s.arch == nil {
		s.t.meter.warn(control.Warning{What: "a stream cannot be read back: its digest was taken as it was written", Count: 1, Example: s.t.member.Destination.Dir})
	}
	root, err := s.spool.Root(ctx)
	if err != nil {
		return err
	}
	if root != s.end.Root {
		return differs("", "the stream's manifest")
	}
	s.t.meter.set(func(m *meter) { m.root = digest.Sum(root).String() })
	return s.spool.Sync()
}

func (s *streamSink) close() {
	s.release()
	s.out.Close()
	s.stop()
	s.spool.Close()
}
